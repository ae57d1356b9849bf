import functools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from qbench.errors import ParameterError
from qbench.quantizers.probabilistic import Probabilistic
from qbench.testing import parametrize_checks

TWO = {"scheme": "two-level"}


@pytest.fixture
def code(code):
    """Draws of another seed than the data's."""
    return functools.partial(code, seed=1)


def mean_product_of_extremes(n):
    """E[min max] of n standard Gaussians: their joint density on a grid of 0.01, smooth and far below 1 at its edge."""
    x = np.arange(-8, 8, 0.01)
    low, high = x[:, None], x[None, :]
    between = np.clip(norm.cdf(high) - norm.cdf(low), 0, None)
    density = n * (n - 1) * norm.pdf(low) * norm.pdf(high) * between ** (n - 2)
    return float((low * high * density).sum() * 0.01**2)


@pytest.mark.parametrize("range_", ["minmax", "symmetric"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_mean_and_variance_given_the_values(code, gaussian, bits, range_):
    """100 values 4096 times: mean x and variance (upper - x)(x - lower), both within 5 standard errors."""
    times, v = 4096, gaussian(100)
    quantizer = Probabilistic(bits=bits, range=range_, granularity="group", group_size=100)
    decoded = code(quantizer, v.repeat(times, 1)).reconstruction.double()
    ends = (v.double().min(), v.double().max()) if range_ == "minmax" else (-v.abs().max(), v.abs().max())
    step = float(ends[1] - ends[0]) / (2**bits - 1)
    # the ends are float16, rounded outwards by up to 2^-10: a level moves, and p with it
    p = ((v.double() - ends[0]) / step) % 1
    moved = (p > 0.02) & (p < 0.98)
    variance = (step**2 * p * (1 - p))[moved]
    assert int(moved.sum()) > 80
    z = (decoded.mean(0) - v)[moved] / (variance / times).sqrt()
    assert float(z.abs().max()) < 5
    assert abs(float(z.square().mean()) - 1) < 5 * math.sqrt(2 / z.numel())
    # a ratio of variances has the variance (1 / (p (1 - p)) - 4) / times; 2^-10 of the range in step and p
    pp = (p * (1 - p))[moved]
    spread = float(((1 / pp - 4) / times).clamp(min=0).mean().sqrt()) / math.sqrt(z.numel())
    ratio = float((decoded.var(0)[moved] / variance).mean())
    assert abs(ratio - 1) < 5 * spread + 2**-10 * (2 + 2**bits * float((1 / pp).mean()))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_uniform_error_is_step_squared_over_six(code, z_score, bits):
    """On the whole range; step^2 / 6, with the ends of the sample within 1e-5 of those of the source."""
    x = 2 * torch.rand(1 << 18, generator=torch.Generator().manual_seed(0)) - 1
    x[:2] = torch.tensor([-1.0, 1.0])
    decoded = code(Probabilistic(bits=bits, granularity="tensor"), x).reconstruction
    assert abs(z_score(x, decoded, (2 / (2**bits - 1)) ** 2 / 6)) < 4


def test_two_levels_of_gaussian_groups_by_order_statistics(code, gaussian):
    """sum (high - x)(x - low) has the mean 2 - n - n E[low high], as E[high sum x] = 1. 4 standard errors, and 2^-10
    of the range for float16. A group of 16 has one sign with probability 2^-15."""
    n, groups = 16, 1 << 14
    x = gaussian(groups, n)
    decoded = code(Probabilistic(**TWO, group_size=n), x).reconstruction
    found = (decoded - x).double().square().sum(1)
    expected = 2 - n - n * mean_product_of_extremes(n)
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / math.sqrt(groups) + 2**-9 * expected


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["gaussian", "opposite", "one"])
def test_bounds_of_suresh(code, gaussian, kind, bits):
    """Mean squared error <= d / (2 (k - 1)^2) |x|^2 on 2000 draws; of two opposite values among d - 2 zeros, each half
    way between two levels, it is (d - 2) / d of that in every draw.
    """
    d, k = 64, 2**bits
    v = gaussian(d) if kind == "gaussian" else torch.zeros(d)
    v[0], v[1] = (1.0, -1.0) if kind == "opposite" else (v[0] if kind == "gaussian" else 1.0, v[1])
    x = v.repeat(2000, 1)
    errors = (code(Probabilistic(bits=bits, group_size=d), x).reconstruction - x).double().square().sum(1)
    bound = d / (2 * (k - 1) ** 2) * float(v.square().sum())
    assert float(errors.mean()) <= bound
    if kind == "opposite":
        assert float(errors.mean()) == pytest.approx(bound * (d - 2) / d, rel=1e-5)


def test_two_levels_are_the_ends(code):
    x = torch.tensor([0.75, -0.5, 0.25, 0.0, 0.125, 0.5])
    assert set(code(Probabilistic(**TWO), x).reconstruction.tolist()) <= {0.75, -0.5}
    assert set(code(Probabilistic(**TWO, range="symmetric"), x).reconstruction.tolist()) <= {0.75, -0.75}
    assert torch.equal(code(Probabilistic(**TWO), x).reconstruction[:2], x[:2])


def test_symmetric_two_levels_are_a_hard_sigmoid(code):
    """P(+1) = (x + 1) / 2 at x = -.5, 0, .5; binomial, 4 standard errors."""
    n = 1 << 14
    for value in (-0.5, 0.0, 0.5):
        x = torch.full((n,), value)
        x[0] = 1.0
        decoded = code(Probabilistic(**TWO, range="symmetric", granularity="tensor"), x).reconstruction[1:]
        p = (value + 1) / 2
        assert abs(float((decoded > 0).double().mean()) - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_two_levels_are_random_rounding_of_one_bit(code, gaussian):
    x = gaussian(500)
    one = code(Probabilistic(bits=1), x).reconstruction
    assert torch.equal(code(Probabilistic(**TWO), x).reconstruction, one)


def test_two_levels_of_more_than_a_bit_are_refused():
    with pytest.raises(ParameterError, match="two-level takes one bit"):
        Probabilistic(scheme="two-level", bits=2)


@parametrize_checks(
    [Probabilistic(**point) for point in Probabilistic.sweep]
    + [Probabilistic(range="symmetric", granularity=g) for g in ("tensor", "channel")]
)
def test_contract(quantizer, check):
    check(quantizer)
