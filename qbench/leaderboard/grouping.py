"""Tables as numbers: distinct texts numbered, combinations of numbers numbered, means over groups."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]


def numbered(texts: Sequence[str]) -> tuple[list[str], Integers]:
    """Distinct texts in order, and the place of each text among them.

    >>> numbered(["b", "a", "b"])
    (['a', 'b'], array([1, 0, 1]))
    """
    distinct = sorted(set(texts))
    place = {text: number for number, text in enumerate(distinct)}
    return distinct, np.array([place[text] for text in texts], dtype=np.int64)


def combined(*columns: ArrayLike) -> Integers:
    """A number for each combination of non-negative ones, in their order.

    >>> combined([0, 1, 0], [2, 0, 2])
    array([0, 1, 0])
    """
    number = np.zeros(len(np.asarray(columns[0])), dtype=np.int64)
    for column in columns:
        values = np.asarray(column, dtype=np.int64)
        number = ranks(number * (int(values.max(initial=0)) + 1) + values)
    return number


def ranks(values: Integers) -> Integers:
    """The place of each value among the distinct ones."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64)


def texts_of(texts: Sequence[str], numbers: Integers) -> pd.Categorical:
    """The column of the texts of those numbers; its categories are those that occur, in order."""
    distinct, place = numbered(texts)
    codes = place[numbers] if len(numbers) else np.empty(0, dtype=np.int64)
    return pd.Categorical.from_codes(codes.tolist(), categories=distinct).remove_unused_categories()


def means(groups: Integers, values: Numbers, count: int) -> Numbers:
    """Mean of the finite values of each of ``count`` groups, NaN where there are none."""
    finite = np.isfinite(values)
    total = np.bincount(groups[finite], weights=values[finite], minlength=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.bincount(groups[finite], minlength=count))


def errors(groups: Integers, values: Numbers, count: int) -> Numbers:
    """Standard error of the mean of the finite values of each group: s / sqrt(n), 0 where there is one."""
    finite = np.isfinite(values)
    mine = groups[finite]
    number = np.bincount(mine, minlength=count)
    squares = (values[finite] - means(groups, values, count)[mine]) ** 2
    total = np.bincount(mine, weights=squares, minlength=count)
    return np.asarray(np.sqrt(total / np.maximum(number - 1, 1) / np.maximum(number, 1)))
