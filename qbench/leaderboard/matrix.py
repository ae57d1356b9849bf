"""Gains of methods in units, and the units that count."""

from dataclasses import dataclass
from typing import final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .grouping import Integers, Numbers, means


@final
@dataclass(frozen=True)
class Matrix:
    """Methods x units: mean gain, its standard error, and whether the anchor says anything about the method there.

    Methods and units are in the order of their texts; NaN where there is no gain.
    """

    methods: list[str]
    units: list[str]
    datasets: list[str]
    gain: Numbers
    error: Numbers
    judged: NDArray[np.bool_]

    def counting(self) -> "Matrix":
        """Only the units that count: at least half of the methods that are judged anywhere are judged in them."""
        methods, there = int(self.judged.any(1).sum()), self.judged.sum(0)
        kept = (2 * there >= methods) & (there > 0)
        return Matrix(
            methods=self.methods,
            units=[unit for unit, keep in zip(self.units, kept, strict=True) if keep],
            datasets=[name for name, keep in zip(self.datasets, kept, strict=True) if keep],
            gain=self.gain[:, kept],
            error=self.error[:, kept],
            judged=self.judged[:, kept],
        )


def matrix_of(points: pd.DataFrame) -> Matrix:
    """Of the points of one board and rate class: in each cell means over the points of that method and unit."""
    method, methods = pd.factorize(points["method"].astype(object), sort=True)
    unit, units = pd.factorize(points["unit"].astype(object), sort=True)
    place, shape = method * len(units) + unit, (len(methods), len(units))
    gain, error = (np.asarray(points[name], dtype=np.float64) for name in ("gain", "gain_se"))
    judged = np.isfinite(gain) | (np.asarray(points["censored"]) != 0)
    of_unit = dict(zip(points["unit"].astype(object), points["dataset"].astype(object), strict=True))
    return Matrix(
        methods=[str(one) for one in methods],
        units=[str(one) for one in units],
        datasets=[str(of_unit[one]) for one in units],
        gain=_cells(place, gain, shape),
        error=_cells(place, error, shape),
        judged=(np.bincount(place[judged], minlength=shape[0] * shape[1]) > 0).reshape(shape),
    )


def _cells(place: Integers, values: Numbers, shape: tuple[int, int]) -> Numbers:
    return means(place, values, shape[0] * shape[1]).reshape(shape)


def row_means(values: Numbers) -> Numbers:
    """Mean of the finite values of each row."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(finite, values, 0).sum(1) / finite.sum(1))
