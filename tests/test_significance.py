"""Tests of differences against scipy's, and by hand."""

import itertools
import math

import pytest
from scipy import stats

from qbench import significance

FIRST = [1.2, 3.4, 2.2, 5.1, 0.3]
SECOND = [2.0, 2.9, 3.3, 6.0, 1.7]


def test_mcnemar_by_hand() -> None:
    assert significance.mcnemar(0, 0) == 1.0
    assert significance.mcnemar(5, 0) == pytest.approx(2 / 2**5)
    assert significance.mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert significance.mcnemar(4, 4) == 1.0


@pytest.mark.parametrize(("b", "c"), list(itertools.combinations((0, 1, 7, 12, 40, 200), 2)))
def test_mcnemar_is_the_binomial_test_at_one_half(b: int, c: int) -> None:
    expected = stats.binomtest(b, b + c, 0.5).pvalue
    assert significance.mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert significance.mcnemar(c, b) == significance.mcnemar(b, c)


def test_mcnemar_on_very_many_examples() -> None:
    assert significance.mcnemar(1_000_000, 1_002_000) == pytest.approx(
        2 * stats.norm.sf(2000 / math.sqrt(2.002e6))
    )


def test_fisher_on_a_lady_who_tastes_tea() -> None:
    # 3 of 4 against 1 of 4: (1 + 16 + 16 + 1) of the 70 choices are as unlikely.
    assert significance.fisher(3, 4, 1, 4) == pytest.approx(34 / 70)


def test_fisher_on_very_many_examples() -> None:
    # 50.1 % against 50 % of a million each: z = .001 / sqrt(2 x .25 / 10^6), to the pooled share's 10^-6.
    expected = 2 * stats.norm.sf(0.001 / math.sqrt(0.5e-6))
    assert significance.fisher(501_000, 10**6, 500_000, 10**6) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("second", [SECOND, [2.0, 2.9], [100.0, 100.5, 99.5]])
def test_welch(second: list[float]) -> None:
    expected = stats.ttest_ind(FIRST, second, equal_var=False).pvalue
    assert significance.welch(FIRST, second) == pytest.approx(expected, rel=1e-9)


def test_paired() -> None:
    differences = [b - a for a, b in zip(FIRST, SECOND, strict=True)]
    assert significance.paired(differences) == pytest.approx(stats.ttest_rel(FIRST, SECOND).pvalue, rel=1e-9)


def test_samples_without_spread() -> None:
    assert significance.welch([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert significance.welch([1.0, 1.0], [2.0, 2.0]) == 0.0
    assert significance.paired([0.5, 0.5]) == 0.0
    assert significance.paired([0.0, 0.0]) == 1.0
    assert significance.normal(0.0, 0.0) == 1.0


def test_normal() -> None:
    assert significance.normal(-1.959963984540054, 1.0) == pytest.approx(0.05)
    assert significance.normal(0.0, 2.0) == 1.0


def test_sign_flips_are_counted() -> None:
    assert significance.sign_flip([1, 2, 3]) == 2 / 8  # +++ and ---
    assert significance.sign_flip([3, -1]) == 1.0  # sums 2, 4, -4, -2
    assert significance.sign_flip([1, 2, -3]) == 1.0
    assert significance.sign_flip([0.1] * 12) == 2 / 2**12
    assert significance.sign_flip([5.0]) == 1.0


def test_many_sign_flips_are_drawn() -> None:
    # Of 13 equal differences 2 in 2^13 choices are as far: 1 of 4096 draws on average; 9 or more once in 10^6 times.
    assert 1 / 4097 <= significance.sign_flip([1.0] * 13) <= 9 / 4097
    # Half of them turned: the exact value is P(|2 B - 14| >= 2), B of 14 throws; 4 standard errors of 4096 draws.
    exact = 1 - stats.binom.pmf(7, 14, 0.5)
    assert significance.sign_flip([1.0] * 8 + [-1.0] * 6) == pytest.approx(exact, abs=4 * 0.5 / 64)


def test_holm_by_hand() -> None:
    # In order .01 x 4, .02 x 3 = .06, .03 x 2 = .06, .5 x 1.
    assert significance.holm([0.5, 0.02, 0.01, 0.03]) == pytest.approx([0.5, 0.06, 0.04, 0.06])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []
