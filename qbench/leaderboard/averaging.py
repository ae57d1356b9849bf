"""Gains of points that several seeds were measured at: seeds are averaged first, then there is one gain.

Of a point and of the anchor the rate and the quality on its scale (dB, -ln KL, points of accuracy) are averaged over
the same seeds, those that both have: see :func:`shared`. From the means follow one curve, one gain and one verdict of
being outside the curve.

The standard error of a gain over n seeds is the delete-one jackknife's: with g_j the gain without seed j, of the point
and of the anchor alike, and g the mean of those,

    SE^2 = (n - 1)/n sum_j (g_j - g)^2,

0 for one seed. A g_j may not exist, where what is left is outside the curve or gives none. Then the mean square is
over the m that do exist, around the gain over all seeds: SE^2 = (n - 1)/m sum_j (g_j - gain)^2; NaN where none does.

Reference: Efron and Stein 1981, "The Jackknife Estimate of Variance".
"""

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from .anchor import curve, saved, telling
from .grouping import Integers, Numbers

Flags = NDArray[np.bool_]
Curve = tuple[Numbers, Numbers]


class Seeded(NamedTuple):
    """A point at one seed, in each row.

    Attributes:
        point: its number. curve: of the curve that it is compared with, one for each unit and kind of device.
        anchor: whether the point is the anchor's.
        rate: bits per element. quality: on the scale of ``scale_of_quality``.
    """

    point: Integers
    curve: Integers
    anchor: Flags
    seed: Integers
    rate: Numbers
    quality: Numbers

    def rows(self, chosen: Integers) -> "Seeded":
        """Those of these numbers."""
        place, rates = (self.point[chosen], self.curve[chosen]), (self.rate[chosen], self.quality[chosen])
        return Seeded(*place, self.anchor[chosen], self.seed[chosen], *rates)


@final
class Gains:
    """What is saved at each point.

    Attributes:
        gain, error: the gain and its standard error, NaN where there is none.
        censored: -1 worse and +1 better than all of the curve.
        seeds: how many it was compared over; 0 where there is nothing to compare it with.
    """

    def __init__(self, points: int) -> None:
        self.gain, self.error = np.full(points, np.nan), np.full(points, np.nan)
        self.censored, self.seeds = np.zeros(points, dtype=np.int8), np.zeros(points, dtype=np.int64)

    def add(self, quality: str, rows: Seeded) -> None:
        """Enter the points of those rows; ``quality`` names what they were measured by."""
        order = np.argsort(rows.curve, kind="stable")
        ends = np.flatnonzero(np.diff(rows.curve[order])) + 1
        for members in np.split(order, ends) if len(order) else []:
            self._add(quality, rows.rows(members))

    def _add(self, quality: str, rows: Seeded) -> None:
        """Those of one curve."""
        point, first, line = np.unique(rows.point, return_index=True, return_inverse=True)
        column = np.unique(rows.seed, return_inverse=True)[1]
        whole = _Averages(quality, rows, (line, column), (len(point), int(column.max()) + 1))
        anchor = np.flatnonzero(rows.anchor[first])
        patterns, pattern = np.unique(whole.there, axis=0, return_inverse=True)
        for number, own in enumerate(patterns):
            chosen = shared(whole.there[anchor], own)
            if chosen is not None:
                rates, seeds = chosen
                mine = np.flatnonzero(pattern.reshape(-1) == number)
                self._enter(point[mine], mine, whole, anchor[rates], seeds)

    def _enter(
        self, points: Integers, mine: Integers, of: "_Averages", anchor: Integers, seeds: Flags
    ) -> None:
        gain, censored, exists = of.gains(mine, anchor, seeds)
        if exists:
            self.gain[points], self.censored[points] = gain, censored
            self.seeds[points] = seeds.sum()
            self.error[points] = np.where(np.isfinite(gain), of.errors(gain, mine, anchor, seeds), np.nan)


@final
class _Averages:
    """Points x seeds of one curve."""

    def __init__(
        self, name: str, rows: Seeded, place: tuple[Integers, Integers], shape: tuple[int, int]
    ) -> None:
        self._name = name
        self.there = np.zeros(shape, dtype=bool)
        self._rate, self._quality = np.full(shape, np.nan), np.full(shape, np.nan)
        self.there[place], self._rate[place], self._quality[place] = True, rows.rate, rows.quality

    def _means(self, points: Integers, seeds: Flags) -> Curve:
        rate, quality = (table[points][:, seeds].mean(1) for table in (self._rate, self._quality))
        return rate, telling(self._name, quality)

    def gains(
        self, points: Integers, anchor: Integers, seeds: Flags
    ) -> tuple[Numbers, NDArray[np.int8], bool]:
        """The gain of each point over those seeds, how it is censored, and whether there is a curve at all."""
        found = curve(*self._means(anchor, seeds))
        return *saved(*found, *self._means(points, seeds)), len(found[0]) > 0

    def errors(self, gain: Numbers, points: Integers, anchor: Integers, seeds: Flags) -> Numbers:
        """The jackknife's standard errors."""
        number = int(seeds.sum())
        if number == 1:
            return np.zeros(len(points))
        without = np.stack(
            [self.gains(points, anchor, _but(seeds, seed))[0] for seed in np.flatnonzero(seeds).tolist()]
        )
        exist = np.isfinite(without)
        count = exist.sum(0)
        centre = np.where(count == number, without.mean(0), gain)
        squares = np.where(exist, (without - centre) ** 2, 0).sum(0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt((number - 1) * squares / count))


def _but(seeds: Flags, seed: int) -> Flags:
    left = seeds.copy()
    left[seed] = False
    return left


def shared(anchor: Flags, own: Flags) -> tuple[Flags, Flags] | None:
    """The anchor's rates that a point is compared with and the seeds that it and all of them have; None without two.

    Where not all of the anchor's rates have all seeds of the point, the choice is that of most measurements, rates x
    seeds, of the anchor, and of more rates where two are as many. So a rate that somebody measured at one seed takes
    no seeds from the others.

    Args:
        anchor: [rates, seeds], which were measured. own: [seeds], those of the point.

    >>> rates, seeds = shared(np.array([[True, True], [True, True], [True, False]]), np.array([True, True]))
    >>> rates.tolist(), seeds.tolist()
    ([True, True, False], [True, True])
    """
    both = anchor & own
    found: list[tuple[int, int, Flags, Flags]] = []
    for seeds in np.unique(np.vstack([both, both.all(0)]), axis=0) if len(both) > 1 else []:
        rates = np.asarray(both[:, seeds].all(1))
        if seeds.any() and rates.sum() > 1:
            found.append((int(rates.sum() * seeds.sum()), int(rates.sum()), rates, seeds))
    best = max(found, key=lambda one: one[:2], default=None)
    return best[2:] if best else None
