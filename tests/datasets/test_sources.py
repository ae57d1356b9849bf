"""Every iid source against its distribution in scipy, and its limit against REFERENCE and closed forms.

Five standard errors, or a p-value of 1e-6, at fixed seeds: a correct source fails one check in two million.
"""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from qbench.components import Source
from qbench.datasets import scale_mixture, uniform
from qbench.datasets.gaussian import Gaussian
from qbench.datasets.laplacian import Laplacian
from qbench.datasets.limits import shannon_lower_bound
from qbench.datasets.scale_mixture import ScaleMixture
from qbench.datasets.uniform import Uniform

N = 2**20
DEVIATION = math.sqrt(0.0199)


def mixture_cdf(x):
    return 0.99 * stats.norm.cdf(x, scale=0.1 / DEVIATION) + 0.01 * stats.norm.cdf(x, scale=1 / DEVIATION)


def mixture_pdf(x):
    return 0.99 * stats.norm.pdf(x, scale=0.1 / DEVIATION) + 0.01 * stats.norm.pdf(x, scale=1 / DEVIATION)


# source, distribution function, kurtosis E x^4 / (E x^2)^2, in closed form
SOURCES = [
    pytest.param(Gaussian(), stats.norm.cdf, 3.0, id="gaussian"),
    pytest.param(Laplacian(), stats.laplace(scale=math.sqrt(0.5)).cdf, 6.0, id="laplacian"),
    pytest.param(Uniform(), stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)).cdf, 1.8, id="uniform"),
    pytest.param(ScaleMixture(), mixture_cdf, 3 * (0.99e-4 + 0.01) / 0.0199**2, id="scale-mixture"),
]
each_source = pytest.mark.parametrize(("source", "cdf", "kurtosis"), SOURCES)


def draw(source: Source, count: int = N, seed: int = 1) -> torch.Tensor:
    return source.sample(count, torch.Generator().manual_seed(seed))


@each_source
def test_values_are_float32_and_finite(source, cdf, kurtosis):
    x = draw(source)
    assert x.shape == (N,)
    assert x.dtype == torch.float32
    assert x.device.type == "cpu"
    assert torch.isfinite(x).all()


@each_source
@pytest.mark.parametrize("count", [0, 1, 17])
def test_any_count(source, cdf, kurtosis, count):
    assert draw(source, count).shape == (count,)


@each_source
def test_zero_mean_and_unit_variance(source, cdf, kurtosis):
    x = draw(source).double()
    assert abs(x.mean()) < 5 / math.sqrt(N)
    assert abs(x.square().mean() - 1) < 5 * math.sqrt((kurtosis - 1) / N)


@each_source
def test_distribution(source, cdf, kurtosis):
    assert stats.kstest(draw(source, 200_000).numpy(), cdf).pvalue > 1e-6


@each_source
@pytest.mark.parametrize("threshold", [1.5, 3.0, 4.5])
def test_tails(source, cdf, kurtosis, threshold):
    x = draw(source)
    for share, beyond in ((1 - cdf(threshold), x > threshold), (cdf(-threshold), x < -threshold)):
        assert abs(int(beyond.sum()) - N * share) <= 5 * math.sqrt(N * share)


@each_source
def test_neighbours_are_uncorrelated(source, cdf, kurtosis):
    x = draw(source).double()
    # The product of two independent values of unit variance has unit variance.
    assert abs((x[1:] * x[:-1]).mean()) < 5 / math.sqrt(N)


@each_source
def test_draws_depend_on_the_generator_alone(source, cdf, kurtosis):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = draw(source, 1000)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, draw(source, 1000))
    assert not torch.equal(first, draw(source, 1000, seed=2))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(first, source.sample(1000, generator))
    assert not torch.equal(first, source.sample(1000, generator))


