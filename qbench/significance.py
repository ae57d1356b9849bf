"""Tests of whether a difference is more than chance, and what remains of them when there are many.

Every p-value is two-sided.
"""

import itertools
import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.special import bdtr, ndtr, stdtr

MOST_EXACT = 1_000_000
EXACT_FLIPS = 12
FLIPS = 4096
_AT_ONCE = 1024


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact p-value that two classifiers are equally often right on the same examples.

    p = min(1, 2 P(B <= min(b, c))), B binomial of b + c throws at 1/2; beyond MOST_EXACT throws that of
    z = (b - c) / sqrt(b + c).

    Args:
        only_first: b, examples that the first alone gets right.
        only_second: c, those that the second alone does.

    >>> mcnemar(1, 9)  # 2 (1 + 10) / 2**10
    0.021484375

    Reference: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    both = only_first + only_second
    if both > MOST_EXACT:
        return normal(only_first - only_second, math.sqrt(both))
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), both, 0.5)))


def fisher(right_first: int, first: int, right_second: int, second: int) -> float:
    """Exact p-value that two shares, of ``first`` and of ``second`` independent examples, are of one probability.

    Beyond MOST_EXACT examples that of the normal approximation with the pooled share.

    Reference: Fisher, The logic of inductive inference, 1935.
    """
    if first + second > MOST_EXACT:
        share = (right_first + right_second) / (first + second)
        error = math.sqrt(share * (1 - share) * (1 / first + 1 / second))
        return normal(right_second / second - right_first / first, error)
    from scipy.stats import fisher_exact

    table = [[right_first, first - right_first], [right_second, second - right_second]]
    return float(fisher_exact(table).pvalue)


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """p-value that two independent samples, each of at least two, are of one mean; their variances may differ.

    t = (m1 - m2) / sqrt(s1^2/n1 + s2^2/n2), of (s1^2/n1 + s2^2/n2)^2 / sum((si^2/ni)^2 / (ni - 1)) degrees of freedom.

    Reference: Welch, The generalization of Student's problem when several different population variances are
    involved, 1947.
    """
    parts = [statistics.variance(sample) / len(sample) for sample in (first, second)]
    difference = statistics.fmean(first) - statistics.fmean(second)
    if not any(parts):
        return float(difference == 0)
    sizes = (len(first), len(second))
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, sizes, strict=True))
    return _student(difference / math.sqrt(sum(parts)), freedom)


def paired(differences: Sequence[float]) -> float:
    """p-value that at least two differences of pairs have the mean 0, by Student's t.

    Reference: Student, The probable error of a mean, 1908.
    """
    mean, count = statistics.fmean(differences), len(differences)
    error = statistics.stdev(differences) / math.sqrt(count)
    return _student(mean / error, count - 1) if error else float(mean == 0)


def sign_flip(differences: Sequence[float]) -> float:
    """p-value that differences are as likely of one sign as of the other: the share of sums that are as far from 0.

    The sums are those of all 2^n choices of signs up to n = 12, beyond that of FLIPS random ones and the own.

    Reference: Fisher, The design of experiments, 1935, section 21.
    """
    sizes = np.abs(np.asarray(differences, dtype=float))
    least = abs(math.fsum(differences)) - 1e-12 * sizes.sum()
    if len(sizes) <= EXACT_FLIPS:
        flips = np.array(list(itertools.product((-1.0, 1.0), repeat=len(sizes))))
        return float((np.abs(flips @ sizes) >= least).mean())
    random, sums = np.random.default_rng(0), np.zeros(FLIPS)
    for part in np.array_split(sizes, math.ceil(len(sizes) / _AT_ONCE)):
        sums += random.choice((-1.0, 1.0), size=(FLIPS, len(part))) @ part
    return float((np.abs(sums) >= least).sum() + 1) / (FLIPS + 1)


def normal(difference: float, error: float) -> float:
    """p-value that a normal difference with this standard error has the mean 0."""
    return 2 * float(ndtr(-abs(difference) / error)) if error else float(difference == 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values for all of them together: the chance of one wrong rejection among them is at most what is compared with.

    Of m in ascending order the i-th, i = 1..m, becomes max over j <= i of min(1, (m - j + 1) p_j).

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    adjusted, most, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, number in enumerate(sorted(range(count), key=p_values.__getitem__)):
        most = max(most, min(1.0, (count - rank) * p_values[number]))
        adjusted[number] = most
    return adjusted


def _student(t: float, freedom: float) -> float:
    return 2 * float(stdtr(freedom, -abs(t)))
