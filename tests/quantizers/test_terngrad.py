import functools
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from qbench.quantizers.qsgd import QSGD
from qbench.quantizers.terngrad import TernGrad
from qbench.testing import parametrize_checks


@pytest.fixture
def code(code):
    """Draws of another seed than the data's."""
    return functools.partial(code, seed=1)


@pytest.mark.parametrize(
    ("n", "times", "expected", "error"), [(128, 8192, 1.262, 0.002), (1 << 16, 40, 2.552, 0.007)]
)
def test_relative_variance_of_gaussian_buckets(code, gaussian, n, times, expected, error):
    """Against a simulation with its own standard error: |z| < 4."""
    x = gaussian(times, n)
    decoded = code(TernGrad(bucket_size=n), x).reconstruction
    found = (decoded - x).double().square().sum(1) / x.double().square().sum(1)
    own = float(found.std()) / math.sqrt(times)
    assert abs(float(found.mean()) - expected) < 4 * math.hypot(own, error)


@pytest.mark.parametrize("clip", [None, 2.5, 1.0])
def test_mean_and_variance_given_the_values(code, gaussian, clip):
    """100 values 4096 times: mean y, the clipped x, and variance |y| (a - |y|), both within 5 standard errors."""
    times, v = 4096, gaussian(100)
    decoded = code(TernGrad(bucket_size=100, clip=clip), v.repeat(times, 1)).reconstruction.double()
    largest = float(v.double().abs().max())
    a = min(largest, (clip or math.inf) * float(v.double().square().mean().sqrt()))
    y = v.double().clamp(-a, a)
    variance = y.abs() * (a - y.abs())
    z = (decoded.mean(0) - y) / (variance / times).sqrt().clamp(min=1e-6)
    assert float(z.abs().max()) < 5
    squares = (decoded - y).square().sum(1)
    assert abs(float(squares.mean() - variance.sum())) < 5 * float(squares.std()) / math.sqrt(times)


@pytest.mark.parametrize("clip", [1.5, 2.5])
def test_clipped_gaussian_by_closed_form(code, gaussian, z_score, clip):
    """With y = min(|x|, c): c E y - E y^2 from rounding, E (|x| - y)^2 from clipping; 4 standard errors."""
    inside = quad(lambda t: 2 * t * (clip - t) * norm.pdf(t), 0, clip)[0]
    outside = quad(lambda t: 2 * (t - clip) ** 2 * norm.pdf(t), clip, math.inf)[0]
    x = gaussian(1 << 18)
    assert abs(z_score(x, code(TernGrad(clip=clip), x).reconstruction, inside + outside)) < 4


def test_is_qsgd_of_one_level_in_units_of_the_largest(code, gaussian):
    x = gaussian(3000)
    one = code(QSGD(levels=1, norm="max", bucket_size=700), x).reconstruction
    assert torch.equal(code(TernGrad(bucket_size=700), x).reconstruction, one)


def test_by_hand(code):
    x = torch.tensor([1.0, -1.0, 0.0, 0.0, 0.25, -0.25, 0.0])
    assert torch.equal(code(TernGrad(bucket_size=4), x).reconstruction, x)


def test_a_clip_beyond_the_largest_changes_nothing(code, gaussian):
    x = gaussian(1000)
    assert torch.equal(code(TernGrad(clip=100.0), x).reconstruction, code(TernGrad(), x).reconstruction)


def test_rates(code, gaussian):
    """Fixed: 5 symbols a byte; rANS within 1 % and 50 bytes of the entropy, which sparse codes need less than 1.6."""
    x = gaussian(1 << 16)
    fixed, rans, elias = (code(TernGrad(coder=c), x) for c in ("fixed", "rans", "elias"))
    # schema 1 + (6 + 1) + (6 + 2), scale 1 + 1 + 4, count 3
    assert fixed.nbytes == math.ceil((1 << 16) / 5) + 16 + 6 + 3
    shares = fixed.codes["codes"].values.long().bincount().double() / x.numel()
    entropy = float(-(shares * shares.log2()).sum()) * x.numel() / 8
    assert entropy < rans.nbytes < 1.01 * entropy + 50
    assert rans.nbytes < elias.nbytes < fixed.nbytes
    assert torch.equal(rans.reconstruction, elias.reconstruction)


def test_unbiased_unless_clipped():
    assert TernGrad().is_unbiased
    assert not TernGrad(clip=2.5).is_unbiased


@parametrize_checks([TernGrad(**point) for point in TernGrad.sweep] + [TernGrad(clip=2.5)])
def test_contract(quantizer, check):
    check(quantizer)
