"""The best that each family of codes does on a source."""

from typing import TYPE_CHECKING

import numpy as np

from .theme import FAMILIES
from .words import Row, plain, rounded, shown_by

if TYPE_CHECKING:
    import pandas as pd

Corner = tuple[float, float, Row]
OFF_LINE = 1.0


def envelopes(points: "pd.DataFrame") -> list[Row]:
    """Of each family and rate class the codes on the lower convex hull of relative error against rate, by rate.

    Those above it lose against two others of the family that take turns, or against one and sending nothing. Left out
    is, besides, what stands more than 1 dB above the line that joins its neighbours.

    Args:
        points: of one source.
    """
    known = points[points["sqnr_db"].notna() & points["gap_db"].notna() & points["rate"].notna()]
    found: list[Row] = []
    for (family, rate_class), group in known.groupby(["family", "rate_class"], sort=True, observed=True):
        ordered = group.sort_values(["rate", "gap_db"])
        errors = 10 ** (-ordered["sqnr_db"].to_numpy(dtype=float) / 10)
        before = np.concatenate([[1.0], np.minimum.accumulate(errors)[:-1]])
        lower = errors < np.minimum(before, 1.0)
        rows = [_row(str(family), str(rate_class), one) for one in ordered[lower].to_dict("records")]
        found += _joined(_hull(rows, errors[lower].tolist()))
    return rounded(found)


def _hull(rows: list[Row], errors: list[float]) -> list[Row]:
    """Of codes in the order of rate, errors falling; it begins with sending nothing."""
    hull: list[Corner] = [(0.0, 1.0, {})]
    for row, error in zip(rows, errors, strict=True):
        point = (float(row["rate"]), error, row)
        while len(hull) > 1 and not _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return [row for _, _, row in hull[1:]]


def _below(left: Corner, middle: Corner, right: Corner) -> bool:
    """Whether the middle one is below the line between the others."""
    return (middle[1] - left[1]) * (right[0] - left[0]) < (right[1] - left[1]) * (middle[0] - left[0])


def _joined(rows: list[Row]) -> list[Row]:
    """Without those that stand off the line that joins their neighbours, the farthest first."""
    while len(rows) > 2:
        off = [_above(*rows[at - 1 : at + 2]) for at in range(1, len(rows) - 1)]
        if max(off) <= OFF_LINE:
            break
        farthest = off.index(max(off)) + 1
        rows = rows[:farthest] + rows[farthest + 1 :]
    return rows


def _above(left: Row, middle: Row, right: Row) -> float:
    """How many dB the middle one stands above the line between the others, at its rate."""
    share = (middle["rate"] - left["rate"]) / (right["rate"] - left["rate"])
    return float(middle["gap"] - left["gap"] - share * (right["gap"] - left["gap"]))


def _row(family: str, rate_class: str, one: Row) -> Row:
    return {
        "family": family if family in FAMILIES else "other",
        "rate_class": rate_class,
        "rate": one["rate"],
        "gap": one["gap_db"],
        "sqnr": one["sqnr_db"],
        "spec": plain(one["spec"]),
        "label": plain(one["label"], 48),
        "seeds": int(one["seeds"]),
        "show": shown_by(one["result_id"]),
    }
