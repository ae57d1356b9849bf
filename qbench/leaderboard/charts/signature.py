"""The figure that opens the page: how far above the rate-distortion limit each family of codes stays."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt

from .chart import Chart, nothing
from .envelope import OFF_LINE, envelopes
from .limits import SCALAR_GAP_DB, sphere_gap_db
from .theme import (
    FAMILIES,
    family_colour,
    family_shape,
    finished,
    haloed,
    layered,
    present,
    rate_dash,
    table,
    tips,
)
from .words import Row, count, number, rounded, several

if TYPE_CHECKING:
    import pandas as pd

DIMENSION = 24
SOURCE = "gaussian"
_TITLE = "How close each family of codes comes to the limit"
_HEIGHT = 304
_HIGHEST = 6.0
_PIXELS = 17.0
_SIDE_BY_SIDE = 2.2
_NEAR = 0.3
_CAPTION = (
    "Mean squared error on a Gaussian source in dB above the least that any code of as many bits can reach: "
    "down is better, 0 is the limit. Each line joins the best of a family, solid at fixed rate, dashed "
    f"entropy-coded, without those more than {OFF_LINE:.0f} dB above the line of their neighbours; look for lines "
    "below 1.53 dB, where no scalar code of high rate can be."
)
_EMPTY = (
    "Run `qbench run --suite standard --select track=rate-distortion` to measure codes on a Gaussian source."
)


def signature(points: "pd.DataFrame") -> Chart:
    """Best of each family and rate class, on the data set gaussian of a board rate-distortion/source."""
    rows = envelopes(points[points["dataset"] == SOURCE])
    if not rows:
        return nothing("signature", _TITLE, _CAPTION, _EMPTY)
    top = min(_HIGHEST, max(3.0, math.ceil(max(row["gap"] for row in rows) + 0.3)))
    drawn = [row for row in rows if row["gap"] <= top]
    families = present(row["family"] for row in drawn)
    beyond = len(rows) - len(drawn)
    stands = "stands" if beyond == 1 else "stand"
    note = f" {count(beyond, 'point')} above {top:.0f} dB {stands} outside the plot." if beyond else ""
    right = max(row["rate"] for row in drawn)
    chart = layered(*_limits(top, right), *_lines(families, top, right), *_ends(families, top, right))
    tables = {"limits": _rules(right), "codes": rows, "ends": _labels(rows, top)}
    return Chart(
        "signature", _title(rows), _CAPTION + note, _alt(rows), finished(chart, tables, height=_HEIGHT)
    )


def _title(rows: Sequence[Row]) -> str:
    near = [row for row in rows if abs(row["rate"] - 2) <= _NEAR]
    if not near:
        return _TITLE
    best = FAMILIES[min(near, key=lambda row: float(row["gap"]))["family"]].words
    return f"At 2 bits {best} codes come closest to the rate-distortion limit"


def _x(right: float) -> alt.X:
    axis = alt.Axis(title="true bits per element →", values=list(range(math.ceil(right) + 1)), format="d")
    return alt.X(
        field="rate", type="quantitative", scale=alt.Scale(domain=[0, right + 0.3], nice=False), axis=axis
    )


def _y(top: float, field: str = "gap") -> alt.Y:
    axis = alt.Axis(title="↓ dB above the rate-distortion limit", tickCount=6)
    return alt.Y(field=field, type="quantitative", scale=alt.Scale(domain=[0, top], nice=False), axis=axis)


def _rules(right: float) -> list[Row]:
    sphere = sphere_gap_db(DIMENSION)
    rules = [
        {"gap": 0.0, "up": True, "words": "the limit"},
        {"gap": sphere, "up": True, "words": f"sphere bound, n = {DIMENSION}: {number(sphere)} dB"},
        {"gap": SCALAR_GAP_DB, "up": False, "words": f"scalar, high rate: {number(SCALAR_GAP_DB)} dB"},
    ]
    return rounded([{**rule, "rate": right + 0.3} for rule in rules])


def _limits(top: float, right: float) -> list[alt.Chart]:
    chart = alt.Chart(table("limits"))
    layers = [chart.mark_rule(style="limit").encode(y=_y(top))]
    for test, dy in (("datum.up", -8), ("!datum.up", 9)):
        text = chart.transform_filter(test).mark_text(style="limit-text", align="right", dy=dy)
        layers.append(text.encode(x=_x(right), y=_y(top), text=alt.Text(field="words", type="nominal")))
    return layers


def _lines(families: list[str], top: float, right: float) -> list[alt.Chart]:
    base = alt.Chart(table("codes")).encode(
        x=_x(right), y=_y(top), color=family_colour(families), shape=family_shape(families)
    )
    lines = base.mark_line(clip=True).encode(strokeDash=rate_dash(legend=True))
    tooltip = tips(
        ("label", "code"),
        ("spec", "parameters"),
        ("rate_class", "rate"),
        ("rate", "true bits", ".3f"),
        ("gap", "dB above the limit", ".2f"),
        ("sqnr", "SQNR in dB", ".2f"),
        ("seeds", "seeds"),
        ("show", "reproduce"),
    )
    return [lines, base.mark_point(style="ring", clip=True, size=60, filled=True).encode(tooltip=tooltip)]


def _labels(rows: Sequence[Row], top: float) -> list[Row]:
    """The name of each line at its last point, moved apart where two would overlap.

    Of lines that leave at the top near each other, all but the last have theirs to the left.
    """
    ends = [{key: end[key] for key in ("family", "rate", "gap")} for end in _last(rows, top)]
    leaving = sorted(end["rate"] for end in ends if end["gap"] == top)
    before = {one for one, other in itertools.pairwise(leaving) if other - one < _SIDE_BY_SIDE}
    sides = [
        {**end, "left": end["gap"] == top and end["rate"] in before, "words": _name(end, top)} for end in ends
    ]
    return [
        row for left in (False, True) for row in spread([one for one in sides if one["left"] is left], top)
    ]


def _ends(families: list[str], top: float, right: float) -> list[alt.Chart]:
    base = alt.Chart(table("ends")).encode(
        x=_x(right), y=_y(top, "place"), text=alt.Text(field="words", type="nominal")
    )
    after, before = (base.transform_filter(test) for test in ("!datum.left", "datum.left"))
    colour = family_colour(families)
    return [
        *haloed(after, colour, align="left", dx=9, fontWeight=600),
        *haloed(before, colour, align="right", dx=-9, fontWeight=600),
    ]


def _last(rows: Sequence[Row], top: float) -> list[Row]:
    """Where lines end or leave the plot: of each family that at fixed rate, or else that of its entropy-coded line."""
    ends: dict[str, Row] = {}
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        line = [row for row in own if row["rate_class"] == "fixed"] or own
        below = [at for at, row in enumerate(line) if row["gap"] <= top]
        if not below:
            continue
        here = line[below[-1]]
        ends[family] = here if here is line[-1] else _leaving(here, line[below[-1] + 1], top)
    return list(ends.values())


def _leaving(here: Row, there: Row, top: float) -> Row:
    """The point at height ``top`` of the line from ``here`` to ``there``."""
    share = (top - here["gap"]) / (there["gap"] - here["gap"])
    return {**here, "rate": round(here["rate"] + share * (there["rate"] - here["rate"]), 3), "gap": top}


def _name(end: Row, top: float) -> str:
    return FAMILIES[end["family"]].words + (" ↑" if end["gap"] == top else "")


def spread(labels: list[Row], top: float) -> list[Row]:
    """Labels with the height ``place`` they are written at: near ``gap``, a line apart where they are side by side."""
    step = _PIXELS * top / _HEIGHT
    placed: list[Row] = []
    for label in sorted(labels, key=lambda row: (row["gap"], -row["rate"])):
        near = [other["place"] for other in placed if abs(other["rate"] - label["rate"]) < _SIDE_BY_SIDE]
        wanted = min(max(float(label["gap"]), step / 2), top - step / 4)
        tried = [wanted + way * turn * step / 2 for turn in range(12) for way in (1, -1)]
        free = (
            y for y in tried if step / 2 <= y < top and all(abs(y - taken) >= 0.99 * step for taken in near)
        )
        placed.append({**label, "place": round(next(free, wanted), 3)})
    return placed


def _alt(rows: Sequence[Row]) -> str:
    parts = []
    for bits in (2, 4):
        near = sorted((row for row in rows if abs(row["rate"] - bits) <= _NEAR), key=lambda row: row["gap"])
        best: dict[str, Row] = {}
        for row in near:
            best.setdefault(f"{FAMILIES[row['family']].words} ({row['rate_class']})", row)
        if best:
            listed = several([f"{name} {number(row['gap'])} dB" for name, row in list(best.items())[:5]])
            parts.append(f"At about {bits} bits the best of each family stay above the limit by: {listed}.")
    several_bits = [row for row in rows if row["rate"] >= 0.99]
    if several_bits:
        least = min(several_bits, key=lambda row: float(row["gap"]))
        parts.append(
            f"From 1 bit on the least distance is {number(least['gap'])} dB, by {least['label']} at "
            f"{number(least['rate'])} bits."
        )
    parts.append(
        f"Scalar codes of high rate cannot go below {number(SCALAR_GAP_DB)} dB, lattices in {DIMENSION} dimensions not "
        f"below {number(sphere_gap_db(DIMENSION))} dB."
    )
    return " ".join(parts)
