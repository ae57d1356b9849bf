"""Seeds are averaged first, by hand."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.leaderboard.averaging import Gains, Seeded, shared

Point = Mapping[int, tuple[float, float]]  # rate and quality at each seed
NAN = math.nan


def at(rate: float, qualities: Sequence[float]) -> dict[int, tuple[float, float]]:
    """A point of that rate, with those qualities at seeds 0, 1, ..."""
    return {seed: (rate, quality) for seed, quality in enumerate(qualities)}


def gains(
    anchor: Sequence[Point], *points: Point, quality: str = "sqnr_db", curves: Sequence[int] | None = None
) -> Gains:
    """Of the anchor's points first, then the others; all of one curve unless told otherwise."""
    rows = [
        (number, curves[number] if curves else 0, number < len(anchor), seed, rate, value)
        for number, one in enumerate([*anchor, *points])
        for seed, (rate, value) in one.items()
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    columns = [np.array(column)[order] for column in zip(*rows, strict=True)]
    found = Gains(len(anchor) + len(points))
    found.add(quality, Seeded(*columns))
    return found


def test_a_gain_is_that_of_the_means() -> None:
    """The anchor: 2 bits at 10 dB, 4 bits at 20 dB on the mean of two seeds; the point: 2 bits and 15 dB."""
    found = gains([at(2, [8, 12]), at(4, [25, 15])], {0: (1.5, 10), 1: (2.5, 20)})
    assert found.gain.tolist() == pytest.approx([0, 0, 0.5])
    assert (found.censored.tolist(), found.seeds.tolist()) == ([0, 0, 0], [2, 2, 2])


def test_a_seed_without_a_curve_of_its_own_counts() -> None:
    """At seed 1 the anchor is better at 2 bits than at 4; of the means, 12 dB and 18 dB, it is a curve."""
    found = gains([at(2, [8, 16]), at(4, [22, 14])], at(2, [15, 15]))
    assert (found.gain[2], found.seeds[2]) == (pytest.approx(0.5), 2)


def test_the_standard_error_of_what_is_linear_is_that_of_a_mean() -> None:
    """Where the anchor is the same at all seeds and the curve straight, a gain is linear in Q: s / sqrt(n) / 10 dB."""
    qualities = np.array([12.0, 15.0, 13.0, 17.0, 14.0])
    found = gains([at(2, [10] * 5), at(4, [20] * 5)], at(2, qualities.tolist()))
    assert found.gain[2] == pytest.approx((qualities.mean() - 10) / 10)
    assert found.error[2] == pytest.approx(qualities.std(ddof=1) / math.sqrt(5) / 10)
    assert found.error[:2].tolist() == [0, 0]


def test_the_jackknife_by_hand() -> None:
    """Rates 1, 2, 4 at the anchor's 2 bits' quality: log2(2 / mean); without each log2(2/3), log2(4/5), log2(4/3)."""
    found = gains([at(2, [10] * 3), at(4, [20] * 3)], {0: (1, 10), 1: (2, 10), 2: (4, 10)})
    without = np.log2([2 / 3, 4 / 5, 4 / 3])
    assert found.gain[2] == pytest.approx(math.log2(6 / 7))
    assert found.error[2] == pytest.approx(math.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum()))


def test_without_a_seed_a_gain_may_not_exist() -> None:
    """12, 12, 9 dB: without seed 0 or 1 the mean is 10.5, without seed 2 12; then 9, 9, 15: without seed 2 outside."""
    anchor = [at(2, [10] * 3), at(4, [20] * 3)]
    inside = gains(anchor, at(2, [12, 12, 9]))
    assert inside.error[2] == pytest.approx(math.sqrt(2 / 3 * (2 * 0.05**2 + 0.1**2)))
    some = gains(anchor, at(2, [9, 9, 15]))
    assert (some.gain[2], some.censored[2]) == (pytest.approx(0.1), 0)
    # Left are the gains without seed 0 and without seed 1, both of 12 dB: 0.1 above that of all.
    assert some.error[2] == pytest.approx(math.sqrt(2 / 2 * 2 * 0.1**2))


def test_where_no_gain_without_a_seed_exists_there_is_no_error() -> None:
    """5 and 25 dB are outside, their mean is inside."""
    found = gains([at(2, [10] * 2), at(4, [20] * 2)], at(2, [5, 25]))
    assert found.gain[2] == pytest.approx(0.5)
    assert math.isnan(found.error[2])


