"""Samples of known families come back as what they are; statistics against scipy's."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from qbench.distributions import FAMILIES, TESTED, best_family, fit_families, kolmogorov_smirnov
from qbench.errors import InputError

N = 20_000


def signed(magnitudes: np.ndarray, seed: int = 5) -> np.ndarray:
    return magnitudes * np.random.default_rng(seed).choice([-1, 1], magnitudes.shape)


SAMPLES = {
    "gaussian": (stats.norm(scale=2.0), {"scale": 2.0}),
    "laplace": (stats.laplace(scale=0.5), {"scale": 0.5}),
    "generalized-gaussian": (stats.gennorm(0.5, scale=3.0), {"scale": 3.0, "shape": 0.5}),
    "student": (stats.t(4, scale=1.5), {"scale": 1.5, "df": 4.0}),
    "lognormal": (stats.lognorm(1.2, scale=math.exp(-2)), {"log_mean": -2.0, "log_sd": 1.2}),
}


def sample(family: str) -> np.ndarray:
    x = SAMPLES[family][0].rvs(N, random_state=11)
    return signed(x) if family == "lognormal" else x


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_is_of_its_family(family: str) -> None:
    """By BIC; every parameter within 3 standard errors, also in units of 1e-12."""
    truth = SAMPLES[family][1]
    for unit in (1.0, 1e-12):
        fits = fit_families(sample(family) * unit)
        assert best_family(fits) == family
        found = fits[family]
        for name, value in truth.items():
            expected = value * unit if name == "scale" else value + math.log(unit) * (name == "log_mean")
            assert abs(found.parameters[name] - expected) <= 3 * found.standard_errors[name]
        assert found.ks_p > 0.01
        assert found.ad_p > 0.01


def test_the_other_families_are_told_apart_by_distance() -> None:
    """Laplace and the Gaussian of its variance are .0620 apart; distances of n = 4096 vary by less than 1 / sqrt(n)."""
    fits = fit_families(sample("laplace"))
    assert fits["gaussian"].ks == pytest.approx(0.0620, abs=1 / math.sqrt(TESTED))
    assert fits["gaussian"].ks_p < 1e-4
    assert fits["gaussian"].ad_p < 1e-6


def test_a_pool_of_gaussians_is_none_but_its_rows_are() -> None:
    scales = np.exp(np.random.default_rng(0).standard_normal(8))
    rows = stats.norm.rvs(size=(8, 4000), random_state=2) * scales[:, None]
    assert best_family(fit_families(rows)) != "gaussian"
    assert [best_family(fit_families(row)) for row in rows] == ["gaussian"] * 8


def test_likelihood_and_criteria_are_scipys() -> None:
    x = sample("student")[:3000]
    fits = fit_families(x)
    p = {name: fit.parameters for name, fit in fits.items()}
    expected = {
        "gaussian": stats.norm.logpdf(x, scale=p["gaussian"]["scale"]),
        "laplace": stats.laplace.logpdf(x, scale=p["laplace"]["scale"]),
        "generalized-gaussian": stats.gennorm.logpdf(
            x, p["generalized-gaussian"]["shape"], scale=p["generalized-gaussian"]["scale"]
        ),
        "student": stats.t.logpdf(x, p["student"]["df"], scale=p["student"]["scale"]),
        "lognormal": stats.lognorm.logpdf(
            abs(x), p["lognormal"]["log_sd"], scale=math.exp(p["lognormal"]["log_mean"])
        )
        - math.log(2),
    }
    for name, fit in fits.items():
        k, total = len(fit.parameters), expected[name].sum()
        assert fit.log_likelihood == pytest.approx(total, rel=1e-9)
        assert (fit.aic, fit.bic) == pytest.approx(
            (2 * k - 2 * total, k * math.log(3000) - 2 * total), rel=1e-9
        )


def test_distances_are_scipys() -> None:
    """p is asymptotic here, its first correction included: within 1 / sqrt(n) / 3 of the exact one."""
    x = sample("gaussian")[:TESTED]
    fit = fit_families(x)["gaussian"]
    law = stats.norm(scale=fit.parameters["scale"])
    other = stats.kstest(x, law.cdf)
    assert fit.ks == pytest.approx(other.statistic, rel=1e-9)
    assert fit.ks_p == pytest.approx(other.pvalue, abs=1 / math.sqrt(TESTED) / 3)
    known = {"loc": 0.0, "scale": fit.parameters["scale"]}
    darling = stats.goodness_of_fit(stats.norm, x, known_params=known, statistic="ad", n_mc_samples=2)
    assert fit.ad == pytest.approx(darling.statistic, rel=1e-6)


@pytest.mark.parametrize(("z", "p"), [(1.248, 0.25), (1.933, 0.10), (2.492, 0.05), (3.857, 0.01)])
def test_anderson_darling_p_is_the_published_table(z: float, p: float) -> None:
    """Stephens 1974, case 0, printed to three decimals."""
    from qbench.distributions import _anderson_darling_p

    assert _anderson_darling_p(z) == pytest.approx(p, abs=5e-4)


def test_distance_of_a_sample_by_hand() -> None:
    """F = .5, .1 and .4, n = 3: at the largest F_n jumps from 2/3 to 1."""
    assert kolmogorov_smirnov(np.array([0.5, 0.1, 0.4])) == pytest.approx(0.5)


def test_zeros_are_left_out_and_tensors_taken() -> None:
    x = sample("laplace")[:1000]
    with_zeros = torch.from_numpy(np.concatenate([np.zeros(500), x])).reshape(30, 50)
    assert fit_families(with_zeros) == fit_families(x)


def test_only_so_many_values_are_tested() -> None:
    fit = fit_families(sample("laplace"), tested=500)["laplace"]
    assert (fit.n, fit.tested) == (N, 500)
    assert fit_families(sample("laplace"))["laplace"].tested == TESTED


def test_extreme_values_leave_every_number_finite() -> None:
    """One outlier far beyond where the Gaussian's tail underflows."""
    fits = fit_families(np.append(sample("gaussian")[:1000], 1e9))
    assert all(
        math.isfinite(value) for fit in fits.values() for value in (fit.log_likelihood, fit.ks, fit.ad)
    )
    assert best_family(fits) in ("student", "lognormal")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.array([1.0, np.nan] * 8), "8 of 16 values"),
        (np.array([0.0] * 20 + [1.0]), "1 values are not zero; a fit needs at least 8"),
        (np.array([2.0, -2.0] * 8), "all magnitudes are equal"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit_families(x)
