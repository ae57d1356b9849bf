"""What surrounds a quantizer: axis, dtype, an exact power-of-two scale, and the self-describing payload.

A payload is ``magic, version, header length, header, codebook, codes``. The header says which quantizer, which shape,
dtype and channel axis; it depends on nothing else and stays outside the rate. Codebook and codes are packed messages.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .autograd import straight_through
from .components import Constrained, Context, Quantizer, Trainable
from .errors import InputError, InvalidReconstructionError, PayloadError, QBenchError
from .message import Message, unpack
from .schema import Spec

MAGIC = b"QBPL"
VERSION = 1
MAX_HEADER = 512
_LEAST_EXPONENT, _LARGEST_EXPONENT = -148, 128  # of the float32 values there are
_PREFIX = struct.Struct("<4sBH")
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


@dataclass(frozen=True)
class Header:
    """What a decoder is told beside the bytes that count; ``inner_versions`` are those of quantizers inside."""

    quantizer: Spec
    quantizer_version: int
    shape: torch.Size
    dtype: torch.dtype
    channel_axis: int
    inner_versions: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """The prefix and the header's JSON.

        Raises:
            PayloadError: the header is longer than 512 bytes.
        """
        fields: dict[str, Any] = {
            "quantizer": str(self.quantizer),
            "version": self.quantizer_version,
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "axis": self.channel_axis,
        }
        if self.inner_versions:
            fields["inner"] = list(self.inner_versions)
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > MAX_HEADER:
            raise PayloadError(
                f"the header of {self.quantizer} takes {len(text)} bytes; at most {MAX_HEADER} are allowed"
            )
        return _PREFIX.pack(MAGIC, VERSION, len(text)) + text

    @classmethod
    def read(cls, payload: bytes) -> tuple["Header", int]:
        """The header of a payload and where its body starts."""
        if len(payload) < _PREFIX.size or payload[:4] != MAGIC:
            raise PayloadError(f"not a qbench payload: it starts with {payload[:4]!r}, not {MAGIC!r}")
        _, version, length = _PREFIX.unpack_from(payload)
        if version != VERSION:
            raise PayloadError(
                f"payload format {version} is not readable here (this version reads {VERSION}); update qbench"
            )
        try:
            fields = json.loads(payload[_PREFIX.size : _PREFIX.size + length])
            shape = torch.Size(fields["shape"])
            header = cls(
                Spec.parse(fields["quantizer"]),
                fields["version"],
                shape,
                _DTYPES[fields["dtype"]],
                fields["axis"],
                tuple(fields.get("inner", ())),
            )
            if min(shape, default=0) < 0 or not 0 <= header.channel_axis < max(1, len(shape)):
                raise ValueError("a negative size or an axis outside the shape")
        except (ValueError, KeyError, TypeError, RuntimeError, QBenchError) as error:
            raise PayloadError(f"the payload's header is damaged: {error}") from error
        return header, _PREFIX.size + length


def inner_versions(quantizer: Quantizer) -> tuple[int, ...]:
    """The versions of the quantizers inside, in the order of :meth:`Quantizer.parts`; () where all are 1."""
    versions = tuple(part.version for part in quantizer.parts()[1:])
    return versions if any(version != 1 for version in versions) else ()


class Code:
    """A quantizer with an exact power-of-two scale around every message.

    ``fit`` finds the exponent e with max|x| 2^-e in [0.5, 1) and keeps it in the codebook (2 bytes, charged), so
    that a quantizer meets data of one scale whatever the tensor's units are, and codes are the same for x and 2^k x.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self.quantizer = quantizer

    def fit(self, x: Tensor, context: Context) -> Message:
        exponent = math.frexp(float(x.abs().max()))[1] if x.numel() else 0
        inner = self.quantizer.fit(_scaled(x, -exponent), context=_in_units_of(context, exponent))
        return {"e": torch.tensor(exponent, dtype=torch.int16), "c": inner}

    def encode(self, x: Tensor, codebook: Message, context: Context) -> Message:
        exponent, inner = _open(codebook)
        return self.quantizer.encode(_scaled(x, -exponent), inner, context=_in_units_of(context, exponent))

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        """The reconstruction, float32.

        Raises:
            PayloadError: the quantizer's decoder raised.
            InvalidReconstructionError: it returned a wrong shape, NaN or infinity.
        """
        exponent, inner = _open(codebook)
        try:
            x = self.quantizer.decode(codes, inner, shape)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise PayloadError(f"{self.quantizer.name} cannot decode these bytes: {what}") from error
        if not isinstance(x, Tensor) or x.shape != shape:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InvalidReconstructionError(
                f"{self.quantizer} decoded to {found} instead of shape {tuple(shape)}"
            )
        if not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x)).sum())
            raise InvalidReconstructionError(
                f"{self.quantizer} decoded {bad} of {x.numel()} elements to NaN or infinity"
            )
        return _scaled(x.to(torch.float32), exponent)

    def surrogate(self, x: Tensor, codebook: Message, context: Context) -> Tensor:
        """The value of ``decode(encode(x))`` bit for bit, with a gradient for x and what of the codebook wants one.

        A :class:`Trainable` says which gradient; of every other quantizer it is the gradient of x itself. An entry p
        of the codebook stands for q = 2^e p in units of x, so dL/dp = 2^e dL/dq; it gets 2^-e dL/dq instead, with
        which a step of gradient descent moves q by what it would move q by itself.
        """
        if isinstance(self.quantizer, Trainable):
            exponent, inner = _open(codebook)
            inner = _stepping_in_units(inner, exponent, self.quantizer.unitless)
            context = _in_units_of(context, exponent)
            return _scaled(self.quantizer.surrogate(_scaled(x, -exponent), inner, context=context), exponent)
        with torch.no_grad():
            codes = self.encode(x.detach(), codebook, context)
            value = self.decode(codes, codebook, x.shape)
        return straight_through(x, value)

    def project(self, x: Tensor, codebook: Message) -> Tensor:
        """What a :class:`Constrained` allows in the place of ``x``; of every other quantizer ``x`` itself."""
        if not isinstance(self.quantizer, Constrained):
            return x
        exponent, inner = _open(codebook)
        return _scaled(self.quantizer.project(_scaled(x, -exponent), inner), exponent)


