"""Streams and messages: what is stored or sent, its bytes, and their exact count.

A message is a nested dictionary of streams (integers below ``levels``) and tensors (floats and integers as
they are). Packed it is a schema block (names, kinds, levels, coders) followed by a data block (counts and
content), so a message reads itself. Everything in both blocks counts towards the rate.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, Union, cast

import numpy as np
import torch
from torch import Tensor

from . import coders, packing
from .errors import PayloadError

Coder = Literal["fixed", "elias", "rans"]

_DTYPES = {
    1: torch.float32,
    2: torch.float16,
    3: torch.bfloat16,
    4: torch.float64,
    5: torch.int8,
    6: torch.uint8,
    7: torch.int16,
    8: torch.int32,
    9: torch.int64,
    10: torch.bool,
}
_DTYPE_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_CODERS: dict[int, Coder] = {32: "fixed", 33: "elias", 34: "rans"}
_CODER_CODES = {coder: code for code, coder in _CODERS.items()}
_NESTED = 0
_MAX_DEPTH = 16
_MAX_DIMENSIONS = 64
_INDIRECT = (torch.bool, torch.uint16, torch.uint32, torch.uint64)  # what torch finds no extremes of


@dataclass(frozen=True, eq=False)
class Stream:
    """Integers in ``[0, levels)``, kept flat in the narrowest dtype.

    ``coder``: ``fixed`` packs at a fixed length (bit planes or radix words); ``elias`` is the Elias delta
    code of value + 1, for values that are mostly small; ``rans`` is a range asymmetric numeral system with
    the stream's own frequencies, which travel with it.

    Raises:
        ValueError: a value outside ``[0, levels)``, a value that is no integer, or an unknown coder.
    """

    values: Tensor
    levels: int
    coder: Coder = "fixed"

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 2**62:
            raise ValueError(f"a stream has 1 to 2^62 levels, not {self.levels}")
        if self.coder not in _CODER_CODES:
            raise ValueError(f"unknown coder {self.coder!r}; use one of {', '.join(_CODER_CODES)}")
        values = self.values.to(torch.int64) if self.values.dtype in _INDIRECT else self.values
        if values.is_floating_point() and not bool((values == values.round()).all()):
            raise ValueError("a stream holds integers; round the codes before making one")
        if values.numel():
            low, high = (extreme.item() for extreme in torch.aminmax(values))
            if low < 0 or high >= self.levels:
                raise ValueError(f"codes run from {low} to {high}, outside [0, {self.levels})")
        object.__setattr__(self, "values", values.reshape(-1).to(narrowest(self.levels)))

    @cached_property
    def coded(self) -> bytes:
        """What the entropy coder makes of the values; coded once, however often it is counted."""
        return coders.encode(_numpy(self.values), self.levels, self.coder)


Message: TypeAlias = dict[str, Union[Stream, Tensor, "Message"]]


def narrowest(levels: int) -> torch.dtype:
    """The smallest integer dtype that holds ``levels - 1``."""
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if levels - 1 <= torch.iinfo(dtype).max:
            return dtype
    return torch.int64


def pack(message: Message) -> bytes:
    """The bytes of a message: schema block, then data block.

    Raises:
        ValueError: nested too deep, a dtype that cannot travel, or far more values than bytes.
        TypeError: a name that is no string, or something that is neither stream, tensor nor message.
    """
    packed = b"".join([_schema(message, 0), *map(_content, _leaves(message))])
    values = sum(leaf.values.numel() for leaf in _leaves(message) if isinstance(leaf, Stream))
    if values > _max_values(len(packed)):
        raise ValueError(f"a reader refuses {values} values in {len(packed)} bytes; send several messages")
    return packed


def schema(message: Message) -> bytes:
    """The schema block alone: names, kinds, levels, coders. A stream of messages sends it when it changes."""
    return _schema(message, 0)


def nbytes(message: Message) -> int:
    """``len(pack(message))`` without packing; only entropy-coded streams are coded to know their length."""
    return len(_schema(message, 0)) + sum(map(_content_nbytes, _leaves(message)))


def unpack(data: bytes | memoryview) -> tuple[Message, int]:
    """The message at the start of ``data`` and the number of bytes it took.

    Raises:
        PayloadError: the bytes are cut short or were not written by :func:`pack`.
    """
    reader = _Reader(memoryview(data))
    try:
        message = _read_data(reader, _read_schema(reader, 0))
    except ValueError as error:
        where = f"at byte {reader.at} of {len(data)}"
        raise PayloadError(f"the payload is cut short or damaged {where}: {error}") from error
    return message, reader.at


def entropy_bits(message: Message) -> float:
    """Bits of the message under an adaptive coder.

    Each fixed-length stream counts its Krichevsky-Trofimov code length or its packed length, whichever is
    shorter, and one bit that says which; coded streams, tensors, schema and counts count their real bytes.
    """
    bits = 8.0 * nbytes(message)
    for leaf in _leaves(message):
        if isinstance(leaf, Stream) and leaf.coder == "fixed":
            packed = 8.0 * packing.packed_nbytes(leaf.values.numel(), leaf.levels)
            bits += 1.0 + min(coders.kt_bits(_numpy(leaf.values), leaf.levels) - packed, 0.0)
    return bits


def is_coded(message: Message) -> bool:
    """Whether any stream is entropy-coded: the row then ranks in the coded class, not the fixed-rate one."""
    return any(isinstance(leaf, Stream) and leaf.coder != "fixed" for leaf in _leaves(message))


def map_streams(message: Message, change: Callable[[Stream], Stream]) -> Message:
    """The same message with ``change`` applied to every stream, at any depth."""
    changed: Message = {}
    for name, value in message.items():
        if isinstance(value, Stream):
            changed[name] = change(value)
        else:
            changed[name] = map_streams(value, change) if isinstance(value, dict) else value
    return changed


def to_device(message: Message, device: torch.device | str) -> Message:
    """The same message with every tensor on ``device``."""
    moved: Message = {}
    for name, value in message.items():
        if isinstance(value, Stream):
            moved[name] = Stream(value.values.to(device), value.levels, value.coder)
        else:
            moved[name] = to_device(value, device) if isinstance(value, dict) else value.to(device)
    return moved


def _max_values(nbytes: int) -> int:
    """How many values a reader takes from so many bytes; of one level, or by rANS, they need next to none."""
    return (1 << 28) + (nbytes << 11)


def _leaves(message: Message) -> Iterator[Stream | Tensor]:
    for value in message.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def _schema(message: Message, depth: int) -> bytes:
    if depth > _MAX_DEPTH:
        raise ValueError(f"a message nests at most {_MAX_DEPTH} deep")
    block = bytearray(_varint(len(message)))
    for name, value in message.items():
        if not isinstance(name, str):
            raise TypeError(f"a message's names are strings, not {name!r}")
        encoded = name.encode()
        block += _varint(len(encoded)) + encoded + _kind(name, value)
        if isinstance(value, dict):
            block += _schema(value, depth + 1)
    return bytes(block)


def _kind(name: str, value: Any) -> bytes:
    if isinstance(value, Stream):
        return bytes([_CODER_CODES[value.coder]]) + _varint(value.levels)
    if isinstance(value, dict):
        return bytes([_NESTED])
    if not isinstance(value, Tensor):
        found = type(value).__name__
        raise TypeError(f"{name!r} is a {found}; a message holds streams, tensors and messages")
    if value.dtype not in _DTYPE_CODES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPE_CODES)
        raise ValueError(f"{name!r} has dtype {value.dtype}; a message holds {allowed}")
    return bytes([_DTYPE_CODES[value.dtype]])


def _content(leaf: Stream | Tensor) -> bytes:
    if isinstance(leaf, Tensor):
        return _shape(leaf) + _tensor_bytes(leaf)
    count = _varint(leaf.values.numel())
    if leaf.coder == "fixed":
        return count + packing.pack(_numpy(leaf.values), leaf.levels)
    return count + _varint(len(leaf.coded)) + leaf.coded


def _content_nbytes(leaf: Stream | Tensor) -> int:
    if isinstance(leaf, Tensor):
        return len(_shape(leaf)) + leaf.numel() * leaf.element_size()
    if leaf.coder != "fixed":
        return len(_content(leaf))
    count = leaf.values.numel()
    return len(_varint(count)) + packing.packed_nbytes(count, leaf.levels)


_Schema: TypeAlias = dict[str, Union[tuple[Coder, int], torch.dtype, "_Schema"]]


def _read_schema(reader: "_Reader", depth: int) -> _Schema:
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    schema: _Schema = {}
    for _ in range(reader.varint()):
        name = bytes(reader.take(reader.varint())).decode()
        if name in schema:
            raise ValueError(f"{name!r} stands there twice")
        kind = reader.take(1)[0]
        if kind == _NESTED:
            schema[name] = _read_schema(reader, depth + 1)
        elif kind in _CODERS:
            schema[name] = (_CODERS[kind], reader.varint())
        elif kind in _DTYPES:
            schema[name] = _DTYPES[kind]
        else:
            raise ValueError(f"unknown kind {kind}")
    return schema


def _read_data(reader: "_Reader", schema: _Schema) -> Message:
    message: Message = {}
    for name, kind in schema.items():
        if isinstance(kind, dict):
            message[name] = _read_data(reader, kind)
        elif isinstance(kind, tuple):
            message[name] = _read_stream(reader, *kind)
        else:
            message[name] = _read_tensor(reader, kind)
    return message


def _read_stream(reader: "_Reader", coder: Coder, levels: int) -> Stream:
    count = reader.varint()
    reader.values += count
    if reader.values > _max_values(len(reader.data)):
        raise ValueError(f"{reader.values} values in {len(reader.data)} bytes")
    if coder == "fixed":
        values = packing.unpack(reader.take(packing.packed_nbytes(count, levels)), count, levels)
    else:
        values = coders.decode(reader.take(reader.varint()), count, levels, coder)
    return Stream(torch.from_numpy(values), levels, coder)


def _read_tensor(reader: "_Reader", dtype: torch.dtype) -> Tensor:
    shape = [reader.varint() for _ in range(reader.take(1)[0])]
    if len(shape) > _MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) >= 1 << 59:
        raise ValueError(f"a tensor of shape {shape}")
    raw = bytearray(reader.take(math.prod(shape) * dtype.itemsize))
    if dtype == torch.bool and raw.translate(None, b"\0\1"):
        raise ValueError("a truth value that is neither 0 nor 1")
    flat = torch.frombuffer(raw, dtype=torch.uint8).view(dtype) if raw else torch.empty(0, dtype=dtype)
    return flat.reshape(shape)


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.values = data, 0, 0

    def take(self, count: int) -> memoryview:
        if self.at + count > len(self.data):
            raise ValueError(f"{count} more bytes expected, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 and (byte or shift == 7):
                return value
            if byte == 0 or shift > 56:
                raise ValueError("a number of more than 63 bits, or with leading zeros")


def _varint(value: int) -> bytes:
    block = bytearray()
    while value >= 0x80:
        block.append(value & 0x7F | 0x80)
        value >>= 7
    block.append(value)
    return bytes(block)


def _shape(tensor: Tensor) -> bytes:
    return bytes([tensor.dim()]) + b"".join(map(_varint, tensor.shape))


def _tensor_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    return cast("np.ndarray[Any, Any]", values.detach().cpu().numpy())
