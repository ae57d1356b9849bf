"""Coders against published codewords and exact entropies; the KT length against its product."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qbench.coders import decode, encode, kt_bits
from qbench.packing import MAX_LEVELS, pack, packed_nbytes

CODERS = ["elias", "rans"]
FIXED, CODED = 0, 1


def skewed(count: int, levels: int, seed: int) -> np.ndarray:
    """Integers that are mostly small, up to levels - 1."""
    generator = np.random.default_rng(seed)
    return (generator.integers(0, levels, count) >> generator.integers(0, 63, count)).astype(np.int64)


def gaussian(count: int, step: float, seed: int = 0) -> np.ndarray:
    values = np.rint(np.random.default_rng(seed).standard_normal(count) / step).astype(np.int64)
    return values - values.min()


def empirical_entropy(values: np.ndarray) -> float:
    """Bits a value."""
    shares = np.unique(values, return_counts=True)[1] / values.size
    return float(-(shares * np.log2(shares)).sum())


def bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


@pytest.mark.parametrize("coder", CODERS)
@settings(deadline=None)
@given(
    levels=st.one_of(st.integers(1, 40), st.integers(1, MAX_LEVELS)),
    count=st.integers(0, 300),
    seed=st.integers(0, 2**32 - 1),
)
@example(levels=MAX_LEVELS, count=300, seed=0)
@example(levels=1, count=9, seed=0)
def test_values_come_back(coder: str, levels: int, count: int, seed: int) -> None:
    values = skewed(count, levels, seed)
    data = encode(values, levels, coder)
    back = decode(memoryview(data), count, levels, coder)
    assert len(data) <= packed_nbytes(count, levels) + 1
    assert back.itemsize == pack_itemsize(levels)
    assert back.flags.writeable
    np.testing.assert_array_equal(back, values)


def pack_itemsize(levels: int) -> int:
    return next(size for size, limit in ((1, 2**8), (2, 2**15), (4, 2**31), (8, 2**63)) if levels <= limit)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("count", [4095, 4096, 8191, 8192, 12289, 100_003])
def test_values_come_back_whatever_the_number_of_lanes(coder: str, count: int) -> None:
    values = np.random.default_rng(count).geometric(0.6, count) - 1
    data = encode(values, 64, coder)
    assert data[0] == CODED
    np.testing.assert_array_equal(decode(data, count, 64, coder), values)


@pytest.mark.parametrize("coder", CODERS)
def test_incompressible_values_are_packed_behind_one_byte(coder: str) -> None:
    values = np.random.default_rng(0).permutation(2**12)
    assert encode(values, 2**12, coder) == bytes([FIXED]) + pack(values, 2**12)
    np.testing.assert_array_equal(decode(encode(values, 2**12, coder), 2**12, 2**12, coder), values)


# Elias 1975, the code delta of 1, 2, 3, ...
DELTA = {
    1: "1",
    2: "0100",
    3: "0101",
    4: "01100",
    5: "01101",
    6: "01110",
    7: "01111",
    8: "00100000",
    9: "00100001",
    15: "00100111",
    16: "001010000",
    17: "001010001",
    31: "001011111",
    32: "0011000000",
    100: "00111100100",
    10**6: "0000" + f"{20:b}" + f"{10**6:b}"[1:],
}


@pytest.mark.parametrize(("number", "codeword"), DELTA.items())
def test_elias_delta_codewords(number: int, codeword: str) -> None:
    data = encode(np.array([number - 1]), 2**62, "elias")
    assert data[0] == CODED
    assert bits(data[1:]) == codeword + "0" * (-len(codeword) % 8)


def test_elias_delta_separates_prefixes_lengths_and_remainders() -> None:
    """5, 1, 9, 2 are 01|1|01, 1, 001|00|001, 01|0|0 in parts; a plane goes bit by bit, highest first."""
    data = encode(np.array([4, 0, 8, 1]), 2**20, "elias")
    prefixes, lengths, remainders = "01100101", "1000", "000101"
    assert bits(data[1:]) == prefixes + lengths + remainders + "000000"


@settings(deadline=None)
@given(count=st.integers(1, 200), seed=st.integers(0, 2**32 - 1))
def test_elias_takes_the_sum_of_the_codewords(count: int, seed: int) -> None:
    """For x, k + 2 floor(log2(k + 1)) + 1 bits with k = floor(log2 x); in whole bytes, after the first."""
    values = skewed(count, 2**40, seed)
    logs = [int(value + 1).bit_length() - 1 for value in values]
    expected = sum(log + 2 * ((log + 1).bit_length() - 1) + 1 for log in logs)
    assert len(encode(values, 2**62, "elias")) == 1 + min(
        math.ceil(expected / 8), packed_nbytes(count, 2**62)
    )


# Thresholds and entropies of the Gaussian Lloyd-Max quantizers of 4 and 8 levels (exact; Max 1960).
LLOYD_MAX = {1.9111: [0.0, 0.98160], 2.8249: [0.0, 0.50055, 1.04996, 1.747935]}


@pytest.mark.parametrize(("entropy", "thresholds"), LLOYD_MAX.items())
def test_rans_reaches_the_entropy_of_a_quantized_gaussian(entropy: float, thresholds: list[float]) -> None:
    """Within 1 %: the entropy of 10^6 draws within 4 * 1.5 / 1000 bits, a lane of 4096 values 16 bits."""
    cuts = np.array([*(-t for t in thresholds[:0:-1]), *thresholds])
    values = np.searchsorted(cuts, np.random.default_rng(0).standard_normal(10**6))
    data = encode(values, len(cuts) + 1, "rans")
    assert 8 * len(data) / 10**6 == pytest.approx(entropy, rel=0.01)
    assert 8 * len(data) >= 10**6 * empirical_entropy(values)
    np.testing.assert_array_equal(decode(data, 10**6, len(cuts) + 1, "rans"), values)


@pytest.mark.parametrize("step", [2.0, 0.3, 0.03, 0.003])
@pytest.mark.parametrize("count", [10**4, 3 * 10**5])
def test_rans_stays_within_a_percent_and_its_table_of_the_empirical_entropy(step: float, count: int) -> None:
    """A symbol of the table takes a gap of 1 bit or little more and a frequency below 2^14 of at most 27."""
    values = gaussian(count, step)
    symbols = np.unique(values).size
    entropy = count * empirical_entropy(values)
    spent = 8 * len(encode(values, 2**20, "rans"))
    assert entropy <= spent <= 1.01 * entropy + 30 * symbols + 100


def test_rans_codes_a_symbol_that_never_changes_in_a_few_bytes() -> None:
    values = np.full(10**5, 7)
    data = encode(values, 16, "rans")
    assert len(data) <= 1 + 8 + 4 * (10**5 // 4096)
    np.testing.assert_array_equal(decode(data, 10**5, 16, "rans"), values)


def test_rans_codes_few_symbols_far_apart() -> None:
    values = np.array([0, 2**61, 2**62 - 1])[np.random.default_rng(0).integers(0, 3, 3000)]
    data = encode(values, 2**62, "rans")
    assert len(data) <= 3000 * math.log2(3) / 8 * 1.01 + 60
    np.testing.assert_array_equal(decode(data, 3000, 2**62, "rans"), values)


def scalar_rans(data: bytes, count: int) -> list[int]:
    """The decoder once more, with Python's integers and one bit after the other."""
    stream = iter(bits(data))

    def gammas(how_many: int) -> list[int]:
        zeros = []
        while len(zeros) < how_many:
            run = 0
            while next(stream) == "0":
                run += 1
            zeros.append(run)
        numbers = [1] * how_many
        for depth in range(max(zeros)):
            for i in range(how_many):
                if zeros[i] > depth:
                    numbers[i] = 2 * numbers[i] + int(next(stream))
        return numbers

    total_bits, size = gammas(2)
    total_bits -= 1
    gaps, frequencies = gammas(size), gammas(size)
    used = 8 * len(data) - len(list(stream))
    symbols = [sum(gaps[: i + 1]) - 1 for i in range(size)]
    slots = [(i, slot) for i, frequency in enumerate(frequencies) for slot in range(frequency)]
    lanes = max(1, count // 4096)
    at = math.ceil(used / 8)
    states = [int.from_bytes(data[at + 4 * i : at + 4 * i + 4], "little") for i in range(lanes)]
    at += 4 * lanes
    values = []
    for n in range(count):
        lane = n % lanes
        i, slot = slots[states[lane] % (1 << total_bits)]
        values.append(symbols[i])
        states[lane] = frequencies[i] * (states[lane] >> total_bits) + slot
        if states[lane] < 1 << 16:
            states[lane] = states[lane] << 16 | int.from_bytes(data[at : at + 2], "little")
            at += 2
    assert at == len(data)
    assert states == [1 << 16] * lanes
    return values


@pytest.mark.parametrize(("count", "step"), [(1000, 0.5), (9000, 0.05), (20_000, 3.0)])
def test_rans_is_what_a_scalar_decoder_reads(count: int, step: float) -> None:
    values = gaussian(count, step)
    data = encode(values, 1024, "rans")
    assert data[0] == CODED
    assert scalar_rans(data[1:], count) == values.tolist()


def coded(coder: str) -> tuple[bytes, int, int]:
    values = np.random.default_rng(3).geometric(0.7, 150) - 1
    data = encode(values, 32, coder)
    assert data[0] == CODED
    return data, 150, 32


@pytest.mark.parametrize("coder", CODERS)
def test_every_truncation_and_every_surplus_is_refused(coder: str) -> None:
    data, count, levels = coded(coder)
    for wrong in [data[:i] for i in range(len(data))] + [data + b"\0", data + b"\0\0", data + b"\1\1"]:
        with pytest.raises(ValueError):
            decode(wrong, count, levels, coder)


@pytest.mark.parametrize("coder", CODERS)
def test_every_flipped_bit_is_refused_or_gives_other_values_within_the_range(coder: str) -> None:
    data, count, levels = coded(coder)
    values = decode(data, count, levels, coder)
    for i in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[i // 8] ^= 1 << i % 8
        try:
            other = decode(bytes(damaged), count, levels, coder)
        except ValueError:
            continue
        assert other.size == count
        assert int(other.max()) < levels
        assert not np.array_equal(other, values)


@settings(deadline=None)
@given(
    data=st.binary(max_size=64),
    count=st.integers(0, 500),
    levels=st.integers(1, 2**62),
    coder=st.sampled_from(CODERS),
)
@example(data=b"\1" + b"\xff" * 40, count=500, levels=2**62, coder="elias")
@example(data=b"\1" + b"\0" * 40, count=1, levels=2**62, coder="elias")
@example(data=b"\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0", count=100, levels=2**62, coder="elias")
@example(data=b"\1" + b"\0" * 40, count=500, levels=2**62, coder="rans")
@example(data=b"\1" + b"\xff" * 40, count=500, levels=2**62, coder="rans")
def test_arbitrary_bytes_give_values_or_a_value_error(
    data: bytes, count: int, levels: int, coder: str
) -> None:
    try:
        values = decode(data, count, levels, coder)
    except ValueError:
        return
    assert values.size == count
    assert values.size == 0 or (int(values.min()) >= 0 and int(values.max()) < levels)


@pytest.mark.parametrize("coder", CODERS)
def test_a_huge_count_fails_before_memory_is_asked_for(coder: str) -> None:
    data, _, levels = coded(coder)
    with pytest.raises(ValueError):
        decode(data, 2**60, levels, coder)


def test_rans_must_end_in_the_state_it_began_with() -> None:
    values = np.zeros(100, dtype=np.int64)
    data = bytearray(encode(values, 256, "rans"))
    assert bytes(data[-4:]) == (1 << 16).to_bytes(4, "little")
    data[-4] ^= 1
    with pytest.raises(ValueError, match="do not end where they began"):
        decode(bytes(data), 100, 256, "rans")
    data[-4:] = (0xFFFF).to_bytes(4, "little")
    with pytest.raises(ValueError, match="below 2\\^16"):
        decode(bytes(data), 100, 256, "rans")


def test_rans_tables_that_make_no_sense_are_refused() -> None:
    far = encode(np.arange(4000) % 2 * 500, 1000, "rans")
    with pytest.raises(ValueError, match=r"a symbol 500, outside \[0, 300\)"):
        decode(far, 4000, 300, "rans")
    state = (1 << 16).to_bytes(4, "little")
    short = int(
        "010110" + "11" + "1010" + "0000", 2
    )  # 2^(3 - 1) slots, 2 symbols; gaps 1, 1; frequencies 1, 2
    with pytest.raises(ValueError, match=r"do not add up to 2\^2"):
        decode(b"\1" + short.to_bytes(2, "big") + state, 100, 2, "rans")
    exact = int(
        "010100" + "11" + "11" + "000000", 2
    )  # 2^(2 - 1) slots, 2 symbols; gaps 1, 1; frequencies 1, 1
    with pytest.raises(ValueError, match="the words end before the values do"):
        decode(b"\1" + exact.to_bytes(2, "big") + state, 100, 2, "rans")


def test_modes_and_lengths_that_no_encoder_writes_are_refused() -> None:
    for data in (b"", b"\2\0", b"\xff"):
        with pytest.raises(ValueError, match="a byte 0 or 1"):
            decode(data, 3, 4, "elias")
    with pytest.raises(ValueError, match="fewer packed"):
        decode(b"\1\xe0", 3, 4, "elias")  # 1, 1, 1 in one byte, which pack needs as well


@pytest.mark.parametrize("coder", ["fixed", "huffman", ""])
def test_unknown_coders_are_refused(coder: str) -> None:
    with pytest.raises(ValueError, match="use elias or rans"):
        encode(np.array([1]), 4, coder)
    with pytest.raises(ValueError, match="use elias or rans"):
        decode(b"\0\0", 1, 4, coder)


@pytest.mark.parametrize("coder", CODERS)
def test_values_outside_the_range_are_refused(coder: str) -> None:
    for bad in ([-1], [4], [2**32]):
        with pytest.raises(ValueError, match=r"outside \[0, 4\)"):
            encode(np.array(bad), 4, coder)
        with pytest.raises(ValueError, match=r"outside \[0, 4\)"):
            kt_bits(np.array(bad), 4)


@settings(deadline=None)
@given(levels=st.integers(1, 12), raw=st.lists(st.integers(0, 11), max_size=25))
def test_kt_is_the_product_of_its_predictions(levels: int, raw: list[int]) -> None:
    values = [value % levels for value in raw]
    probability = Fraction(1)
    for n, value in enumerate(values):
        probability *= Fraction(2 * values[:n].count(value) + 1, 2 * n + levels)
    expected = math.log2(probability.denominator) - math.log2(probability.numerator)
    assert kt_bits(np.array(values, dtype=np.int64), levels) == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_kt_of_one_symbol_repeated(count: int) -> None:
    """Of two levels, prod (i + 1/2) / (i + 1) = C(2n, n) / 4^n."""
    expected = 2 * count - math.log2(math.comb(2 * count, count))
    assert kt_bits(np.ones(count, dtype=np.int64), 2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("levels", [3, 2**24, 2**31, 2**62])
@pytest.mark.parametrize("count", [1, 2, 1000, 100_000])
def test_kt_of_distinct_values_is_a_sum_of_logarithms(levels: int, count: int) -> None:
    """The i-th costs log2((i + L/2) / (1/2)). The special functions keep 10 digits, the sum more."""
    count = min(count, levels)
    values = np.arange(count) * (levels // count)
    expected = count * math.log2(levels) + math.fsum(
        math.log1p(2 * i / levels) for i in range(count)
    ) / math.log(2)
    assert kt_bits(values, levels) == pytest.approx(expected, rel=1e-10)


def test_kt_does_not_mistake_a_small_sample_for_a_small_alphabet() -> None:
    """2^24 equally likely codewords on 43,690 blocks: 24 bits each, where the plug-in entropy says 15.4."""
    values = np.random.default_rng(0).integers(0, 2**24, 43_690)
    assert empirical_entropy(values) == pytest.approx(math.log2(43_690), abs=0.01)
    assert 24 <= kt_bits(values, 2**24) / 43_690 <= 24.01


@settings(deadline=None)
@given(ones=st.integers(0, 5000), zeros=st.integers(0, 5000))
def test_kt_redundancy_of_a_binary_source(ones: int, zeros: int) -> None:
    """At most log2(n) / 2 + 1 bits above n times the empirical entropy, and never below it."""
    count = ones + zeros
    values = np.repeat([1, 0], [ones, zeros])
    ideal = sum(k * math.log2(count / k) for k in (ones, zeros) if k)
    excess = kt_bits(values, 2) - ideal
    assert -1e-6 <= excess <= (math.log2(count) / 2 + 1 if count else 0) + 1e-6


def test_kt_needs_no_bits_where_there_is_nothing_to_say() -> None:
    assert kt_bits(np.zeros(0, dtype=np.int64), 2**62) == 0
    assert kt_bits(np.zeros(1000, dtype=np.int64), 1) == 0
