"""Messages: bytes counted and bytes written, what comes back, and bytes that nobody wrote."""

import math
import resource
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qbench import packing
from qbench.errors import PayloadError
from qbench.message import (
    Message,
    Stream,
    entropy_bits,
    is_coded,
    map_streams,
    narrowest,
    nbytes,
    pack,
    to_device,
    unpack,
)

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
]


def equal(a: Message, b: Message) -> bool:
    return list(a) == list(b) and all(same(a[name], b[name]) for name in a)


def same(a: Stream | Tensor | Message, b: Stream | Tensor | Message) -> bool:
    if isinstance(a, Stream) and isinstance(b, Stream):
        return (a.levels, a.coder) == (b.levels, b.coder) and same(a.values, b.values)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) if t.numel() else t for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    return isinstance(a, dict) and isinstance(b, dict) and equal(a, b)


def bell(count: int, levels: int) -> Tensor:
    x = torch.randn(count, generator=torch.Generator().manual_seed(count))
    return (x * levels / 8 + levels / 2).round().clamp(0, levels - 1)


def everything() -> Message:
    generator = torch.Generator().manual_seed(0)
    tensors: Message = {
        str(dtype): (torch.randn(2, 3, 4, generator=generator) * 50).abs().to(dtype) for dtype in DTYPES
    }
    return {
        "tensors": tensors,
        "scalar": torch.tensor(1.5),
        "empty": {},
        "nothing": torch.zeros(0, 7),
        "deep": {"er": {"still": {"codes": Stream(bell(100, 5), 5)}}},
        "bits": Stream(torch.tensor([True, False, True]), 2),
        "seed": Stream(torch.tensor([2**62 - 1]), 2**62),
        "none": Stream(torch.zeros(0), 3),
        "silent": Stream(torch.zeros(1000), 1),
        "elias": Stream(torch.arange(50) // 10, 1000, "elias"),
        "rans": Stream(bell(5000, 16), 16, "rans"),
        "grüße": torch.tensor([math.nan, -0.0, math.inf]),
    }


def small() -> Message:
    return {
        "s": Stream(torch.tensor([0, 4, 2, 1, 3]), 5),
        "t": torch.tensor([[1.0, -2.0]], dtype=torch.float16),
        "n": {"b": torch.tensor([True, False]), "e": Stream(torch.tensor([0, 1, 0, 9]), 300, "elias")},
        "r": Stream((torch.arange(200) % 50 == 0).int(), 40, "rans"),
        "o": Stream(torch.zeros(3), 1),
    }


@pytest.mark.parametrize("message", [everything(), small(), {}], ids=["everything", "small", "nothing"])
def test_a_message_reads_itself_and_its_bytes_are_counted(message: Message) -> None:
    data = pack(message)
    back, used = unpack(data + b"what follows")
    assert used == len(data) == nbytes(message)
    assert equal(back, message)


@settings(deadline=None)
@given(
    levels=st.one_of(st.integers(1, 300), st.integers(1, 2**62)),
    count=st.integers(0, 200),
    coder=st.sampled_from(["fixed", "elias", "rans"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_streams_come_back(levels: int, count: int, coder: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    message: Message = {"codes": Stream(torch.randint(levels, (count,), generator=generator), levels, coder)}  # type: ignore[arg-type]
    data = pack(message)
    assert len(data) == nbytes(message)
    back, used = unpack(data)
    assert used == len(data)
    assert equal(back, message)


def test_every_byte_of_a_message_by_hand() -> None:
    message: Message = {
        "ab": Stream(torch.tensor([1, 0, 1]), 2),
        "c": {"d": torch.tensor([[1.0], [2.0]])},
        "e": Stream(torch.tensor([0, 0, 1, 0]), 300, "elias"),
    }
    names = [b"\3", b"\2ab\x20\2", b"\1c\0\1", b"\1d\1", b"\1e\x21\xac\2"]  # 300 = 2 * 128 + 0x2c
    bits, floats = b"\3\5", b"\2\2\1" + struct.pack("<2f", 1, 2)
    elias = b"\4\2" + bytes([1, 0b11011_0_0_0])  # prefixes 1 1 01 1, length 0, remainder 0
    assert pack(message) == b"".join([*names, bits, floats, elias])


def test_bytes_are_counted_without_looking_at_values() -> None:
    codes = Stream(torch.zeros(1001, dtype=torch.uint8), 5)
    assert nbytes({"c": codes}) == 1 + 2 + 2 + 2 + packing.packed_nbytes(1001, 5)
    assert nbytes({"x": torch.empty(300, 7, dtype=torch.float16)}) == 1 + 2 + 1 + 1 + 2 + 1 + 2 * 2100


def test_what_comes_back_can_be_written_to_and_keeps_no_hold_of_the_bytes() -> None:
    data = bytearray(pack(everything()))
    back, _ = unpack(memoryview(data))
    data[:] = bytes(len(data))
    assert equal(back, everything())
    scalar = back["scalar"]
    assert isinstance(scalar, Tensor)
    assert float(scalar.add_(1)) == 2.5


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint16, torch.uint32, torch.uint64])
def test_a_stream_takes_integers_of_any_dtype_and_keeps_them_flat_and_narrow(dtype: torch.dtype) -> None:
    stream = Stream(torch.tensor([[1, 0], [1, 1]]).to(dtype), 256)
    assert stream.values.dtype == torch.uint8
    assert stream.values.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("levels", [1, 2, 256, 257, 2**15, 2**15 + 1, 2**31, 2**31 + 1, 2**62])
def test_torch_and_numpy_agree_on_the_narrowest_dtype(levels: int) -> None:
    assert torch.empty(0, dtype=narrowest(levels)).numpy().dtype == packing.narrowest(levels)
    assert Stream(torch.tensor([levels - 1]), levels).values.tolist() == [levels - 1]


@pytest.mark.parametrize(
    ("values", "levels", "coder", "words"),
    [
        (torch.tensor([0, 4]), 4, "fixed", r"from 0 to 4, outside \[0, 4\)"),
        (torch.tensor([-1, 3]), 4, "fixed", "from -1 to 3"),
        (torch.tensor([256]), 4, "fixed", "256"),
        (torch.tensor([2**32]), 4, "fixed", str(2**32)),
        (torch.tensor([0.5]), 4, "fixed", "round the codes"),
        (torch.tensor([math.nan]), 4, "fixed", "round the codes"),
        (torch.tensor([math.inf]), 4, "fixed", "outside"),
        (torch.tensor([0]), 0, "fixed", "1 to 2\\^62 levels, not 0"),
        (torch.tensor([0]), 2**62 + 1, "fixed", "1 to 2\\^62 levels"),
        (torch.tensor([0]), 4, "zip", "'zip'; use one of fixed, elias, rans"),
    ],
)
def test_a_stream_refuses_what_it_cannot_hold(values: Tensor, levels: int, coder: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Stream(values, levels, coder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (
            {"x": torch.zeros(1, dtype=torch.complex64)},
            ValueError,
            "'x' has dtype torch.complex64; a message holds",
        ),
        ({"x": [1, 2]}, TypeError, "'x' is a list"),
        ({3: torch.zeros(1)}, TypeError, "not 3"),
    ],
)
def test_what_cannot_travel_is_refused(message: Message, error: type[Exception], words: str) -> None:
    for call in (pack, nbytes):
        with pytest.raises(error, match=words):
            call(message)


def nested(depth: int) -> Message:
    return {"n": nested(depth - 1)} if depth else {}


def test_messages_nest_sixteen_deep_and_no_deeper() -> None:
    assert equal(unpack(pack(nested(16)))[0], nested(16))
    with pytest.raises(ValueError, match="at most 16 deep"):
        pack(nested(17))
    with pytest.raises(PayloadError, match="more than 16 deep"):
        unpack(b"\1\1n\0" * 1000 + b"\0")


@pytest.mark.parametrize(("message", "step"), [(everything(), 17), (small(), 1)], ids=["everything", "small"])
def test_truncations_are_refused(message: Message, step: int) -> None:
    data = pack(message)
    for length in [*range(0, len(data), step), len(data) - 1]:
        with pytest.raises(PayloadError, match="cut short or damaged"):
            unpack(data[:length])


def test_every_flipped_bit_is_refused_or_gives_another_message() -> None:
    data = pack(small())
    for i in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[i // 8] ^= 1 << i % 8
        message = check(bytes(damaged))
        assert message is None or not equal(message, small())


@settings(deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_give_another_message(source: st.DataObject) -> None:
    damaged = bytearray(pack(small()))
    places = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for at, byte in source.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[at] = byte
    check(bytes(damaged))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_are_a_message(data: bytes) -> None:
    check(data)


def check(data: bytes) -> Message | None:
    """A message and its bytes belong to each other: what unpacks is what a message packs to."""
    try:
        message, used = unpack(data)
    except PayloadError:
        return None
    fixed = map_streams(message, lambda stream: Stream(stream.values, stream.levels))
    assert equal(unpack(pack(fixed))[0], fixed)
    if not is_coded(message):
        assert pack(message) == data[:used]
    return message


@pytest.mark.parametrize(
    "data",
    [
        b"\1\1a\x20\1" + b"\xff" * 8 + b"\x7f",  # 2^63 - 1 values of one level: no bytes
        b"\1\1a\x20\2" + b"\xff" * 8 + b"\x7f",
        b"\1\1a\x21\2" + b"\xff" * 8 + b"\x7f" + b"\2\1\xff",
        b"\1\1a\x22\2" + b"\xff" * 8 + b"\x7f" + b"\2\1\xff",
        b"\1\1a\1\2" + b"\xff\xff\xff\xff\x7f" * 2,
        b"\1\1a\1\3\0" + (b"\xff" * 8 + b"\x7f") * 2,
        b"\1\1a\1\xff" + b"\1" * 255 + b"\0\0\0\0",
        b"\xff" * 8 + b"\x7f",
        b"\1" + b"\xff" * 8 + b"\x7f",
    ],
)
def test_a_huge_count_is_refused_before_memory_is_asked_for(data: bytes) -> None:
    """Peak memory in KiB before and after: 2^28 values, the most that a reader takes, would be 2^18 KiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PayloadError):
        unpack(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 18


def test_many_streams_of_no_bytes_share_one_limit() -> None:
    schema = b"".join(bytes([1, 60 + i, 0x20, 1]) for i in range(64))
    with pytest.raises(PayloadError, match=f"{33 * 2**23} values in 513 bytes"):
        unpack(b"\x40" + schema + b"\x80\x80\x80\x04" * 64)


def test_a_writer_refuses_what_a_reader_would() -> None:
    silent = Stream(torch.zeros(1, dtype=torch.uint8).expand(2**20), 1)
    message: Message = {f"{i}": silent for i in range(300)}
    with pytest.raises(ValueError, match="a reader refuses 314572800 values"):
        pack(message)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\2\1a\1\1a\1\0\0", "'a' stands there twice"),
        (b"\1\1a\x63", "unknown kind 99"),
        (b"\x81\0\1a\0\0", "leading zeros"),
        (b"\1\1\xff\1", "utf-8"),
        (b"\1\1a\x0a\1\1\2", "neither 0 nor 1"),
        (b"\1\1a\x20\2\1\2", "a bit is set"),
        (b"\1\1a\x20\0\1\2", "2\\^62 levels"),
        (b"\1\1a\x21\4\4\2\2\0", "a byte 0 or 1"),
    ],
)
def test_every_message_has_one_encoding(data: bytes, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        unpack(data)


def test_entropy_bits_of_a_message_by_hand() -> None:
    """512 zeros of two levels: log2(4^512 / C(1024, 512)) bits and one that says so, instead of 512."""
    kt = 1024 - math.log2(math.comb(1024, 512))
    constant = Stream(torch.zeros(512), 2)
    around = 8 * (1 + 2 + 2 + 2)  # entries, name, kind and levels, count
    assert entropy_bits({"c": constant}) == pytest.approx(around + kt + 1, abs=1e-6)
    tensor: Message = {"c": constant, "x": torch.zeros(10)}
    assert entropy_bits(tensor) == pytest.approx(around + kt + 1 + 8 * (2 + 1 + 2 + 40), abs=1e-6)
    nested_one: Message = {"n": {"c": constant}}
    assert entropy_bits(nested_one) == pytest.approx(around + 8 * 4 + kt + 1, abs=1e-6)


def test_entropy_bits_are_never_more_than_a_bit_a_stream_above_the_bytes() -> None:
    distinct = Stream(torch.arange(256), 256)  # KT: sum log2((i + 128) / (1/2)) > 8 * 256
    assert entropy_bits({"c": distinct}) == 8 * nbytes({"c": distinct}) + 1
    assert 8 * nbytes(everything()) - 8 * 7000 < entropy_bits(everything()) <= 8 * nbytes(everything()) + 5


@pytest.mark.parametrize("coder", ["elias", "rans"])
def test_coded_streams_count_their_real_bytes(coder: str) -> None:
    message: Message = {"c": Stream(torch.zeros(5000), 16, coder)}  # type: ignore[arg-type]
    assert entropy_bits(message) == 8 * nbytes(message) == 8 * len(pack(message))


def test_a_message_is_coded_if_one_stream_at_any_depth_is() -> None:
    fixed, coded = Stream(torch.zeros(3), 4), Stream(torch.zeros(3), 4, "rans")
    assert not is_coded({"a": fixed, "n": {"b": fixed, "x": torch.zeros(3)}})
    assert is_coded({"a": fixed, "n": {"m": {"b": coded}}})


def test_map_streams_changes_streams_alone_and_keeps_the_order() -> None:
    message = everything()
    del message["seed"]
    changed = map_streams(message, lambda stream: Stream(stream.values, stream.levels + 1, "rans"))
    assert list(changed) == list(message)
    assert same(changed["tensors"], message["tensors"])
    deep = changed["deep"]["er"]["still"]["codes"]  # type: ignore[index, call-overload]
    assert isinstance(deep, Stream)
    assert (deep.levels, deep.coder) == (6, "rans")
    assert equal(unpack(pack(changed))[0], changed)


def test_to_device_keeps_the_message() -> None:
    assert equal(to_device(everything(), "cpu"), everything())
    meta = to_device({"x": torch.zeros(3), "n": {"y": torch.zeros(2)}}, "meta")
    assert meta["x"].device.type == "meta"  # type: ignore[union-attr]
    assert meta["n"]["y"].device.type == "meta"  # type: ignore[index, union-attr]