def test_uniform_grid_holds_neither_zero_nor_an_end(monkeypatch):
    extremes = torch.tensor([0, 2**51 - 1, 2**51, 2**52 - 1])
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: extremes)
    u = uniform.symmetric_uniform(4, torch.Generator())
    assert u.tolist() == [-1 + 2**-52, -(2**-52), 2**-52, 1 - 2**-52]
    x = Laplacian().sample(4, torch.Generator()).double()
    # P(X > x) = (1 - u) / 2 = 2^-53 at the end, so x = log(2^52) / sqrt(2); float32 has 24 bits
    assert x[3].item() == pytest.approx(52 * math.log(2) / math.sqrt(2), rel=2**-24)
    assert x[0] == -x[3]
    assert 0 < x[2] == -x[1]


def test_gaussian_limit_is_the_rate_distortion_function():
    assert Gaussian.limit == "rate-distortion function"
    for bits, distortion in ((0, 1.0), (1, 0.25), (2, 0.0625), (3, 0.015625), (4, 0.00390625)):
        assert Gaussian().distortion_limit(bits) == distortion
    assert Gaussian().distortion_limit(1.5) == pytest.approx(0.125, rel=1e-15)


def test_laplacian_limit():
    assert Laplacian().distortion_limit(0) == pytest.approx(math.e / math.pi, rel=1e-14)
    assert Laplacian().distortion_limit(0) == pytest.approx(0.86526, abs=5e-6)
    assert Laplacian().distortion_limit(3) == pytest.approx(math.e / math.pi / 64, rel=1e-14)


def test_laplacian_limit_lies_below_the_best_scalar_codes():
    for rate, ecsq in ((1, 0.26499), (2, 0.073675), (3, 0.01902), (4, 0.004796)):
        gap = 10 * math.log10(ecsq / Laplacian().distortion_limit(rate))
        assert 0 < gap < 10 * math.log10(math.pi * math.e / 6)  # at most the 1.533 dB of high rate


def test_uniform_limit():
    assert Uniform().distortion_limit(0) == pytest.approx(6 / (math.pi * math.e), rel=1e-14)
    # a uniform quantizer of a uniform source: step^2 / 12 = 4^-R, 1.533 dB above the bound
    gap = 10 * math.log10(4.0**-5 / Uniform().distortion_limit(5))
    assert gap == pytest.approx(10 * math.log10(math.pi * math.e / 6), rel=1e-12)


def test_mixture_entropy_against_simpsons_rule():
    x = np.linspace(-60, 60, 2_400_001)
    p = mixture_pdf(x)
    surprise = np.where(p > 0, -p * np.log2(np.where(p > 0, p, 1)), 0)
    assert scale_mixture.entropy_bits() == pytest.approx(integrate.simpson(surprise, x=x), abs=1e-9)


def test_mixture_entropy_against_its_own_draws():
    surprise = -np.log2(mixture_pdf(draw(ScaleMixture()).double().numpy()))
    error = surprise.std() / math.sqrt(N)
    assert abs(surprise.mean() - scale_mixture.entropy_bits()) < 5 * error


def test_mixture_entropy_lies_between_those_of_known_and_unknown_component():
    gaussian = math.log2(math.sqrt(2 * math.pi * math.e))
    known = gaussian + 0.99 * math.log2(0.1) - math.log2(DEVIATION)
    label = -0.99 * math.log2(0.99) - 0.01 * math.log2(0.01)
    assert known < scale_mixture.entropy_bits() < known + label


@each_source
def test_no_source_of_unit_variance_is_harder_than_a_gaussian(source, cdf, kurtosis):
    for rate in (0.0, 0.5, 1.0, 3.7, 8.0):
        assert 0 < source.distortion_limit(rate) <= 4.0**-rate
        assert source.distortion_limit(rate + 1) == pytest.approx(
            source.distortion_limit(rate) / 4, rel=1e-12
        )


def test_shannon_lower_bound_of_a_gaussian_is_its_rate_distortion_function():
    for sigma in (0.01, 1.0, 30.0):
        entropy = math.log2(sigma * math.sqrt(2 * math.pi * math.e))
        assert shannon_lower_bound(entropy, 2.5) == pytest.approx(sigma**2 * 4**-2.5, rel=1e-13)


@each_source
def test_name_and_parameters(source, cdf, kurtosis):
    assert str(source.spec) == source.name
    assert type(source)().spec == source.spec
