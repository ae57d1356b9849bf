"""What stands above single tables: profiles over boards, the best at a number of bits, Pareto fronts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .anchor import scale_of_quality
from .boards import Board
from .matrix import matrix_of
from .standings import BITS, Standing, standings
from .wording import interval_spoken, saving_spoken

Numbers = NDArray[np.float64]

_QUALITIES = {"sqnr_db": "{:.1f} dB", "kl": "KL {:.2g} nat", "accuracy_drop": "{:.2f} points lost"}


@dataclass(frozen=True)
class Best:
    """Who saves most at a number of bits.

    Attributes:
        bits: what was asked for: a key of ``BITS``.
        label, family: of the method.
        rate, quality: of its point that is nearest to that, mean over the units that count.
        gain, low, high: as in :class:`~qbench.leaderboard.standings.Standing`. n: units.
        tied: how many others are not told from it; None where there are too few units to say.
        text: all that in a line, gains as shares of the anchor's bits.
    """

    bits: str
    label: str
    family: str
    rate: float
    quality: float
    gain: float
    low: float
    high: float
    n: int
    tied: int | None
    text: str


def best_at(
    points: pd.DataFrame, board: Board, bits: Sequence[str] = ("2", "4", "8"), rate_class: str = "fixed"
) -> list[Best]:
    """For each number of bits the method of rank 1 of a rate class; none where there is no ranking.

    Args:
        points: of all boards or of this one.
    """
    mine = points[(points["board"] == board.key) & (points["rate_class"] == rate_class)]
    found = []
    for name in bits:
        ranked = [
            one for one in standings(mine, bits=BITS[name], better=board.better) if one.rank is not None
        ]
        if ranked:
            there = mine[mine["rate"].between(*BITS[name], inclusive="left")]
            units = matrix_of(there).counting().units
            found.append(_best(name, ranked, _of(there, ranked[0].method, units), board))
    return found


def _of(points: pd.DataFrame, method: str, units: Sequence[str]) -> pd.DataFrame:
    return points[(points["method"] == method) & points["unit"].isin(units)]


def _best(bits: str, ranked: Sequence[Standing], points: pd.DataFrame, board: Board) -> Best:
    first = ranked[0]
    by_spec = points.groupby("spec", observed=True)[["rate", "quality"]].mean()
    rate, quality = by_spec.loc[(by_spec["rate"] - float(bits)).abs().idxmin()].tolist()
    tied = None if first.provisional else sum(bool(one.tied) for one in ranked) - 1
    said = _QUALITIES.get(board.quality, "{:.3g}").format(quality)
    interval = f"{interval_spoken(first.low, first.high)}, " if math.isfinite(first.low) else ""
    units = f"n = {first.n}" + (f", tied with {tied} more" if tied else "")
    saving = f"{saving_spoken(first.gain)} than the anchor ({interval}{units})"
    return Best(
        bits=bits,
        label=first.label,
        family=first.family,
        rate=rate,
        quality=quality,
        gain=first.gain,
        low=first.low,
        high=first.high,
        n=first.n,
        tied=tied,
        text=f"{first.label}: {said} at {rate:.2f} bits, {saving}",
    )


def profile(points: pd.DataFrame, boards: Sequence[Board]) -> pd.DataFrame:
    """The gain on every board: methods of rows, boards of columns, for methods on at least two of them.

    Boards are the anchored ones that are the defaults of their track and target. A method is the same on several
    where its quantizer is; where a board has it with several settings of the budget, its best stands.

    Returns:
        Columns core, label, family, rate_class and the boards' keys: the gain, NaN where there is none. Rows by mean
        gain.
    """
    shown = [board for board in boards if board.anchored and board.default]
    columns = ["core", "label", "family", "rate_class"]
    found: dict[tuple[str, str], dict[str, object]] = {}
    for board in shown:
        mine = points[points["board"] == board.key]
        cores = dict(zip(mine["method"].astype(object), mine["core"].astype(object), strict=True))
        for one in standings(mine, better=board.better):
            if math.isfinite(one.gain):
                row = found.setdefault(
                    (cores[one.method], one.rate_class),
                    {
                        "core": cores[one.method],
                        "label": one.label,
                        "family": one.family,
                        "rate_class": one.rate_class,
                    },
                )
                row.setdefault(board.key, one.gain)
    keys = [board.key for board in shown]
    table = pd.DataFrame(list(found.values()), columns=[*columns, *keys])
    gains = table[keys].astype(float)
    table[keys] = gains
    several = table[gains.notna().sum(axis=1) >= 2]
    order = several[keys].astype(float).mean(axis=1).sort_values(ascending=False, kind="stable").index
    return several.loc[order].reset_index(drop=True)


def front(points: pd.DataFrame, boards: Sequence[Board]) -> pd.Series:
    """Whether no other of its board and rate class beats a point's quantizer: as good or better at no more bits.

    Rate and quality are means over the units that at least half of the methods have points in; of divergences the mean
    of logarithms. A quantizer without a point in one of those units cannot be compared: False.

    Returns:
        For each row of ``points``, the same for all units of a quantizer.
    """
    about = {board.key: board for board in boards}
    marked = pd.Series(False, index=points.index)
    for (key, _), mine in points.groupby(["board", "rate_class"], observed=True):
        marked.loc[mine.index] = _front(mine, about[str(key)])
    return marked


def _front(points: pd.DataFrame, board: Board) -> NDArray[np.bool_]:
    unit, method = (pd.factorize(points[name])[0] for name in ("unit", "method"))
    having = pd.Series(method).groupby(unit).nunique().sort_index().to_numpy()
    counts = 2 * having >= method.max() + 1
    one = pd.factorize(points["method"].astype(str) + "\n" + points["spec"].astype(str))[0]
    there = counts[unit]
    several = pd.Series(unit[there]).groupby(one[there]).nunique().reindex(range(one.max() + 1), fill_value=0)
    whole = (several.to_numpy() == counts.sum()) & bool(counts.any())
    scaled = scale_of_quality(board.quality, points["quality"].to_numpy(dtype=np.float64))
    rate = points["rate"].to_numpy(dtype=np.float64)
    kept = np.zeros(len(whole), dtype=bool)
    kept[whole] = undominated(_mean(one, rate, there)[whole], _mean(one, scaled, there)[whole])
    return np.asarray(kept[one])


def _mean(groups: NDArray[np.int64], values: Numbers, there: NDArray[np.bool_]) -> Numbers:
    count = int(groups.max()) + 1
    total = np.bincount(groups[there], weights=values[there], minlength=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.bincount(groups[there], minlength=count))


def undominated(rate: Numbers, quality: Numbers) -> NDArray[np.bool_]:
    """Which points no other beats: as good or better at as many bits or fewer, one of the two strictly.

    >>> undominated(np.array([2.0, 3.0, 3.0, 4.0]), np.array([10.0, 9.0, 12.0, 12.0])).tolist()
    [True, False, True, False]
    """
    order = np.lexsort((-quality, rate))
    kept = np.zeros(len(rate), dtype=bool)
    best, at = -math.inf, math.nan
    for place in order.tolist():
        if quality[place] > best or (quality[place] == best and rate[place] == at):
            kept[place], best, at = True, quality[place], rate[place]
    return kept
