import math
from hashlib import shake_128

import pytest
import torch
from scipy import linalg, stats

from qbench.quantizers.rotation import block_sizes, hadamard, rotate, rotate_back, signs, turn, turn_back


@pytest.mark.parametrize("n", [1, 2, 4, 64, 128, 1024])
def test_hadamard_is_the_matrix(gaussian, n):
    x = gaussian(3, n).double()
    kept = x.clone()
    expected = x @ torch.from_numpy(linalg.hadamard(n)).double() / math.sqrt(n)
    assert torch.allclose(hadamard(x), expected, rtol=0, atol=1e-13)
    assert torch.equal(x, kept)


def test_a_row_does_not_depend_on_the_others(gaussian):
    """Bit for bit: whatever the layout in memory, each output is the same sums in the same order."""
    x = gaussian(5, 2, 256)
    whole = hadamard(x)
    assert all(torch.equal(whole[i, j], hadamard(x[i, j])) for i in range(5) for j in range(2))
    assert torch.equal(hadamard(x.transpose(0, 1)).transpose(0, 1), whole)


@pytest.mark.parametrize("n", [0, 3, 96])
def test_a_length_that_is_no_power_of_two_is_refused(n):
    with pytest.raises(ValueError, match=f"not {n}; split"):
        hadamard(torch.zeros(2, n))


def test_a_transform_of_integers_is_exact():
    """64 entries: sums of integers, halved three times; a spike becomes a row of the matrix."""
    spike = torch.zeros(64)
    spike[5] = 8.0
    assert torch.equal(hadamard(spike), torch.from_numpy(linalg.hadamard(64)[5]).float())


@pytest.mark.parametrize("n", [0, 1, 2, 7, 13, 1000, 4096, 5000])
def test_rotating_back_returns_and_the_norm_stays(gaussian, n):
    x = gaussian(2, 3, n).double()
    y = rotate(x, seed=11)
    assert y.shape == x.shape
    assert torch.allclose(rotate_back(y, seed=11), x, rtol=0, atol=1e-12)
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), rtol=1e-12)
    assert rotate(x.float(), seed=11).dtype == torch.float32


def test_rotating_back_is_the_transpose(gaussian):
    identity = torch.eye(100, dtype=torch.float64)
    assert torch.allclose(rotate(identity, 3).T, rotate_back(identity, 3), rtol=0, atol=1e-15)


def test_blocks_mix_for_themselves():
    assert [sum(block_sizes(n)) for n in range(300)] == list(range(300))
    y = rotate(torch.ones(1000), seed=0)
    spike = torch.zeros(1000)
    spike[600] = 1.0
    inside = rotate(spike, seed=0)[512:768]
    assert torch.allclose(inside.abs(), torch.full((256,), 1 / 16), rtol=1e-6)
    assert float(rotate(spike, seed=0).square().sum()) == pytest.approx(float(inside.square().sum()))
    assert y.unique().numel() > 10


def test_turns_are_by_the_angles_of_the_hash():
    """t = (k + 1/2) / 2^15 - 1 is the tangent of half an angle, k the hash in pairs of bytes, lowest first."""
    octets = shake_128(b"turns/7").digest(6)
    y = turn(torch.tensor([1.0, 0.0] * 3, dtype=torch.float64), seed=7).reshape(3, 2)
    for i, (cosine, sine) in enumerate(y.tolist()):
        angle = 2 * math.atan((int.from_bytes(octets[2 * i : 2 * i + 2], "little") + 0.5) / 2**15 - 1)
        assert (cosine, sine) == pytest.approx((math.cos(angle), math.sin(angle)), abs=1e-14)


@pytest.mark.parametrize("n", [0, 2, 48])
def test_turning_back_is_the_inverse_and_the_transpose(gaussian, n):
    x = gaussian(3, n).double()
    assert torch.allclose(turn_back(turn(x, 5), 5), x, rtol=0, atol=1e-14)
    identity = torch.eye(n, dtype=torch.float64)
    assert torch.allclose(turn(identity, 5).T, turn_back(identity, 5), rtol=0, atol=1e-15)
    assert turn(x.float(), 5).dtype == torch.float32


def test_signs_are_the_bits_of_the_hash():
    bits = shake_128(b"signs/7").digest(2)
    assert signs(7, 16).tolist() == [1 - 2 * (bits[i // 8] >> i % 8 & 1) for i in range(16)]
    assert torch.equal(signs(7, 1001)[:77], signs(7, 77))
    assert not torch.equal(signs(7, 77), signs(8, 77))


def test_signs_are_balanced_and_uncorrelated():
    """z of the sum and of lag products under fair signs; 5 z-scores, the largest below its .9999 quantile."""
    n = 1 << 18
    drawn = signs(1, n).double()
    sums = [float(drawn.sum()), *(float(drawn[lag:] @ drawn[:-lag]) for lag in (1, 2, 8, 64))]
    assert max(map(abs, sums)) / math.sqrt(n) < stats.norm.isf(1e-4 / 10)


def test_a_rotated_spike_train_looks_gaussian(gaussian):
    """One large and 4095 small values: the fourth moment falls from about d to 3, within 4 SE over 64 rotations.

    For fixed x, E over signs of the fourth moment is 3 - 2 sum x^4 / (sum x^2)^2 in units of the variance.
    """
    x = gaussian(1, 4096).double() * 0.1
    x[0, 17] = 3.0
    rotated = torch.stack([rotate(x[0], seed) for seed in range(64)])
    fourth = rotated.pow(4).mean(1) / rotated.square().mean(1).square()
    expected = 3 - 2 * float(x.pow(4).sum() / x.square().sum().square())
    assert abs(float(fourth.mean()) - expected) < 4 * float(fourth.std()) / math.sqrt(64)
