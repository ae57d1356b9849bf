"""The mean squared error as a function of beta: where it is measured, and its local minima."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LEAST_PROMINENCE_DB = 0.1
LEAST_PROMINENCE_SE = 5.0
_MOST_REFINED = 16
_MOST_SE = 1e6
SILENCE = 1e-15  # what float32 leaves of a vector that it can write


@dataclass(frozen=True)
class Point:
    """What one beta does to the same vectors as every other beta; all errors are relative to their mean energy.

    Attributes:
        beta: the scale.
        parts: mean squared error by batch, overload (no, yes) and size of the vector (small, large): [batches, 2, 2].
            The sum of the four, averaged over batches, is the mean squared error.
        radial: what remains of the error if every decoded vector had the right direction.
        overload: share of vectors that overload.
        choices: share of vectors by expansion or by beta of best-of-k; empty where there is no choice.
    """

    beta: float
    parts: Tensor
    radial: float
    overload: float
    choices: tuple[float, ...] = ()

    @cached_property
    def batches(self) -> Tensor:
        return self.parts.sum((1, 2))

    @cached_property
    def mse(self) -> float:
        return float(self.batches.mean())

    @cached_property
    def granular_mse(self) -> float:
        """Of the vectors that do not overload."""
        return float(self.parts[:, 0].sum(1).mean())

    @cached_property
    def overload_mse(self) -> float:
        return float(self.parts[:, 1].sum(1).mean())

    @cached_property
    def by_size(self) -> tuple[float, float]:
        """Of the small and of the large vectors."""
        small, large = self.parts.sum(1).mean(0).tolist()
        return small, large


@dataclass(frozen=True)
class Minimum:
    """An interior local minimum. Its prominence is what must be climbed to reach a lower point or the end of the grid.

    ``prominence_se`` counts standard errors, paired by batch: by how many each barrier stands above the minimum, and
    above the first lower point behind it; the least of these. Where few vectors overload, the error rises between two
    of them and falls when the next one fits: such a barrier is sure from one side only.
    """

    place: int
    beta: float
    mse: float
    prominence_db: float
    prominence_se: float

    @property
    def certified(self) -> bool:
        return self.prominence_db >= LEAST_PROMINENCE_DB and self.prominence_se >= LEAST_PROMINENCE_SE


def scan(
    measure: Callable[[float], Point], lower: float, upper: float, per_octave: int, refine: int
) -> list[Point]:
    """Points on a geometric grid over the whole range, then ``refine`` a step beside every local minimum.

    The grid is global since a landscape of several minima misleads every search that is not.
    """
    steps = max(2, round(per_octave * math.log2(upper / lower)))
    points = [measure(_single(lower * (upper / lower) ** (i / steps))) for i in range(steps + 1)]
    deepest = sorted(minima(points), key=lambda found: -found.prominence_db)[:_MOST_REFINED]
    betas = {
        _single(points[left].beta * (points[left + 1].beta / points[left].beta) ** (i / refine))
        for found in deepest
        for left in (found.place - 1, found.place)
        for i in range(1, refine)
    }
    return sorted([*points, *map(measure, sorted(betas))], key=lambda point: point.beta)


def minima(points: Sequence[Point]) -> list[Minimum]:
    """Every interior local minimum, in the order of beta."""
    from scipy.signal import find_peaks, peak_prominences  # costs half a second to import

    depth = [-decibel(point.mse) for point in points]
    places, _ = find_peaks(depth)
    prominences, lefts, rights = peak_prominences(depth, places)
    found = []
    for place, prominence, left, right in zip(
        places.tolist(), prominences.tolist(), lefts.tolist(), rights.tolist(), strict=True
    ):
        se = min(
            _standing(points, place, range(left, -1, -1)), _standing(points, place, range(right, len(points)))
        )
        found.append(Minimum(place, points[place].beta, points[place].mse, prominence, se))
    return found


def _standing(points: Sequence[Point], place: int, outwards: Sequence[int]) -> float:
    """Standard errors by which the barrier, the first of ``outwards``, stands above both its sides."""
    here, barrier = points[place], points[outwards[0]]
    lower = next((points[i] for i in outwards if points[i].mse < here.mse), here)
    return min(standard_errors(barrier.batches - side.batches) for side in (here, lower))


def standard_errors(differences: Tensor) -> float:
    """The mean of paired differences [batches] in units of its standard error, at most 10^6."""
    mean, error = float(differences.mean()), float(differences.std()) / math.sqrt(len(differences))
    return min(_MOST_SE, mean / error) if error > 0 else _MOST_SE * (mean > 0)


def decibel(mse: float) -> float:
    """10 log10, with -150 dB for nothing."""
    return 10 * math.log10(max(mse, SILENCE))


def _single(beta: float) -> float:
    """The nearest float32: what a codebook can say."""
    return float(torch.tensor(beta, dtype=torch.float32))
