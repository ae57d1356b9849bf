"""Gradients' codes beside their Gaussian predictions: REFERENCE values and integrals over the Laplace density."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from qbench.errors import InputError
from qbench.gradient_coding import (
    CURVE,
    best_beta,
    coding_figures,
    predicted_error,
    rate_distortion,
    runs,
    strata,
)
from qbench.quantizers.lloyd_max import fixed_levels

GAUSSIAN = {1: 0.363380, 2: 0.117482, 3: 0.0345478, 4: 0.00950101}
LAPLACE = {2: 0.176195, 4: 0.0153725}
N = 2**15


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def source(name: str, n: int = N) -> torch.Tensor:
    rng = np.random.default_rng(8)
    return torch.from_numpy(
        rng.laplace(scale=0.5**0.5, size=n) if name == "laplace" else rng.standard_normal(n)
    )


def table_error_on_laplace(bits: int) -> float:
    levels = fixed_levels("gaussian", 2**bits).double().numpy()
    levels, ends = levels[levels > 0], [0.0]
    ends += [*((levels[1:] + levels[:-1]) / 2), math.inf]

    def error(x: float, level: float) -> float:
        return (x - level) ** 2 * math.exp(-math.sqrt(2) * x) / math.sqrt(2)

    cells = zip(levels, ends, ends[1:])
    return 2 * sum(integrate.quad(error, low, high, args=(level,))[0] for level, low, high in cells)


@pytest.mark.parametrize("bits", GAUSSIAN)
def test_prediction_is_the_known_distortion(bits: int) -> None:
    assert predicted_error(bits) == pytest.approx(GAUSSIAN[bits], rel=5e-6)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_gaussian_codes_as_predicted(bits: int) -> None:
    """Squared errors have a standard deviation of 2 to 3 means: 4.34 * 3 / sqrt(N) = .07 dB, two of these."""
    found = coding_figures(source("gaussian"), N)
    assert abs(found[f"coding_gap_db_{bits}"]) < 0.15
    assert -0.1 < found[f"adapting_gain_db_{bits}"] < 0.1


@pytest.mark.parametrize("bits", [2, 4])
def test_laplace_has_the_gaps_of_its_integrals(bits: int) -> None:
    """Outliers make up much of the fixed table's error at 4 bits: there its standard error is about .2 dB."""
    found = coding_figures(source("laplace", 4 * N), 10**9)
    wrong, tolerance = table_error_on_laplace(bits), {2: 0.15, 4: 0.6}[bits]
    gap, gain = 10 * math.log10(wrong / GAUSSIAN[bits]), 10 * math.log10(wrong / LAPLACE[bits])
    assert found[f"coding_gap_db_{bits}"] == pytest.approx(gap, abs=tolerance)
    assert found[f"adapting_gain_db_{bits}"] == pytest.approx(gain, abs=tolerance)
    assert gain > 0.25


def test_a_learned_codebook_is_charged() -> None:
    """At 4 bits 16 levels of 4 bytes instead of one scale of 2: 496 bits and a name's difference, at 6.02 dB."""
    x = source("gaussian", 4096)
    free, charged = (coding_figures(x, elements)["adapting_gain_db_4"] for elements in (10**12, 4096))
    assert free - charged == pytest.approx(6.0206 * 496 / 4096, rel=0.1)


def test_coding_knows_no_unit_nor_order() -> None:
    x = source("laplace", 5000)
    assert coding_figures(x.flip(0) * 2**-60, 5000) == coding_figures(x, 5000)


def test_nothing_is_coded_of_zeros() -> None:
    assert all(map(math.isnan, coding_figures(torch.zeros(100), 100).values()))


def test_strata_are_distinct_and_ascend() -> None:
    chosen = strata(1000, 300, generator())
    assert len(chosen) == 300
    assert bool((chosen.diff() > 0).all())
    assert bool((chosen >= torch.arange(300) * 1000 // 300).all())
    assert bool((chosen < torch.arange(1, 301) * 1000 // 300).all())
    assert strata(7, 300, generator()).tolist() == list(range(7))


def test_runs_are_of_eight_neighbours() -> None:
    x = runs(torch.arange(1, 100_001, dtype=torch.float64), generator())
    assert x.shape == (2**14,)
    steps = x.double().reshape(-1, 8).diff(dim=1)
    assert float(steps.max() / steps.min()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("g", [torch.ones(7), torch.zeros(100)])
def test_nothing_to_code_is_refused(g: torch.Tensor) -> None:
    with pytest.raises(InputError, match="nothing to code"):
        rate_distortion(g, generator())


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_a_curve_beside_its_prediction(name: str) -> None:
    """A Gaussian has no gaps; Laplace at b bits that of its own Lloyd-Max levels, with k-means. Of 2^14 coordinates."""
    points = rate_distortion(source(name, 2**16).reshape(256, 256), generator())
    gaps = {point.code: point.gap_db for point in points}
    assert len(gaps) == len(CURVE)
    for bits in (2, 4):
        expected = {"gaussian": 0.0, "laplace": 10 * math.log10(LAPLACE.get(bits, 1) / GAUSSIAN[bits])}[name]
        assert gaps[f"kmeans(bits={bits},levels=null)"] == pytest.approx(expected, abs=0.25)
    if name == "gaussian":
        assert max(map(abs, gaps.values())) < 0.35
    # Laplace: an entropy coder at 2 bits reaches .073675, and .088941 on the Gaussian
    expected = {"gaussian": 0.0, "laplace": 10 * math.log10(0.073675 / 0.088941)}[name]
    assert gaps["ecsq(rate=2.0)"] == pytest.approx(expected, abs=0.25)


def test_rates_are_those_of_the_codes() -> None:
    points = rate_distortion(source("gaussian"), generator())
    by_code = {point.code: point for point in points}
    assert by_code["kmeans(bits=2,levels=null)"].rate == pytest.approx(2, abs=0.05)
    assert by_code["kmeans(bits=2,levels=null)"].predicted_sqnr_db == pytest.approx(9.30, abs=0.15)


def test_the_best_beta_of_a_gaussian_is_the_gaussians() -> None:
    """On a grid of 2^(1/16) two samples may differ by two steps."""
    found = best_beta(source("gaussian"), generator())
    assert abs(math.log2(found.beta / found.gaussian_beta)) <= 2 / 16
    assert abs(found.gain_db) < 0.05


def test_a_mixture_of_scales_wants_a_smaller_beta_than_a_gaussian() -> None:
    """.99 N(0, .1^2) + .01 N(0, 1) in vectors of eight: most are .7 of the root mean square long."""
    rng = np.random.default_rng(0)
    wide = rng.random((N // 8, 1)) < 0.01
    x = torch.from_numpy(rng.standard_normal((N // 8, 8)) * np.where(wide, 1.0, 0.1))
    found = best_beta(x * 1e-9, generator())
    assert math.log2(found.beta / found.gaussian_beta) < -2 / 16
    assert found.gain_db > 0.05
