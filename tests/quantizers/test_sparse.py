import math

import pytest
import torch
from scipy.special import gammaln

from qbench.errors import PayloadError
from qbench.message import Stream, nbytes, pack, unpack
from qbench.quantizers.sparse import read_positions, read_signed, write_positions, write_signed

CODINGS = ["index", "bitmap", "elias", "rans"]


def subset(count, kept, seed=0):
    """So many of ``count`` positions, all sets alike, ascending."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:kept].sort().values


def log2_choose(n, k):
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)) / math.log(2)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("count", [1, 2, 7, 1000, 70_000])
def test_positions_come_back_from_their_bytes(coding, count):
    sets = [subset(count, kept) for kept in {0, 1, count // 50, count // 2, count - 1, count}]
    for kept in [*sets, torch.tensor([count - 1]), torch.tensor([0])]:
        message, _ = unpack(pack(write_positions(kept, count, (coding,))))
        assert torch.equal(read_positions(message, count), kept)


@pytest.mark.parametrize("coding", CODINGS)
def test_no_positions_among_no_elements(coding):
    none = torch.zeros(0, dtype=torch.long)
    assert read_positions(write_positions(none, 0, (coding,)), 0).numel() == 0


def test_bytes_by_hand():
    """Schema 1 + (1 + 5) + 1 + 2 and a count of 2 bytes; 200 indices of 16 bits; a bitmap 1 + 1 + 6 + 1 + 1 + 3."""
    kept = subset(1 << 16, 200)
    assert nbytes(write_positions(kept, 1 << 16, ("index",))) == 1 + 6 + 1 + 3 + 2 + 200 * 2
    assert nbytes(write_positions(kept, 1 << 16, ("bitmap",))) == 1 + 7 + 1 + 1 + 3 + (1 << 13)


@pytest.mark.parametrize("share", [1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5, 0.9])
def test_rans_comes_within_two_percent_of_the_entropy(share):
    """log2 C(n, k) bits for equally likely sets: no code is 40 bits shorter but for one set in 2^40. 50 bytes for
    schema, counts, state and frequencies."""
    n = 1 << 18
    k = round(share * n)
    bits = 8 * nbytes(write_positions(subset(n, k), n, ("rans",)))
    assert log2_choose(n, k) - 40 < bits < 1.02 * log2_choose(n, k) + 8 * 50


@pytest.mark.parametrize("share", [1e-3, 0.1])
def test_elias_takes_the_delta_code_of_each_gap(share):
    n = 1 << 16
    kept = subset(n, round(share * n))
    numbers = kept.diff(prepend=torch.tensor([-1])).tolist()
    lengths = [g.bit_length() for g in numbers]
    bits = sum(length - 1 + 2 * length.bit_length() - 1 for length in lengths)
    stream = write_positions(kept, n, ("elias",))["gaps"]
    assert len(stream.coded) == 1 + math.ceil(bits / 8)


@pytest.mark.parametrize(
    ("share", "best"), [(1e-3, "index"), (0.01, "high"), (0.1, "high"), (0.5, "bitmap"), (1.0, "high")]
)
def test_the_shortest_is_chosen(share, best):
    n = 1 << 14
    kept = subset(n, round(share * n))
    chosen = write_positions(kept, n, CODINGS)
    assert nbytes(chosen) == min(nbytes(write_positions(kept, n, (coding,))) for coding in CODINGS)
    assert best in chosen


@pytest.mark.parametrize("coder", ["fixed", "elias", "rans"])
@pytest.mark.parametrize("largest", [1, 2, 100])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.6, 50.0])
def test_signed_integers_come_back_from_their_bytes(coder, largest, spread):
    generator = torch.Generator().manual_seed(0)
    numbers = (spread * torch.randn(5000, generator=generator)).round().clamp(-largest, largest).int()
    for part in (numbers, numbers[:1], numbers[:0]):
        message, _ = unpack(pack(write_signed(part, largest, coder)))
        assert torch.equal(read_signed(message, part.numel(), largest), part.float())


def test_positions_outside_the_tensor_are_refused():
    with pytest.raises(PayloadError, match="position 9 in a tensor of 9"):
        read_positions({"index": Stream(torch.tensor([1, 9]), 10)}, 9)
    with pytest.raises(PayloadError, match="position 4 in a tensor of 4"):
        read_positions({"gaps": Stream(torch.tensor([2, 1]), 10)}, 4)
    with pytest.raises(PayloadError, match="no numbers 'low'"):
        read_positions({}, 4)
