"""Who saves how many bits: ranks, intervals and ties on one board."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .matrix import Matrix, matrix_of, row_means
from .resampling import DRAWS, holm, intervals, sign_flip

Numbers = NDArray[np.float64]

RATE_CLASSES = ("fixed", "coded")
# Ranges of true bits per element by the number that a visitor asks for, lower end included; float16 is not 8 bits.
BITS = {
    "1": (0.0, 1.5),
    "2": (1.5, 2.5),
    "3": (2.5, 3.5),
    "4": (3.5, 5.0),
    "6": (5.0, 7.0),
    "8": (7.0, 12.0),
}
# With fewer units than this a ranking is provisional: no test could tell its methods apart.
FEW = 8
LEVEL = 0.05


@dataclass(frozen=True)
class Standing:
    """Where a method stands on a board, in its rate class.

    Attributes:
        rank: 1 saves most; None where it is not ranked, for the reason ``why_unranked``.
        gain, low, high: log2 of the anchor's bits over the method's, mean over units, with its interval; NaN where
            there are none. People are told :func:`saved_percent` of it.
        tied: whether it is not told from the best; None where the ranking is provisional or it has no rank.
        provisional: fewer than ``FEW`` units count.
        n, units: units in which it has a gain, of those that count.

    All that follows is over its points in the units that count; over all its points where it has none there:

        seeds: the fewest that a point of it has.
        points, censored: its points, and how many are outside the anchor's range.
        single: it has one rate only.
        bits_low, bits_high: true bits per element.
        quality: at its median bits, mean over units. coverage: share of the parameters quantized.
        reproduced: results that agree with those of another machine.

    On the whole board:

        failed: results that failed.
    """

    method: str
    label: str
    family: str
    rate_class: str
    plugin: str
    rank: int | None
    gain: float
    low: float
    high: float
    tied: bool | None
    provisional: bool
    n: int
    units: int
    seeds: int
    points: int
    single: bool
    censored: int
    bits_low: float
    bits_high: float
    quality: float
    coverage: float
    failed: int
    reproduced: int
    why_unranked: str


def standings(
    points: pd.DataFrame,
    *,
    bits: tuple[float, float] | None = None,
    device: str | None = None,
    better: int = 1,
    draws: int = DRAWS,
) -> list[Standing]:
    """The methods of one board, fixed rates first, in each class by rank, then those without one by gain and quality.

    Units count that at least half of the methods of the class are judged in: have a point that an anchor curve says
    something about. A method has a rank if it has a gain in each. Its gain in a unit is the mean over its points
    there, and over units the mean of those; see :func:`qbench.leaderboard.resampling.intervals`. Tied with the best
    are those whose gains differ from the best one's with p > .05 (:func:`~qbench.leaderboard.resampling.sign_flip`,
    adjusted by :func:`~qbench.leaderboard.resampling.holm` for all others of the class).

    Args:
        points: of one board, as :func:`qbench.leaderboard.points.points_of` gives them; any selection of units.
        bits: only points of rates in [low, high).
        device: only points of that kind of device.
        better: the board's; orders methods without a gain.
        draws: of the bootstrap.

    Raises:
        ValueError: the points are of several boards.
    """
    if points["board"].nunique() > 1:
        raise ValueError(f"points of {points['board'].nunique()} boards; a standing is of one")
    chosen = points
    if bits is not None:
        chosen = chosen[(chosen["rate"] >= bits[0]) & (chosen["rate"] < bits[1])]
    if device is not None:
        chosen = chosen[chosen["device"] == device]
    found: list[Standing] = []
    for rate_class in RATE_CLASSES:
        found += _of_class(chosen[chosen["rate_class"] == rate_class], rate_class, better, draws)
    return found


def saved_percent(gain: float) -> float:
    """How many of the anchor's bits a gain saves at equal quality: 100 (1 - 2^-gain) percent, negative where it costs.

    A gain is log2(R_anchor / R), and no number of bits. Ends of an interval are told by the same function.

    >>> saved_percent(1.0), saved_percent(0.0), saved_percent(-1.0)
    (50.0, 0.0, -100.0)
    """
    return 100.0 * (1.0 - math.exp2(-gain))


def _of_class(points: pd.DataFrame, rate_class: str, better: int, draws: int) -> list[Standing]:
    if points.empty:
        return []
    matrix = matrix_of(points).counting()
    ranked = np.asarray(np.isfinite(matrix.gain).all(1) & (len(matrix.units) > 0))
    gain = row_means(matrix.gain)
    bounds = intervals(matrix.gain, matrix.error, matrix.datasets, draws)
    tied = _tied(matrix.gain, gain, ranked)
    place = {name: number for number, name in enumerate(matrix.methods)}
    provisional = len(matrix.units) < FEW
    found = []
    for method, own in points.groupby("method", observed=True):
        at = place[str(method)]
        found.append(
            Standing(
                **_facts(_counted(own, matrix.units)),
                method=str(method),
                rate_class=rate_class,
                rank=1 + int((gain[ranked] > gain[at] + 1e-12).sum()) if ranked[at] else None,
                gain=float(gain[at]),
                low=float(bounds[at, 0]),
                high=float(bounds[at, 1]),
                tied=bool(tied[at]) if ranked[at] and not provisional else None,
                provisional=provisional,
                n=int(np.isfinite(matrix.gain[at]).sum()),
                units=len(matrix.units),
                why_unranked="" if ranked[at] else _why(matrix, at),
            )
        )
    return sorted(found, key=lambda one: _order(one, better))


def _tied(gains: Numbers, mean: Numbers, ranked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which are not told from the best of the ranked ones, itself among them."""
    tied = np.zeros(len(gains), dtype=bool)
    if not ranked.any():
        return tied
    best = int(np.flatnonzero(ranked)[np.argmax(mean[ranked])])
    others = np.flatnonzero(ranked & (np.arange(len(gains)) != best))
    tied[best] = True
    if len(others):
        tied[others] = holm(sign_flip(gains[best] - gains[others])) > LEVEL
    return tied