def _open(codebook: Message) -> tuple[int, Message]:
    exponent, inner = codebook.get("e"), codebook.get("c")
    if not isinstance(exponent, Tensor) or not isinstance(inner, dict) or exponent.numel() != 1:
        raise PayloadError("the payload's codebook lacks its exponent or its content")
    if exponent.is_floating_point() or not _LEAST_EXPONENT <= int(exponent) <= _LARGEST_EXPONENT:
        raise PayloadError(
            f"the payload's exponent is {exponent.item()}, no integer from {_LEAST_EXPONENT} to {_LARGEST_EXPONENT}"
        )
    return int(exponent), inner


def _in_units_of(context: Context, exponent: int) -> Context:
    """The loss takes what the quantizer reconstructs, in its units; importance and gram have no units of x."""
    loss = context.loss
    return context if loss is None else replace(context, loss=lambda x: loss(_scaled(x, exponent)))


def _stepping_in_units(codebook: Message, exponent: int, unitless: frozenset[str] = frozenset()) -> Message:
    """The same numbers, the gradients of all but the unitless ones times 4^-exponent."""
    found = dict(codebook)
    for name in codebook.keys() - unitless:
        value = codebook[name]
        if isinstance(value, dict):
            found[name] = _stepping_in_units(value, exponent)
        elif isinstance(value, Tensor) and value.requires_grad:
            found[name] = _with_gradient(value, -exponent)
    return found


def _with_gradient(x: Tensor, exponent: int) -> Tensor:
    """``x`` itself, its gradient times 4^exponent; by a hook, since x 4^exponent may be no float32."""
    same = x.view_as(x)
    if same.requires_grad:
        same.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: _scaled(_scaled(gradient, exponent), exponent)
        )
    return same


def _scaled(x: Tensor, exponent: int) -> Tensor:
    """x * 2^exponent in two exact steps, since 2^148 is no float32; what would overflow is clamped."""
    half = exponent // 2
    scaled = x * math.ldexp(1.0, half) * math.ldexp(1.0, exponent - half)
    if exponent > 0:
        limit = torch.finfo(torch.float32).max
        scaled = scaled.clamp(-limit, limit)
    return scaled


def prepare(x: Tensor, channel_axis: int = 0) -> Tensor:
    """``x`` as quantizers see it: float32, finite, detached, channel axis first.

    Raises:
        InputError: not a float tensor, an axis it does not have, or NaN, infinity or values beyond float32.
    """
    if not isinstance(x, Tensor) or x.dtype not in _DTYPES.values():
        found = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"a tensor of {', '.join(_DTYPES)} is needed, not {found}")
    if not 0 <= channel_axis < max(1, x.dim()):
        raise InputError(f"channel_axis={channel_axis} is not an axis of shape {tuple(x.shape)}")
    prepared = x.detach().to(torch.float32)
    bad = int((~torch.isfinite(prepared)).sum())
    if bad:
        raise InputError(
            f"{bad} of {x.numel()} elements are NaN, infinite or beyond float32; remove them before quantizing"
        )
    return prepared.movedim(channel_axis, 0).contiguous() if prepared.dim() else prepared


def from_payload(payload: bytes, build: Callable[[Spec], Quantizer]) -> Tensor:
    """The reconstruction a payload stands for, in its shape and dtype, from these bytes and nothing else.

    Args:
        payload: header, packed codebook, packed codes.
        build: makes the quantizer that the header names.

    Raises:
        PayloadError: damaged, cut short, followed by further bytes, or of another version.
        InvalidReconstructionError: the decoder returned a wrong shape, NaN or infinity.
    """
    header, at = Header.read(payload)
    quantizer = build(header.quantizer)
    if quantizer.version != header.quantizer_version:
        raise PayloadError(
            f"{quantizer.name} wrote these bytes in version {header.quantizer_version}; "
            f"the installed one is version {quantizer.version}"
        )
    if (installed := inner_versions(quantizer)) != header.inner_versions:
        raise PayloadError(
            f"the quantizers inside {header.quantizer} wrote these bytes in versions "
            f"{list(header.inner_versions) or 1}; the installed ones are {list(installed) or 1}"
        )
    codebook, used = unpack(memoryview(payload)[at:])
    codes, used_codes = unpack(memoryview(payload)[at + used :])
    if at + used + used_codes != len(payload):
        raise PayloadError(f"{len(payload) - at - used - used_codes} bytes follow the payload's end")
    moved = _moved_shape(header.shape, header.channel_axis)
    x = Code(quantizer).decode(codes, codebook, moved)
    x = x.movedim(0, header.channel_axis).contiguous() if x.dim() else x
    limit = min(torch.finfo(header.dtype).max, torch.finfo(torch.float32).max)
    return x.clamp(-limit, limit).to(header.dtype)


def _moved_shape(shape: torch.Size, channel_axis: int) -> torch.Size:
    rest = [size for axis, size in enumerate(shape) if axis != channel_axis]
    return torch.Size([shape[channel_axis], *rest]) if len(shape) else shape
