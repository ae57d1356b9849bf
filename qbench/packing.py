"""Fixed-length packing of integers below ``levels``: bit planes, or radix words where those are shorter.

A plane is a contiguous run that holds the same digit of all values, so packing is a few passes over whole
arrays. An array of values has exactly one encoding: unused bits are zero, and checked.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.integer[Any]]
Bytes: TypeAlias = bytes | bytearray | memoryview

MAX_LEVELS = 2**62
_BLOCK = 1 << 14  # of so many values at a time, which stay in the cache


def packed_nbytes(count: int, levels: int) -> int:
    """``len(pack(values, levels))`` for ``count`` values, in microseconds.

    With ``b = ceil(log2(levels))``, planes take ``b // 8`` bytes for each value and ``ceil(count / 8)`` bytes
    for each of the other ``b % 8`` bits. A radix word of w <= 8 bytes holds k values, ``levels^k <= 2^(8w)``,
    with w such that ``8w / k`` is smallest; values that fill no word share one of as few bytes as they need.

    Raises:
        ValueError: ``levels`` outside [1, 2^62] or a negative ``count``.
    """
    if not 1 <= levels <= MAX_LEVELS:
        raise ValueError(f"values have 1 to 2^62 levels, not {levels}")
    if count < 0:
        raise ValueError(f"a count of {count} values")
    return min(_planes_nbytes(count, levels), _radix_nbytes(count, levels)) if levels > 1 else 0


def pack(values: Integers, levels: int) -> bytes:
    """The bytes of integers in ``[0, levels)``, read in C order.

    Raises:
        ValueError: a value outside ``[0, levels)``, no integers, or ``levels`` outside [1, 2^62].
    """
    flat = flatten(values, levels)
    if not packed_nbytes(flat.size, levels):
        return b""
    pack_digits = _pack_planes if _in_planes(flat.size, levels) else _pack_radix
    return pack_digits(flat.view(_unsigned(levels)), levels)


def unpack(data: Bytes, count: int, levels: int) -> Integers:
    """The ``count`` values that :func:`pack` made ``data`` of: uint8, int16, int32 or int64, the narrowest.

    Raises:
        ValueError: ``data`` has another length than it must, or bits that :func:`pack` never sets.
    """
    nbytes = packed_nbytes(count, levels)
    if len(data) != nbytes:
        raise ValueError(f"{count} values of {levels} levels take {nbytes} bytes, not {len(data)}")
    if not nbytes:
        return np.zeros(count, dtype=narrowest(levels))
    raw = np.frombuffer(data, dtype=np.uint8)
    unpack_digits = _unpack_planes if _in_planes(count, levels) else _unpack_radix
    return unpack_digits(raw, count, levels).view(narrowest(levels))


def narrowest(levels: int) -> np.dtype[Any]:
    """The smallest of uint8, int16, int32 and int64 that holds ``levels - 1``."""
    for dtype in (np.uint8, np.int16, np.int32):
        if levels - 1 <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.int64)


def flatten(values: Integers, levels: int) -> Integers:
    """The values in C order, in the narrowest dtype.

    Raises:
        ValueError: a value outside ``[0, levels)``, or no integers.
    """
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind not in "iu":
        raise ValueError(f"values have dtype {flat.dtype}; only integers can be packed")
    check_range(flat, levels)
    return flat.astype(narrowest(levels), copy=False)


def check_range(values: Integers, levels: int) -> None:
    """Raise ValueError unless every value is in ``[0, levels)``."""
    if values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= levels:
            raise ValueError(f"values run from {low} to {high}, outside [0, {levels})")


def _unsigned(levels: int) -> np.dtype[Any]:
    return np.dtype(f"u{narrowest(levels).itemsize}")


def _in_planes(count: int, levels: int) -> bool:
    return _planes_nbytes(count, levels) <= _radix_nbytes(count, levels)


def _planes_nbytes(count: int, levels: int) -> int:
    whole, rest = divmod((levels - 1).bit_length(), 8)
    return whole * count + rest * (-(-count // 8))


def _pack_planes(values: Integers, levels: int) -> bytes:
    whole, rest = divmod((levels - 1).bit_length(), 8)
    planes = [(values >> 8 * i).astype(np.uint8) for i in range(whole)]
    if rest:
        top = (values >> 8 * whole).astype(np.uint8, copy=False)
        planes += [np.packbits(top & (1 << i), bitorder="little") for i in range(rest)]
    return b"".join(plane.tobytes() for plane in planes)


def _unpack_planes(raw: NDArray[np.uint8], count: int, levels: int) -> Integers:
    whole, rest = divmod((levels - 1).bit_length(), 8)
    dtype = _unsigned(levels)
    values = np.zeros(count, dtype=dtype)
    for i, plane in enumerate(raw[: whole * count].reshape(whole, count)):
        values |= plane.astype(dtype) << 8 * i
    if rest:
        top = _unpack_bits(raw[whole * count :].reshape(rest, -1), count)
        values |= top.astype(dtype, copy=False) << 8 * whole
    if levels & (levels - 1):
        check_range(values, levels)
    return values


def _unpack_bits(planes: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    if count % 8 and (planes[:, -1] >> count % 8).any():
        raise ValueError("a bit is set after the last value")
    values = np.zeros(count, dtype=np.uint8)
    for start in range(0, count, _BLOCK):
        block = values[start : start + _BLOCK]
        for i, plane in enumerate(planes[:, start // 8 :]):
            block |= np.unpackbits(plane[: _BLOCK // 8], count=block.size, bitorder="little") << i
    return values


@lru_cache(maxsize=4096)
def _word(levels: int) -> tuple[int, int]:
    """Bytes of a radix word and the digits it holds; of equally good words the shortest."""
    best = (8, 1)
    for width in range(8, 0, -1):
        digits = 0
        while levels ** (digits + 1) <= 1 << 8 * width:
            digits += 1
        if digits and width * best[1] <= best[0] * digits:
            best = (width, digits)
    return best


def _word_dtype(width: int) -> np.dtype[Any]:
    return np.dtype(f"<u{1 << (width - 1).bit_length()}")


def _radix_nbytes(count: int, levels: int) -> int:
    width, digits = _word(levels)
    words, tail = divmod(count, digits)
    return words * width + _tail_nbytes(tail, levels)


def _tail_nbytes(digits: int, levels: int) -> int:
    largest: int = levels**digits - 1
    return -(-largest.bit_length() // 8)


def _pack_radix(values: Integers, levels: int) -> bytes:
    width, k = _word(levels)
    count = values.size // k
    planes = values[: count * k].reshape(k, count)
    dtype = _word_dtype(width)
    packed = np.empty((count, width), dtype=np.uint8)
    for start in range(0, count, _BLOCK):
        block = planes[:, start : start + _BLOCK]
        words = block[-1].astype(dtype)
        for plane in block[-2::-1]:
            words *= dtype.type(levels)
            words += plane
        packed[start : start + _BLOCK] = words.view(np.uint8).reshape(-1, dtype.itemsize)[:, :width]
    tail = 0
    for digit in reversed(values[count * k :].tolist()):
        tail = tail * levels + digit
    return packed.tobytes() + tail.to_bytes(_tail_nbytes(values.size % k, levels), "little")


def _unpack_radix(raw: NDArray[np.uint8], count: int, levels: int) -> Integers:
    width, k = _word(levels)
    words, tail = divmod(count, k)
    values = np.empty(count, dtype=_unsigned(levels))
    _unpack_words(raw[: words * width].reshape(words, width), values[: words * k].reshape(k, words), levels)
    rest = int.from_bytes(raw[words * width :].tobytes(), "little")
    if rest >= levels**tail:
        raise ValueError(f"the last radix word holds {rest}, at least {levels}^{tail}")
    for i in range(words * k, count):
        rest, values[i] = divmod(rest, levels)
    return values


def _unpack_words(packed: NDArray[np.uint8], planes: Integers, levels: int) -> None:
    (count, width), k = packed.shape, len(planes)
    dtype = _word_dtype(width)
    for start in range(0, count, _BLOCK):
        block = packed[start : start + _BLOCK]
        padded = np.zeros((len(block), dtype.itemsize), dtype=np.uint8)
        padded[:, :width] = block
        words = padded.view(dtype).reshape(-1)
        if int(words.max()) >= levels**k:
            raise ValueError(f"a radix word holds {int(words.max())}, at least {levels}^{k}")
        for plane in planes[:-1, start : start + _BLOCK]:
            quotient = words // dtype.type(levels)
            plane[:] = words - quotient * dtype.type(levels)
            words = quotient
        planes[-1, start : start + _BLOCK] = words