def test_one_seed_has_no_spread() -> None:
    found = gains([at(2, [10]), at(4, [20])], at(2, [15]))
    assert (found.gain[2], found.error[2], found.seeds[2]) == (pytest.approx(0.5), 0, 1)


def test_means_outside_the_range_are_censored_and_have_no_error() -> None:
    found = gains([at(2, [10] * 2), at(4, [20] * 2)], at(2, [5, 14]), at(2, [15, 30]))
    assert found.gain.tolist() == pytest.approx([0, 0, NAN, NAN], nan_ok=True)
    assert found.error.tolist() == pytest.approx([0, 0, NAN, NAN], nan_ok=True)
    assert found.censored.tolist() == [0, 0, -1, 1]
    assert found.seeds.tolist() == [2] * 4


def test_a_point_is_compared_over_the_seeds_that_the_anchor_has_too() -> None:
    """Seed 2 of the point, far outside, is not looked at; seed 1 of the anchor is not, for the second point."""
    found = gains([at(2, [10, 11]), at(4, [20, 19])], at(2, [15, 15, 99]), {0: (2, 12.5)}, {7: (2, 15)})
    assert found.gain[2:].tolist() == pytest.approx([0.5, 0.25, NAN], nan_ok=True)
    assert found.seeds[2:].tolist() == [2, 1, 0]


def test_a_rate_of_the_anchor_that_one_seed_has_takes_no_seeds_from_the_others() -> None:
    rates, seeds = shared(np.array([[True] * 3, [True] * 3, [True, False, False]]), np.array([True] * 3))
    assert (rates.tolist(), seeds.tolist()) == ([True, True, False], [True] * 3)  # type: ignore[union-attr]


def test_a_failure_at_one_seed_costs_that_seed_rather_than_a_rate() -> None:
    rates, seeds = shared(np.array([[True] * 3, [True] * 3, [True, True, False]]), np.array([True] * 3))
    assert (rates.tolist(), seeds.tolist()) == ([True] * 3, [True, True, False])  # type: ignore[union-attr]


def test_seeds_that_only_overlap() -> None:
    """One rate has seeds 0 and 1, the other 1 and 2: they share seed 1."""
    rates, seeds = shared(np.array([[True, True, False], [False, True, True]]), np.array([True] * 3))
    assert (rates.tolist(), seeds.tolist()) == ([True, True], [False, True, False])  # type: ignore[union-attr]


@pytest.mark.parametrize("anchor", [np.ones((0, 2)), np.ones((1, 2)), np.eye(2), np.zeros((2, 2))])
def test_fewer_than_two_rates_at_common_seeds_are_no_curve(anchor: NDArray[np.float64]) -> None:
    assert shared(anchor > 0, np.array([True, True])) is None


def test_each_curve_has_its_own_anchor() -> None:
    """On the second network everything is 10 dB worse, and as many bits are saved; on the third there is no anchor."""
    anchor = [at(2, [10]), at(4, [20]), at(2, [0]), at(4, [10])]
    found = gains(anchor, at(2, [15]), at(2, [5]), at(2, [15]), curves=[0, 0, 1, 1, 0, 1, 2])
    assert found.gain.tolist() == pytest.approx([0, 0, 0, 0, 0.5, 0.5, NAN], nan_ok=True)
    assert found.seeds.tolist() == [1] * 6 + [0]


def test_accuracies_are_averaged_before_they_are_judged() -> None:
    """Losses of 0.4 and 2 points are 1.2 on the mean, which says something; 0.4 and 0.8 say nothing."""
    anchor = [at(2, [-10, -10]), at(4, [-1, -1])]
    found = gains(anchor, at(2, [-0.4, -2]), at(2, [-0.4, -0.8]), quality="accuracy_drop")
    assert found.gain[2:].tolist() == pytest.approx([(10 - 1.2) / 9, NAN], nan_ok=True)
    assert found.censored[2:].tolist() == [0, 0]


def test_a_seed_without_any_divergence_is_better_than_any_curve() -> None:
    found = gains([at(2, [1, 1]), at(4, [2, math.inf])], at(2, [1.5, math.inf]), at(2, [1, 1]), quality="kl")
    # The anchor's second rate is infinitely good on the mean and no point of a curve: only one is left.
    assert found.gain.tolist() == pytest.approx([NAN] * 4, nan_ok=True)
    found = gains([at(2, [1, 1]), at(4, [2, 2])], at(2, [1.5, math.inf]), quality="kl")
    assert found.censored[2] == 1
