"""Bits saved against an anchor, by hand."""

import math

import numpy as np
import pytest

from qbench.leaderboard.anchor import curve, is_anchor, saved, scale_of_quality, telling
from qbench.schema import Spec

BIT = 20 * math.log10(2)  # dB that a bit is worth at high rate


def gain_of(rates: list[float], quality: list[float], rate: float, own: float) -> tuple[float, int]:
    found, outside = saved(*curve(np.array(rates), np.array(quality)), np.array([rate]), np.array([own]))
    return float(found[0]), int(outside[0])


def test_a_bit_better_between_two_points_of_the_anchor() -> None:
    """6.02 dB more at 2 bits: half way from 2 to 4 bits in Q, which is 2 sqrt(2) bits where log2 R is linear."""
    assert gain_of([2, 4], [2 * BIT, 4 * BIT], 2, 3 * BIT) == (pytest.approx(0.5), 0)
    assert gain_of([2, 4], [2 * BIT, 4 * BIT], 2, 2.5 * BIT) == (pytest.approx(0.25), 0)


def test_a_bit_better_at_a_point_of_the_anchor() -> None:
    assert gain_of([2, 3, 4], [2 * BIT, 3 * BIT, 4 * BIT], 2, 3 * BIT) == (pytest.approx(math.log2(1.5)), 0)
    assert gain_of([2, 3, 4], [2 * BIT, 3 * BIT, 4 * BIT], 4, 3 * BIT) == (
        pytest.approx(-math.log2(4 / 3)),
        0,
    )


def test_nothing_is_extrapolated() -> None:
    worse, better = (gain_of([2, 4], [10, 20], 3, own) for own in (9.99, 20.01))
    assert math.isnan(worse[0])
    assert math.isnan(better[0])
    assert (worse[1], better[1]) == (-1, 1)


def test_rounding_of_another_machine_is_not_outside() -> None:
    assert gain_of([2, 4], [10, 20], 2, 10 - 1e-7) == (0.0, 0)
    assert gain_of([2, 4], [10, 20], 2, 20 + 1e-7) == (1.0, 0)


def test_the_curve_is_its_running_best() -> None:
    """At 3 bits it is worse than at 2, at 5 as good as at 4: neither is a point of the curve."""
    log_rates, quality = curve(np.array([5.0, 3.0, 2.0, 4.0]), np.array([20.0, 9.0, 10.0, 20.0]))
    assert log_rates.tolist() == [1.0, 2.0]
    assert quality.tolist() == [10.0, 20.0]


def test_of_two_points_at_one_rate_the_better_counts() -> None:
    log_rates, quality = curve(np.array([2.0, 2.0, 4.0]), np.array([9.0, 10.0, 20.0]))
    assert (log_rates.tolist(), quality.tolist()) == ([1.0, 2.0], [10.0, 20.0])


@pytest.mark.parametrize("quality", [[10.0], [10.0, 10.0], [20.0, 10.0], [10.0, math.nan], [10.0, math.inf]])
def test_fewer_than_two_points_are_no_curve(quality: list[float]) -> None:
    rates = np.arange(2.0, 2.0 + len(quality))
    assert len(curve(rates, np.array(quality))[0]) == 0


def test_divergences_are_compared_by_their_logarithms() -> None:
    """KL = 4^-R is as a straight line in R as dB are: -ln KL = R ln 4. No divergence at all is better than any."""
    scaled = scale_of_quality("kl", 4.0 ** -np.array([2.0, 3.0]))
    assert scaled.tolist() == pytest.approx([2 * math.log(4), 3 * math.log(4)])
    assert scale_of_quality("kl", np.array([0.0, math.nan])).tolist() == pytest.approx(
        [math.inf, math.nan], nan_ok=True
    )


def test_accuracy_counts_where_1_to_20_points_are_lost() -> None:
    found = telling("accuracy_drop", scale_of_quality("accuracy_drop", np.array([0.5, 1.0, 20.0, 21.0])))
    assert found.tolist() == pytest.approx([math.nan, -1, -20, math.nan], nan_ok=True)


MIDRISE = "uniform(bits=4,scheme=midrise,granularity=channel,range=mse,scale_dtype=float16)"
ASYMMETRIC = "uniform(bits=4,scheme=asymmetric,granularity=tensor,range=minmax,scale_dtype=float16)"


@pytest.mark.parametrize(
    ("spec", "place", "in_row", "expected"),
    [
        (MIDRISE, ("ptq", "weight"), {}, True),
        (MIDRISE.replace("mse", "minmax"), ("ptq", "weight"), {}, False),
        (MIDRISE.replace("uniform", "unifor"), ("ptq", "weight"), {}, False),
        (MIDRISE, ("ptq", "activation"), {}, False),
        (ASYMMETRIC, ("ptq", "activation"), {"mode": "static", "observer": "mse", "weights": "nf4"}, True),
        (ASYMMETRIC, ("ptq", "activation"), {"mode": "dynamic", "observer": "mse"}, False),
        (ASYMMETRIC.replace("minmax", "mse"), ("ptq", "activation"), {"observer": "mse"}, False),
        (ASYMMETRIC.replace("minmax", "percentile"), ("ptq", "activation"), {"observer": "mse"}, False),
        (MIDRISE, ("rate-distortion", "activation"), {}, True),
        (MIDRISE, ("mixed-precision", "weight"), {"method": "uniform"}, True),
        (MIDRISE, ("mixed-precision", "weight"), {"method": "greedy"}, False),
        (None, ("gradient-compression", "gradient"), {}, False),
    ],
)
def test_which_rows_are_the_anchor(
    spec: str | None, place: tuple[str, str], in_row: dict[str, str], expected: bool
) -> None:
    assert is_anchor(Spec.parse(spec) if spec else None, *place, in_row) is expected
