"""Limits of sources that charts draw: closed forms and published tables."""

import math

import numpy as np
import pytest

from qbench.datasets import laplacian, scale_mixture, uniform
from qbench.leaderboard.charts import limits
from qbench.leaderboard.charts.sources import limits as lines_of
from qbench.quantizers.lloyd_max import DENSITIES, exact_half


def test_the_limits_are_the_closed_forms() -> None:
    assert pytest.approx(1.5329, abs=5e-5) == limits.SCALAR_GAP_DB
    assert limits.sphere_gap_db(1) == pytest.approx(limits.SCALAR_GAP_DB, abs=1e-12)  # an interval is a ball
    assert limits.sphere_second_moment(2) == pytest.approx(1 / (4 * math.pi))  # a disc
    assert limits.sphere_second_moment(24) == pytest.approx(0.0647498, abs=5e-8)
    assert limits.sphere_gap_db(24) == pytest.approx(10 * math.log10(0.0647498 / 0.0585498), abs=1e-4)
    assert 0 < limits.sphere_gap_db(100_000) < 1e-3


@pytest.mark.parametrize("rate", [0.0, 1.0, 2.5])
def test_the_limit_of_each_source_is_that_of_its_data_set(rate: float) -> None:
    assert limits.limit_sqnr_db("gaussian", rate) == pytest.approx(20 * math.log10(2) * rate)
    for name, source in {
        "laplacian": laplacian.Laplacian(),
        "uniform": uniform.Uniform(),
        "scale-mixture": scale_mixture.ScaleMixture(),
    }.items():
        known = -10 * math.log10(source.distortion_limit(rate))
        assert limits.limit_sqnr_db(name, rate) == pytest.approx(known, abs=1e-8)


@pytest.mark.parametrize("source", ["gaussian", "laplacian"])
def test_the_table_of_lloyd_and_max_is_what_newton_finds(source: str) -> None:
    density = DENSITIES[source]
    for bits, known in enumerate(limits.LLOYD_MAX[source], 1):
        levels = exact_half(density, 2**bits)
        ends = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2])
        mass = -np.diff(density.mass_above(ends), append=0.0)
        # printed to six or seven digits
        assert 1 - 2 * float(np.sum(mass * levels**2)) == pytest.approx(known, rel=2e-5, abs=6e-8)


@pytest.mark.parametrize(
    ("source", "rate", "error"),
    [
        *(("gaussian", *known) for known in ((0.5, 0.61734), (1, 0.34834), (2, 0.088941), (4, 0.005560))),
        *(("laplacian", *known) for known in ((1, 0.26499), (2, 0.073675), (3, 0.01902), (4, 0.004796))),
    ],
)
def test_entropy_coded_scalars_reach_the_known_errors(source: str, rate: float, error: float) -> None:
    rates, sqnr = limits.ecsq(source, np.geomspace(8, 0.09, 400))
    found = 10 ** (-float(np.interp(rate, rates, sqnr)) / 10)
    assert found == pytest.approx(
        error, rel=2e-3
    )  # the Laplacian optimum is not of uniform thresholds at low rate


def test_the_lines_of_a_source_end_where_its_limits_do() -> None:
    rows = lines_of("gaussian")
    ends = {row["line"]: row["sqnr"] for row in rows if row.get("line") and row["rate"] == 5.0}
    assert ends["limit"] == pytest.approx(30.10, abs=0.005)
    assert ends["limit"] - ends["ECSQ"] == pytest.approx(1.53, abs=0.02)  # four digits
    assert ends["Lloyd-Max"] == pytest.approx(-10 * math.log10(0.00250467), abs=0.005)
    assert {row.get("line") for row in lines_of("uniform") if "line" in row} == {"limit", "Lloyd-Max"}
