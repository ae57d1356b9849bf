"""How sure a gain is: a hierarchical bootstrap over units, and sign-flip tests with Holm's correction.

Both draw their bits from :mod:`qbench.leaderboard.hashing`, so that the page's JavaScript gets the same numbers.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .hashing import DATASET, UNIT, indices, normals, signs

Numbers = NDArray[np.float64]

DRAWS = 10_000
FLIPS = 4096
EXACT = 12
_PERCENTILES = (2.5, 97.5)
# Sums of the same numbers in another order differ by rounding; they are ties nevertheless.
_ROUNDING = 1e-9


def resamples(datasets: Sequence[str], draws: int = DRAWS) -> tuple[Numbers, Numbers]:
    """How often each unit is drawn, and the sum of the standard normal numbers that came with it.

    In each draw as many data sets as there are, with replacement, and of each drawn one as many units as it has, with
    replacement: the scheme of :mod:`qbench.leaderboard.hashing`.

    Args:
        datasets: of each unit, units in the order of their texts.

    Returns:
        Two arrays [draws, units].
    """
    named = sorted(set(datasets))
    members = [[place for place, own in enumerate(datasets) if own == name] for name in named]
    sizes = np.array([len(one) for one in members], dtype=np.int64)
    most = int(sizes.max(initial=0))
    draw = np.arange(draws)[:, None]
    dataset = indices(DATASET, draw, np.arange(len(named))[None, :], len(named))
    slot = np.arange(len(named))[:, None] * most + np.arange(most)[None, :]
    size = sizes[dataset][:, :, None]
    chosen = indices(UNIT, draw[:, :, None], slot[None], size)
    padded = np.array([one + [0] * (most - len(one)) for one in members], dtype=np.int64).reshape(
        len(named), most
    )
    unit = padded[dataset[:, :, None], chosen] if most else np.zeros_like(chosen)
    real = np.broadcast_to(np.arange(most)[None, None, :] < size, unit.shape)
    place = (draw[:, :, None] * len(datasets) + unit)[real]
    noise = normals(draw[:, :, None], slot[None])[real]
    shape = (draws, len(datasets))
    counts = np.bincount(place, minlength=draws * len(datasets)).reshape(shape).astype(np.float64)
    noises = np.bincount(place, weights=noise, minlength=draws * len(datasets)).reshape(shape)
    return counts, noises.astype(np.float64)


def intervals(gains: Numbers, errors: Numbers, datasets: Sequence[str], draws: int = DRAWS) -> Numbers:
    """Percentile intervals (2.5, 97.5) of mean gains over units, the same draws for every method.

    A draw's mean is over the drawn units in which the method has a gain, each gain with normal noise of its standard
    error over seeds. Percentiles are interpolated linearly. One unit says nothing about others: NaN.

    Args:
        gains, errors: [methods, units], NaN where a method has no gain in a unit.
        datasets: of each unit.

    Returns:
        [methods, 2].
    """
    counts, noise = resamples(datasets, draws)
    there = np.isfinite(gains)
    total = counts @ there.T.astype(np.float64)
    drawn = counts @ np.where(there, gains, 0).T + noise @ np.where(there, np.nan_to_num(errors), 0).T
    with np.errstate(invalid="ignore", divide="ignore"):
        means = drawn / total
    found = np.full((len(gains), 2), np.nan)
    for method in np.flatnonzero(there.sum(1) > 1):
        found[method] = np.percentile(means[np.isfinite(means[:, method]), method], _PERCENTILES)
    return found


def sign_flip(differences: Numbers) -> Numbers:
    """Two-sided p of paired differences having mean zero, from flips of their signs.

    Exact for up to ``EXACT`` units, all 2^n flips: p = #{|sum| of a flip >= |sum|} / 2^n. Else ``FLIPS`` hashed ones,
    with the differences themselves among them: p = (1 + #) / (1 + FLIPS).

    Args:
        differences: [methods, units], no NaN, units in the order of their texts.

    >>> sign_flip(np.array([[1.0, 2.0, 3.0]]))
    array([0.25])
    """
    units = differences.shape[1]
    exact = units <= EXACT
    if exact:
        flips = np.array(list(itertools.product((1.0, -1.0), repeat=units)))
    else:
        flips = signs(np.arange(FLIPS)[:, None], np.arange(units)[None, :])
    sums = np.abs(differences @ flips.T)
    own = np.abs(differences.sum(1)) - _ROUNDING * np.abs(differences).sum(1)
    extreme = (sums >= own[:, None]).sum(1)
    return np.asarray(extreme / len(flips) if exact else (1 + extreme) / (1 + FLIPS))


def holm(p: Numbers) -> Numbers:
    """p values adjusted for their number by Holm's step-down method: the i-th smallest of m times m - i + 1.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])

    Reference: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted
