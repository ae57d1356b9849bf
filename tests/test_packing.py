"""Fixed-length packing: lengths in closed form, layout, and one encoding for each array of values."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qbench.packing import MAX_LEVELS, flatten, narrowest, pack, packed_nbytes, unpack

LEVELS = st.one_of(
    st.integers(1, 40), st.integers(1, MAX_LEVELS), st.integers(0, 62).map(lambda bits: 1 << bits)
)


def draw(count: int, levels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, levels, count)


@settings(deadline=None)
@given(levels=LEVELS, count=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
@example(levels=MAX_LEVELS, count=3, seed=0)
@example(levels=1, count=7, seed=0)
@example(levels=3, count=0, seed=0)
def test_values_come_back_in_the_narrowest_dtype(levels: int, count: int, seed: int) -> None:
    values = draw(count, levels, seed)
    data = pack(values, levels)
    back = unpack(data, count, levels)
    assert len(data) == packed_nbytes(count, levels)
    assert back.dtype == narrowest(levels)
    assert back.flags.writeable
    np.testing.assert_array_equal(back, values)


@settings(deadline=None)
@given(levels=LEVELS, count=st.integers(1, 300))
def test_the_largest_values_come_back(levels: int, count: int) -> None:
    values = np.full(count, levels - 1)
    np.testing.assert_array_equal(unpack(pack(values, levels), count, levels), values)


@pytest.mark.parametrize("levels", [2, 3, 5, 16, 17, 100, 256, 257, 300, 4096, 2**31, 10**12, 2**40 + 1])
@pytest.mark.parametrize("count", [16383, 16384, 16385, 100_003])
def test_long_arrays_come_back(levels: int, count: int) -> None:
    values = draw(count, levels, count)
    np.testing.assert_array_equal(unpack(pack(values, levels), count, levels), values)


@settings(deadline=None)
@given(levels=LEVELS, count=st.integers(0, 10**6))
def test_the_length_is_at_least_what_counting_asks_and_at_most_bit_planes(levels: int, count: int) -> None:
    bits = (levels - 1).bit_length()
    nbytes = packed_nbytes(count, levels)
    assert nbytes <= bits * math.ceil(count / 8) + 8
    if count < 2000:
        assert 256**nbytes >= levels**count


@settings(deadline=None)
@given(bits=st.integers(0, 62), count=st.integers(0, 10**6))
def test_eight_values_of_b_bits_take_b_bytes(bits: int, count: int) -> None:
    assert packed_nbytes(8 * count, 1 << bits) == bits * count


# The best word of at most 8 bytes by hand:
# 3^5 = 243 <= 2^8; 6^3 = 216 <= 2^8; 7^17 = 2.3e14 <= 2^48 = 2.8e14; 5^24 = 5.96e16 <= 2^56 = 7.2e16;
# 11^16 = 4.59e16 <= 2^56; 17^15 = 2.9e18 <= 2^64 = 1.8e19. 257 levels take 9 bits in planes, 64/7 in words.
@pytest.mark.parametrize(
    ("levels", "values_per_word", "bytes_per_word"),
    [(3, 5, 1), (5, 24, 7), (17, 15, 8), (6, 3, 1), (7, 17, 6), (11, 16, 7), (257, 8, 9)],
)
def test_rates_of_other_level_counts(levels: int, values_per_word: int, bytes_per_word: int) -> None:
    assert packed_nbytes(values_per_word * 1000, levels) == bytes_per_word * 1000


@pytest.mark.parametrize(
    ("count", "levels", "nbytes"),
    [
        (0, 5, 0),
        (10**12, 1, 0),
        (1, 16, 1),
        (1, 2**31, 4),
        (1, 2**62, 8),
        (3, 2**12, 5),
        (25, 5, 8),
        (9, 3, 2),
        (10, 2**10, 13),
    ],
)
def test_what_fills_no_word_takes_as_few_bytes_as_it_can(count: int, levels: int, nbytes: int) -> None:
    assert packed_nbytes(count, levels) == nbytes


def test_a_plane_holds_one_bit_of_every_value_first_value_lowest() -> None:
    assert pack(np.array([1, 0, 1, 1, 0, 0, 0, 1, 1]), 2) == bytes([0b10001101, 1])
    assert pack(np.array([0, 1, 2, 3, 3, 3, 0, 0]), 4) == bytes([0b00111010, 0b00111100])


def test_whole_bytes_come_as_byte_planes_lowest_first() -> None:
    values = np.array([0x102, 0x304, 0xF06, 0x008] * 2)
    assert pack(values, 2**16) == bytes([2, 4, 6, 8] * 2 + [1, 3, 15, 0] * 2)
    twelve = bytes([2, 4, 6, 8] * 2) + bytes([0b01110111, 0b01100110, 0b01000100, 0b01000100])
    assert pack(values, 2**12) == twelve
    assert pack(values % 256, 256) == bytes([2, 4, 6, 8] * 2)


def test_a_radix_word_is_the_number_its_digits_spell_and_digits_are_planes() -> None:
    digits = np.array(
        [[1, 2], [0, 1], [2, 0], [1, 0], [2, 2]]
    )  # five digits of two words, lowest digit first
    words = [sum(int(digit) * 3**i for i, digit in enumerate(column)) for column in digits.T]
    assert pack(digits, 3) == bytes(words)
    assert pack(np.append(digits.ravel(), [2, 1]), 3) == bytes([*words, 2 + 3 * 1])


@pytest.mark.parametrize(
    ("levels", "count", "nbytes"),
    [(3, 4, 1), (5, 3, 1), (6, 4, 2), (2, 5, 1), (2, 9, 2), (16, 3, 2), (200, 1, 1)],
)
def test_bytes_that_unpack_are_the_bytes_that_pack_makes(levels: int, count: int, nbytes: int) -> None:
    """Of all 256^nbytes strings exactly levels^count are accepted, so no data hides in unused bits."""
    assert packed_nbytes(count, levels) == nbytes
    accepted = 0
    for number in range(256**nbytes):
        data = number.to_bytes(nbytes, "little")
        try:
            values = unpack(data, count, levels)
        except ValueError:
            continue
        accepted += 1
        assert pack(values, levels) == data
    assert accepted == levels**count


@pytest.mark.parametrize("levels", [2, 3, 5, 16, 100, 256, 300, 2**62])
def test_a_wrong_length_is_refused(levels: int) -> None:
    data = pack(draw(50, levels, 0), levels)
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(
            ValueError, match=f"50 values of {levels} levels take {len(data)} bytes, not {len(wrong)}"
        ):
            unpack(wrong, 50, levels)


def test_words_planes_and_padding_that_no_values_make_are_refused() -> None:
    with pytest.raises(ValueError, match=r"radix word holds 243, at least 3\^5"):
        unpack(bytes([242, 243]), 10, 3)
    with pytest.raises(ValueError, match="last radix word holds 9"):
        unpack(bytes([0, 0, 9]), 12, 3)
    with pytest.raises(ValueError, match=r"outside \[0, 200\)"):
        unpack(bytes([199, 200]), 2, 200)
    with pytest.raises(ValueError, match="a bit is set after the last value"):
        unpack(bytes([0b100000]), 5, 2)


@pytest.mark.parametrize("levels", [2, 3, 200, 256, 2**15, 2**31, 2**62])
@pytest.mark.parametrize("offset", [-1, 0, 2**16, 2**62])
def test_values_outside_the_range_are_refused_before_they_are_narrowed(levels: int, offset: int) -> None:
    bad = offset if offset < 0 else levels + offset
    with pytest.raises(ValueError, match=rf"outside \[0, {levels}\)"):
        pack(np.array([0, bad], dtype=np.int64 if bad < 0 else np.uint64), levels)


@pytest.mark.parametrize("levels", [0, -3, 2**62 + 1, 2**64])
def test_level_counts_outside_the_range_are_refused(levels: int) -> None:
    for call in (
        lambda: packed_nbytes(3, levels),
        lambda: pack(np.zeros(0, int), levels),
        lambda: unpack(b"", 0, levels),
    ):
        with pytest.raises(ValueError, match=f"not {levels}"):
            call()


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="a count of -1"):
        unpack(b"", -1, 4)


@pytest.mark.parametrize("values", [np.array([1.0]), np.array([True]), np.array(["a"]), np.array([None])])
def test_only_integers_are_packed(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="only integers"):
        pack(values, 4)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, ">i4"]
)
@pytest.mark.parametrize("levels", [5, 16, 100])
def test_neither_dtype_nor_strides_change_the_bytes(dtype: str, levels: int) -> None:
    values = draw(24, levels, 1)
    expected = pack(values, levels)
    assert pack(values.astype(dtype), levels) == expected
    assert pack(np.repeat(values, 3).astype(dtype)[::3], levels) == expected
    assert pack(np.asfortranarray(values.reshape(4, 6)).astype(dtype), levels) == expected


def test_views_of_bytes_unpack() -> None:
    values = draw(33, 5, 2)
    data = b"head" + pack(values, 5) + b"tail"
    np.testing.assert_array_equal(unpack(memoryview(data)[4:-4], 33, 5), values)


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [(1, "u1"), (256, "u1"), (257, "i2"), (2**15, "i2"), (2**15 + 1, "i4"), (2**31, "i4"), (2**31 + 1, "i8")],
)
def test_the_narrowest_dtype_holds_the_largest_value_and_no_narrower_does(levels: int, dtype: str) -> None:
    assert narrowest(levels) == np.dtype(dtype)
    assert flatten(np.array([[levels - 1]]), levels).dtype == np.dtype(dtype)
