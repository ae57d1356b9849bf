"""Densities against scipy's, Fisher information against an integral, estimates against scipy's slow search."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from qbench.errors import InputError
from qbench.families import FAMILIES, density, generalized_gaussian_shape

PARAMETERS = {
    "gaussian": {"scale": 1.3},
    "laplace": {"scale": 0.7},
    "generalized-gaussian": {"scale": 0.9, "shape": 1.4},
    "student": {"scale": 1.1, "df": 3.5},
    "lognormal": {"log_mean": -0.4, "log_sd": 0.8},
}


def scipys(family: str, p: dict[str, float]):
    return {
        "gaussian": lambda: stats.norm(scale=p["scale"]),
        "laplace": lambda: stats.laplace(scale=p["scale"]),
        "generalized-gaussian": lambda: stats.gennorm(p["shape"], scale=p["scale"]),
        "student": lambda: stats.t(p["df"], scale=p["scale"]),
        "lognormal": lambda: stats.lognorm(p["log_sd"], scale=math.exp(p["log_mean"])),
    }[family]()


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_and_tails_are_scipys(family: str) -> None:
    p, x = PARAMETERS[family], np.array([-6.0, -1.1, -0.2, 0.3, 2.0, 7.0])
    other, sides = scipys(family, p), 1 if family == "lognormal" else 2
    at = np.abs(x) if family == "lognormal" else x
    assert density(family, p, x) == pytest.approx(other.pdf(at) * sides / 2, rel=1e-12)
    assert FAMILIES[family].survival(np.abs(x), p) == pytest.approx(sides * other.sf(np.abs(x)), rel=1e-9)


def test_a_density_has_a_value_at_zero() -> None:
    assert density("laplace", {"scale": 2.0}, np.zeros(1)) == pytest.approx([0.25])
    assert density("lognormal", PARAMETERS["lognormal"], np.zeros(1)).tolist() == [0.0]


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(InputError, match="'cauchy'.*student"):
        density("cauchy", {}, np.ones(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_information_is_the_mean_square_of_the_score(family: str) -> None:
    """E[s s'] by quadrature over the two-sided density, scores by central differences (error about 1e-8)."""
    p, step = PARAMETERS[family], 1e-4

    def score(x: float, name: str) -> float:
        ends = [
            FAMILIES[family].log_density(np.array([x]), {**p, name: p[name] + d})[0] for d in (step, -step)
        ]
        return (ends[0] - ends[1]) / (2 * step)

    def product(x: float, a: str, b: str) -> float:
        return 2 * score(x, a) * score(x, b) * float(density(family, p, np.array([x]))[0])

    found = [
        [
            sum(integrate.quad(product, *ends, args=(a, b), limit=200)[0] for ends in ((1e-9, 1), (1, 400)))
            for b in p
        ]
        for a in p
    ]
    assert FAMILIES[family].information(p) == pytest.approx(np.array(found), rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 6.0])
def test_shape_is_what_scipy_finds(shape: float) -> None:
    """scipy's simplex search stops at about 1e-4."""
    x = stats.gennorm(shape).rvs(2000, random_state=7)
    found, _, scale = stats.gennorm.fit(x, floc=0)
    ours = FAMILIES["generalized-gaussian"].estimate(np.abs(x))
    assert generalized_gaussian_shape(np.abs(x)) == pytest.approx(found, rel=1e-3)
    assert ours["scale"] == pytest.approx(scale, rel=1e-3)


def test_shape_knows_no_unit_and_stays_in_its_range() -> None:
    x = np.abs(stats.laplace.rvs(size=1000, random_state=1))
    assert generalized_gaussian_shape(x * 1e-30) == pytest.approx(generalized_gaussian_shape(x), rel=1e-5)
    assert generalized_gaussian_shape(1 + 1e-6 * x) == pytest.approx(50)


@pytest.mark.parametrize("df", [1.0, 4.0, 12.0])
def test_students_parameters_are_what_scipy_finds(df: float) -> None:
    x = stats.t(df).rvs(2000, random_state=3)
    unit = math.sqrt(np.mean(x**2))
    found, _, scale = stats.t.fit(x / unit, floc=0)
    ours = FAMILIES["student"].estimate(np.abs(x) / unit)
    assert ours == {"scale": pytest.approx(scale, rel=2e-3), "df": pytest.approx(found, rel=5e-3)}


def test_student_reaches_the_end_of_its_range_on_short_tails() -> None:
    x = np.abs(stats.uniform(-1, 2).rvs(1000, random_state=0)) * math.sqrt(3)
    assert FAMILIES["student"].estimate(x)["df"] == pytest.approx(1000)
