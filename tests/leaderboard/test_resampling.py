"""Intervals and tests beside theory, scipy and numbers by hand."""

import numpy as np
import pytest
from scipy import stats

from qbench.leaderboard.resampling import DRAWS, FLIPS, holm, intervals, resamples, sign_flip

ONE_EACH = [f"data-{number:03}" for number in range(100)]


def test_as_many_units_are_drawn_as_there_are_where_data_sets_are_alike() -> None:
    counts, _ = resamples(["a", "a", "b", "b"])
    assert counts.shape == (DRAWS, 4)
    assert (counts.sum(1) == 4).all()
    # Each data set is drawn twice, once or never: both units of the other one are then drawn no time.
    assert {tuple(np.sort([row[:2].sum(), row[2:].sum()])) for row in counts} == {(0, 4), (2, 2)}


def test_a_data_set_that_is_drawn_gives_as_many_units_as_it_has() -> None:
    """Of data sets with 1 and 3 units two are drawn: 2, 4 or 6 units, 4 half of the time (4 standard errors)."""
    counts, _ = resamples(["a", "b", "b", "b"])
    totals = counts.sum(1)
    assert set(totals) == {2.0, 4.0, 6.0}
    assert abs((totals == 4).mean() - 0.5) < 4 * 0.5 / np.sqrt(DRAWS)


def test_interval_of_independent_units_is_the_normal_one() -> None:
    """Gains at the quantiles of a normal law, a data set each: mean +- 1.96 s / sqrt(n).

    The 2.5 % point of B draws has standard error sqrt(.025 * .975 / B) / phi(1.96) = 0.0845 standard errors of the mean
    for B = 1000; 4 of those.
    """
    gains = stats.norm.ppf((np.arange(100) + 0.5) / 100)[None, :]
    low, high = intervals(gains, np.zeros((1, 100)), ONE_EACH)[0]
    error = gains.std() / 10
    tolerance = 4 * np.sqrt(0.025 * 0.975 / DRAWS) / stats.norm.pdf(1.96) * error
    assert low == pytest.approx(-1.96 * error, abs=tolerance)
    assert high == pytest.approx(1.96 * error, abs=tolerance)


def test_spread_of_draws_has_a_part_between_data_sets_and_one_within() -> None:
    """D data sets of M units: variance s_between^2 / D + s_within^2 / (D M), spreads of the given units.

    A standard deviation of B draws is known to 1 / sqrt(2 B); 4 of those.
    """
    between, within = np.linspace(-1, 1, 10), np.linspace(-2, 2, 6)
    gains = (between[:, None] + within[None, :]).ravel()
    counts, _ = resamples([f"data-{number // 6}" for number in range(60)])
    spread = (counts @ gains / counts.sum(1)).std()
    expected = np.sqrt(between.var() / 10 + within.var() / 60)
    assert spread == pytest.approx(expected, rel=4 / np.sqrt(2 * DRAWS))


def test_seeds_add_noise_of_their_standard_error() -> None:
    """Equal gains with error e in each of n units: draws of standard deviation e / sqrt(n) about the gain."""
    counts, noise = resamples(ONE_EACH)
    drawn = 3 + 0.5 * noise.sum(1) / counts.sum(1)
    assert drawn.std() == pytest.approx(0.05, rel=4 / np.sqrt(2 * DRAWS))
    low, high = intervals(np.full((1, 100), 3.0), np.full((1, 100), 0.5), ONE_EACH)[0]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_all_methods_have_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    gains, errors = rng.normal(size=(1, 30)), rng.uniform(size=(1, 30))
    both = intervals(np.vstack([gains, gains + 2]), np.vstack([errors, errors]), ONE_EACH[:30])
    assert both[1] == pytest.approx(both[0] + 2)


def test_one_unit_has_no_interval() -> None:
    assert np.isnan(intervals(np.ones((1, 1)), np.ones((1, 1)), ["a"])).all()
    assert np.isnan(intervals(np.array([[1.0, np.nan]]), np.zeros((1, 2)), ["a", "b"])).all()


def test_units_without_a_gain_do_not_count() -> None:
    """Equal gains where there are any: every draw that has one has that mean."""
    found = intervals(np.array([[1.5, 1.5, np.nan]]), np.zeros((1, 3)), ["a", "b", "c"])
    assert found[0] == pytest.approx([1.5, 1.5])


def test_sign_flips_by_hand() -> None:
    """Of the 8 flips of (1, 2, 3) two have |sum| = 6; of (1, 2, -3) eight have |sum| >= 0; of (1, 1, -1) all >= 1."""
    p = sign_flip(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, -3.0], [1.0, 1.0, -1.0]]))
    assert p.tolist() == [0.25, 1.0, 1.0]


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip(np.zeros((1, 8))).tolist() == [1.0]
    assert sign_flip(np.zeros((1, 20))).tolist() == [1.0]


@pytest.mark.parametrize("units", [5, 8, 12])
def test_exact_sign_flips_are_those_of_scipy(units: int) -> None:
    differences = np.random.default_rng(units).normal(0.5, 1, size=(3, units))
    expected = [
        stats.permutation_test((row,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
        for row in differences
    ]
    assert sign_flip(differences) == pytest.approx(expected)


def test_hashed_sign_flips_are_near_the_exact_ones() -> None:
    """A share of F flips is known to sqrt(p (1 - p) / F); 4 of those, and 1 / (F + 1) for the one added."""
    differences = np.random.default_rng(3).normal(0.4, 1, size=(4, 16))
    for row, p in zip(differences, sign_flip(differences), strict=True):
        exact = stats.permutation_test((row,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
        assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / FLIPS) + 1 / (FLIPS + 1))


def test_the_smallest_hashed_p_counts_the_differences_themselves() -> None:
    """All of 40 signs equal: no flip of 4096 has them so, but with probability 4096 / 2^39."""
    assert sign_flip(np.ones((1, 40))).tolist() == [1 / 4097]


def test_holm_by_hand() -> None:
    """Sorted .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04, which the one before raises to .06."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []
