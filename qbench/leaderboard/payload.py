"""The data of the page: columns of numbers, texts coded by their place in a sorted dictionary.

Dictionaries are sorted by code point, so that the order of codes is the order of texts in every language.
"""

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle import json_text
from .charts.chart import Chart
from .charts.theme import config
from .points import Board

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 50_000
PLAIN_BYTES = 400_000
LONGEST = 10_000

TEXTS = (
    *("method", "label", "quantizer", "family", "rate_class", "plugin", "reference", "spec"),
    *("model", "dataset", "optimizer", "unit", "device", "environment"),
)
# More than are shown: what is shown is a mean of these, rounded once.
DECIMALS = {"rate": 6, "gain": 6, "gain_se": 6, "coverage": 6}
SIGNIFICANT = {"quality": 7, "accuracy_drop": 7}
COUNTS = ("seeds", "censored", "results", "reproduced", "failed")
FLAGS = ("anchor", "single")
# Beginnings of identifiers, long enough to be the only ones of a million.
NAMES = {"result_id": 12, "cell_id": 12}


@dataclass(frozen=True)
class Kept:
    """The points of the page, and how many methods and points stand in the files beside it only."""

    points: "pd.DataFrame"
    methods_left_out: int = 0
    points_left_out: int = 0


def kept(points: "pd.DataFrame", most: int = MOST_POINTS) -> Kept:
    """At most so many points: beyond it whole methods are left out, of every board the worst first.

    A method's place is the share of methods of its board and rate class that save more bits in the mean; the anchor and
    what is near it stay. Numbers are rounded as the page has them.
    """
    if len(points) <= most:
        return Kept(rounded(points))
    groups = ["board", "rate_class", "method"]
    one = points.groupby(groups, sort=True, observed=True).agg(
        gain=("gain", "mean"), size=("gain", "size"), anchor=("anchor", "max")
    )
    place = one.groupby(level=["board", "rate_class"], observed=True)["gain"].rank(
        ascending=False, pct=True, na_option="bottom"
    )
    order = one.assign(place=place.where(~one["anchor"].astype(bool), 0.0)).sort_values(
        "place", kind="stable"
    )
    chosen = order.index[order["size"].cumsum() <= most]
    within = points.set_index(groups).index.isin(chosen)
    return Kept(rounded(points[within]), len(order) - len(chosen), int((~within).sum()))


def rounded(points: "pd.DataFrame") -> "pd.DataFrame":
    """Numbers as the page has them: of the same ones Python and JavaScript make the same standings."""
    new = {name: points[name].round(digits) for name, digits in DECIMALS.items() if name in points}
    new |= {
        name: points[name].map(lambda x, digits=digits: float(f"{x:.{digits}g}"))
        for name, digits in SIGNIFICANT.items()
        if name in points
    }
    return points.assign(**new).reset_index(drop=True)


def payload(
    boards: Sequence[Board],
    points: "pd.DataFrame",
    charts: Sequence[Chart],
    *,
    failures: Mapping[str, Sequence[Mapping[str, Any]]],
    left_out: tuple[int, int] = (0, 0),
) -> str:
    """The content of the page's data element. Where it would be long, all that the first chart does not need is packed.

    What is packed is JSON, deflated, in base64: the columns, and the other charts.

    Raises:
        ValueError: a chart holds a number that JSON cannot say.
    """
    own = [_chart(chart) for chart in charts]
    content = {
        "boards": [asdict(board) for board in boards],
        "charts": own[:1],
        "config": {"light": config("light"), "dark": config("dark")},
        "failures": {key: [dict(one) for one in many] for key, many in failures.items()},
        "left_out": {"methods": left_out[0], "points": left_out[1]},
    }
    rest = _columns(points, [board.key for board in boards]) | {"more": own[1:]}
    text = json_text(rest)
    if len(text) <= PLAIN_BYTES:
        return json_text(content | rest)
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return json_text(content | {"packed": packed})


def _chart(chart: Chart) -> dict[str, Any]:
    words = {"id": chart.id, "spec": chart.spec, "empty": chart.empty}
    return words | {"boards": chart.boards, "linked": chart.linked}


def _columns(points: "pd.DataFrame", boards: list[str]) -> dict[str, Any]:
    place = {key: number for number, key in enumerate(boards)}
    columns: dict[str, list[Any]] = {"board": [place[key] for key in points["board"]]}
    names: dict[str, list[str]] = {}
    for name in (name for name in TEXTS if name in points):
        names[name], columns[name] = _coded(points[name])
    for name in (name for name in (*DECIMALS, *SIGNIFICANT) if name in points):
        columns[name] = _numbers(points[name])
    for name in (name for name in (*COUNTS, *FLAGS) if name in points):
        columns[name] = [int(value) for value in points[name]]
    for name in (name for name in NAMES if name in points):
        columns[name] = [str(value)[: NAMES[name]] for value in points[name]]
    return {"points": columns, "names": names}


def _coded(column: "pd.Series[Any]") -> tuple[list[str], list[int]]:
    """The distinct texts in order, and of each row the place of its own among them."""
    coded = column.astype("category").cat.remove_unused_categories().cat
    texts = [str(text)[:LONGEST] for text in coded.categories]
    codes = coded.codes.to_numpy()
    names = sorted({*texts, *([""] if (codes < 0).any() else [])})
    place = {text: number for number, text in enumerate(names)}
    of_code = np.array([place.get("", 0), *(place[text] for text in texts)])
    return names, of_code[codes + 1].tolist()


def _numbers(column: "pd.Series[Any]") -> list[float | int | None]:
    """JSON numbers as short as they can be; null for NaN and infinities."""
    values = column.to_numpy(dtype=np.float64).tolist()
    return [
        (int(value) if value.is_integer() else value) if math.isfinite(value) else None for value in values
    ]