def _why(matrix: Matrix, method: int) -> str:
    units = len(matrix.units)
    if not matrix.judged.any():
        return "nothing to compare with: no anchor curve here"
    missing = int((~matrix.judged[method]).sum())
    outside = units - missing - int(np.isfinite(matrix.gain[method]).sum())
    said = [f"not measured on {missing} of {units} units"] if missing else []
    said += [f"outside the anchor's range on {outside} of {units} units"] if outside else []
    return "; ".join(said)


def _counted(points: pd.DataFrame, units: Sequence[str]) -> pd.DataFrame:
    """The points of a method in the units that count; all of them where there are none."""
    own = points[points["unit"].isin(units)]
    return points if own.empty else own


def _facts(points: pd.DataFrame) -> dict[str, Any]:
    first = points.iloc[0]
    names = ("label", "family", "plugin")
    return {name: str(first[name]) for name in names} | {
        "seeds": int(points["seeds"].min()),
        "points": len(points),
        "single": bool(points["spec"].nunique() == 1),
        "censored": int((points["censored"] != 0).sum()),
        "bits_low": float(points["rate"].min()),
        "bits_high": float(points["rate"].max()),
        "quality": quality_at_median_bits(points),
        "coverage": float(points["coverage"].mean()),
        "failed": int(first["failed"]),
        "reproduced": int(points["reproduced"].sum()),
    }


def quality_at_median_bits(points: pd.DataFrame) -> float:
    """Mean quality over units of the specification of a method that has its median rate, the lower of two."""
    number = pd.factorize(points["spec"])[0]
    count = np.bincount(number)
    rate, quality = (np.bincount(number, weights=points[name]) / count for name in ("rate", "quality"))
    return float(quality[np.argsort(rate, kind="stable")[(len(count) - 1) // 2]])


def _order(one: Standing, better: int) -> tuple[bool, float, float, float, str]:
    gain = -one.gain if math.isfinite(one.gain) else math.inf
    quality = -better * one.quality if math.isfinite(one.quality) else math.inf
    return one.rank is None, one.rank or 0, gain, quality, one.method


def ranked(found: Sequence[Standing]) -> list[Standing]:
    """Those that have a rank."""
    return [one for one in found if one.rank is not None]
