"""Variable-length coders of integers, and the length an adaptive coder would reach.

The first byte says what the rest is: 0 as :mod:`qbench.packing` makes it, where that is not longer, 1 coded.
Every number that a decoder computes is an integer.
"""

import math
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from . import packing
from .packing import Bytes, Integers

_FIXED, _CODED = b"\0", b"\1"
_MAX_TOTAL_BITS = 14
_MAX_TABLE_NBYTES = 1 << 19  # more than 2^14 symbols of 125 bits for the gap and 29 for the frequency take
_STATE_LOW = 1 << 16
_SYMBOLS_PER_LANE = 1 << 12
_MAX_LANES = 1 << 10
_FEW_LANES = 16


def encode(values: Integers, levels: int, coder: str) -> bytes:
    """The bytes of integers in ``[0, levels)``, at most one more than :func:`qbench.packing.pack` makes.

    ``elias``: Elias delta codewords of value + 1; prefixes, lengths and remainders in planes of their own.
    ``rans``: a range asymmetric numeral system, after a table of the values that occur and their frequencies.

    Raises:
        ValueError: a value outside ``[0, levels)``, no integers, or an unknown coder.

    Reference: Elias, Universal codeword sets and representations of the integers, 1975, code delta;
    Duda, Asymmetric numeral systems, 2013 (arXiv:1311.2540), section 2.3.
    """
    flat = packing.flatten(values, levels)
    fixed = packing.packed_nbytes(flat.size, levels)
    if coder == "elias":
        coded = _encode_elias(flat, fixed)
    elif coder == "rans":
        coded = _encode_rans(flat, fixed)
    else:
        raise ValueError(f"unknown coder {coder!r}; use elias or rans")
    return _FIXED + packing.pack(flat, levels) if coded is None or len(coded) >= fixed else _CODED + coded


def decode(data: Bytes, count: int, levels: int, coder: str) -> Integers:
    """The ``count`` values that :func:`encode` made ``data`` of: uint8, int16, int32 or int64, the narrowest.

    Raises:
        ValueError: ``data`` is cut short, too long or inconsistent, or the coder is unknown.
    """
    if coder not in ("elias", "rans"):
        raise ValueError(f"unknown coder {coder!r}; use elias or rans")
    mode, body = bytes(data[:1]), data[1:]
    if mode == _FIXED:
        return packing.unpack(body, count, levels)
    if mode != _CODED:
        raise ValueError(f"coded values start with a byte 0 or 1, not {mode!r}")
    if len(body) >= packing.packed_nbytes(count, levels):
        raise ValueError(f"{len(body)} bytes for {count} values of {levels} levels, which take fewer packed")
    raw = np.frombuffer(body, dtype=np.uint8)
    return _decode_elias(raw, count, levels) if coder == "elias" else _decode_rans(raw, count, levels)


def kt_bits(values: Integers, levels: int) -> float:
    """Bits that an adaptive coder needs which starts from half a count for each of ``levels`` symbols.

    ``log2 G(n + L/2) / G(L/2) - sum_i log2 G(n_i + 1/2) / G(1/2)``: n values, n_i of them equal to i,
    L levels, G the gamma function.

    Raises:
        ValueError: a value outside ``[0, levels)``, or no integers.

    Reference: Krichevsky and Trofimov, The performance of universal encoding, 1981.
    """
    flat = packing.flatten(values, levels)
    if not flat.size or levels == 1:
        return 0.0
    _, counts = _histogram(flat)
    # G(n) G(a) / G(n + a) is the beta function, whose logarithm keeps its digits where a is far above n.
    rising = gammaln(flat.size) - betaln(levels / 2, flat.size)
    return float(rising - (gammaln(counts + 0.5) - gammaln(0.5)).sum()) / math.log(2)


def _histogram(values: Integers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values in rising order and how often each occurs."""
    if int(values.max()) < 1 << 16:
        counts = np.bincount(values)
        used = np.flatnonzero(counts)
        return used, counts[used]
    used, counts = np.unique(values, return_counts=True)
    return used.astype(np.int64), counts


def _bit_length(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """``int.bit_length`` of every positive value."""
    # Without its second highest bit a number is not rounded up to a power of two when it becomes a float.
    return np.frexp((values & ~(values >> 1)).astype(np.float64))[1].astype(np.int64)


class _BitWriter:
    """Planes of bits, first bit highest, closed by zeros up to a whole byte."""

    def __init__(self) -> None:
        self.planes: list[NDArray[np.uint8]] = []

    def unary(self, zeros: NDArray[np.int64]) -> None:
        ends = np.cumsum(zeros + 1)
        plane = np.zeros(int(ends[-1]), dtype=np.uint8)
        plane[ends - 1] = 1
        self.planes.append(plane)

    def fields(self, values: NDArray[np.int64], widths: NDArray[np.int64]) -> None:
        """The low ``widths`` bits of each value: the highest of all, then the next where there is one."""
        while values.size:
            left = widths > 0
            values, widths = values[left], widths[left] - 1
            self.planes.append(((values >> widths) & 1).astype(np.uint8))

    def gamma(self, values: NDArray[np.int64]) -> None:
        widths = _bit_length(values) - 1
        self.unary(widths)
        self.fields(values, widths)

    def tobytes(self) -> bytes:
        return np.packbits(np.concatenate(self.planes)).tobytes()


class _BitReader:
    """Reads what a _BitWriter wrote."""

    def __init__(self, raw: NDArray[np.uint8]) -> None:
        self.bits, self.at = np.unpackbits(raw), 0

    def take(self, count: int) -> NDArray[np.uint8]:
        if self.at + count > self.bits.size:
            raise ValueError(f"{count} more bits expected, {self.bits.size - self.at} left")
        self.at += count
        return self.bits[self.at - count : self.at]

    def unary(self, count: int) -> NDArray[np.int64]:
        ends = np.flatnonzero(self.bits[self.at :])[:count]
        if ends.size < count:
            raise ValueError(f"{count} codewords expected, {ends.size} found")
        self.take(int(ends[-1]) + 1)
        return np.diff(ends, prepend=-1) - 1

    def fields(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of ``widths`` bits below a leading one each."""
        if int(widths.max()) > 62:
            raise ValueError(f"a number of {int(widths.max()) + 1} bits")
        values = np.ones(widths.shape, dtype=np.int64)
        left, depth = np.flatnonzero(widths), 0
        while left.size:
            values[left] = values[left] << 1 | self.take(left.size)
            depth += 1
            left = left[widths[left] > depth]
        return values

    def gamma(self, count: int) -> NDArray[np.int64]:
        return self.fields(self.unary(count))

    def close(self) -> int:
        """The bytes read; what is left of the last one must be zero."""
        end = -(-self.at // 8)
        if self.bits[self.at : 8 * end].any():
            raise ValueError("a bit is set after the last codeword")
        return end


def _encode_elias(values: Integers, limit: int) -> bytes | None:
    if not values.size:
        return None
    numbers = values.astype(np.int64) + 1
    lengths = _bit_length(numbers)
    zeros = _bit_length(lengths) - 1
    if int((2 * zeros + lengths).sum()) > 8 * limit:
        return None
    writer = _BitWriter()
    writer.unary(zeros)
    writer.fields(lengths, zeros)
    writer.fields(numbers, lengths - 1)
    return writer.tobytes()


def _decode_elias(raw: NDArray[np.uint8], count: int, levels: int) -> Integers:
    reader = _BitReader(raw)
    values = reader.fields(reader.gamma(count) - 1) - 1
    if reader.close() != raw.size:
        raise ValueError(f"{raw.size - reader.close()} bytes are left after the last codeword")
    packing.check_range(values, levels)
    return values.astype(packing.narrowest(levels), copy=False)


def _lanes(count: int) -> int:
    """Independent states that take the values in turn; each costs two bytes."""
    return min(max(count // _SYMBOLS_PER_LANE, 1), _MAX_LANES)


def _total_bits(count: int, symbols: int) -> int:
    """log2 of the sum of the frequencies: about where a finer table costs more than it saves."""
    return min(max((count * symbols).bit_length() // 2 + 1, symbols.bit_length()), _MAX_TOTAL_BITS)


def _quantize(counts: NDArray[np.int64], total_bits: int) -> NDArray[np.int64]:
    """Frequencies of at least 1 that add up to ``2^total_bits``, by largest remainders."""
    spare = (1 << total_bits) - counts.size
    floors, remainders = np.divmod(counts * spare, counts.sum())
    frequencies: NDArray[np.int64] = floors + 1
    missing = (1 << total_bits) - int(frequencies.sum())
    frequencies[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return frequencies


def _starts(frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(frequencies) - frequencies


def _encode_rans(values: Integers, limit: int) -> bytes | None:
    if not values.size:
        return None
    symbols, counts = _histogram(values)
    if symbols.size > 1 << _MAX_TOTAL_BITS or symbols.size > 8 * limit:
        return None
    total_bits = _total_bits(values.size, symbols.size)
    frequencies = _quantize(counts, total_bits)
    table = _BitWriter()
    table.gamma(np.array([total_bits + 1, symbols.size]))
    table.gamma(np.diff(symbols, prepend=-1))
    table.gamma(frequencies)
    states, words = _push(np.searchsorted(symbols, values), frequencies, total_bits)
    return table.tobytes() + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


def _push(
    indices: NDArray[np.int64], frequencies: NDArray[np.int64], total_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Final states and words of the table's ``indices``, coded last to first.

    A state x takes a symbol of frequency f whose slots start at c by ``x <- (x // f) 2^m + c + x mod f``.
    Where that would reach 2^32, the low 16 bits of x leave as a word first.
    """
    lanes = _lanes(indices.size)
    if lanes <= _FEW_LANES:
        return _push_few(indices.tolist(), frequencies.tolist(), total_bits, lanes)
    start, gap, bound = (
        _starts(frequencies),
        (1 << total_bits) - frequencies,
        frequencies << (32 - total_bits),
    )
    states = np.full(lanes, _STATE_LOW, dtype=np.int64)
    words = []
    for at in range((indices.size - 1) // lanes * lanes, -1, -lanes):
        step = indices[at : at + lanes]
        x = states[: step.size]
        (full,) = (x >= bound.take(step)).nonzero()
        words.append(x[full] & 0xFFFF)
        x[full] >>= 16
        x += x // frequencies.take(step) * gap.take(step) + start.take(step)
    return states, np.concatenate(words[::-1])


def _push_few(
    indices: list[int], frequencies: list[int], total_bits: int, lanes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``_push`` value by value: where a step is a few values, Python is faster than numpy's calls."""
    steps = [
        (f, (1 << total_bits) - f, start, f << (32 - total_bits))
        for f, start in zip(frequencies, [0, *accumulate(frequencies)], strict=False)
    ]
    states, words = [_STATE_LOW] * lanes, []
    lane = len(indices) % lanes
    for index in reversed(indices):
        f, gap, start, bound = steps[index]
        lane = (lane or lanes) - 1
        x = states[lane]
        if x >= bound:
            words.append(x & 0xFFFF)
            x >>= 16
        states[lane] = x + x // f * gap + start
    return np.array(states, dtype=np.int64), np.array(words[::-1], dtype=np.int64)


def _decode_rans(raw: NDArray[np.uint8], count: int, levels: int) -> Integers:
    symbols, frequencies, table = _read_table(raw, levels)
    lanes = _lanes(count)
    if raw.size < table + 4 * lanes or (raw.size - table) % 2:
        raise ValueError(f"{raw.size - table} bytes are not {lanes} states and whole words")
    states = raw[table : table + 4 * lanes].view("<u4").astype(np.int64)
    words = raw[table + 4 * lanes :].view("<u2").astype(np.int64)
    return symbols[_pop(states, words, count, frequencies)]


def _read_table(raw: NDArray[np.uint8], levels: int) -> tuple[Integers, NDArray[np.int64], int]:
    """The symbols, their frequencies, and the bytes that both took."""
    reader = _BitReader(raw[:_MAX_TABLE_NBYTES])
    total_bits, size = (reader.gamma(2) - (1, 0)).tolist()
    if total_bits > _MAX_TOTAL_BITS or size > 1 << total_bits:
        raise ValueError(f"a table of {size} symbols with frequencies that add up to 2^{total_bits}")
    gaps, frequencies = reader.gamma(size), reader.gamma(size)
    last = sum(gaps.tolist()) - 1
    if last >= levels:
        raise ValueError(f"a symbol {last}, outside [0, {levels})")
    if sum(frequencies.tolist()) != 1 << total_bits:
        raise ValueError(f"frequencies that do not add up to 2^{total_bits}")
    return (np.cumsum(gaps) - 1).astype(packing.narrowest(levels)), frequencies, reader.close()


def _pop(
    states: NDArray[np.int64], words: NDArray[np.int64], count: int, frequencies: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """The inverse of ``_push``: ``x <- f (x >> m) + x mod 2^m - c``; below 2^16, x takes in the next word."""
    if states.min() < _STATE_LOW:
        raise ValueError("a state is below 2^16")
    index_of = np.repeat(np.arange(frequencies.size, dtype=np.uint16), frequencies)
    f, offset = frequencies[index_of], np.arange(index_of.size) - _starts(frequencies)[index_of]
    mask, m, used = index_of.size - 1, index_of.size.bit_length() - 1, 0
    if states.size <= _FEW_LANES:
        return _pop_few(
            states.tolist(), words.tolist(), count, index_of.tolist(), f.tolist(), offset.tolist()
        )
    indices = np.empty(count, dtype=np.uint16)
    for at in range(0, count, states.size):
        x = states[: count - at]
        slot = x & mask
        indices[at : at + x.size] = index_of.take(slot)
        x[:] = f.take(slot) * (x >> m) + offset.take(slot)
        (empty,) = (x < _STATE_LOW).nonzero()
        if used + empty.size > words.size:
            raise ValueError("the words end before the values do")
        x[empty] = x[empty] << 16 | words[used : used + empty.size]
        used += empty.size
    if used != words.size or (states != _STATE_LOW).any():
        raise ValueError("the states do not end where they began")
    return indices


def _pop_few(
    states: list[int], words: list[int], count: int, index_of: list[int], f: list[int], offset: list[int]
) -> NDArray[np.uint16]:
    """``_pop`` value by value, by tables over the slots."""
    mask, m, used, lanes = len(index_of) - 1, len(index_of).bit_length() - 1, 0, len(states)
    slots = [0] * count
    lane = 0
    for at in range(count):
        x = states[lane]
        slots[at] = slot = x & mask
        x = f[slot] * (x >> m) + offset[slot]
        if x < _STATE_LOW:
            if used == len(words):
                raise ValueError("the words end before the values do")
            x = x << 16 | words[used]
            used += 1
        states[lane] = x
        lane = lane + 1 if lane + 1 < lanes else 0
    if used != len(words) or any(state != _STATE_LOW for state in states):
        raise ValueError("the states do not end where they began")
    return np.array(index_of, dtype=np.uint16)[slots]
