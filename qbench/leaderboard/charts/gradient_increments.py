"""How far the gradient moves when the weights move, on the same batch."""

import math
from collections.abc import Sequence

import altair as alt
import numpy as np

from ...registry import Registry
from .chart import Chart, nothing
from .gradients import EMPTY, told, trainings
from .newest import Taken
from .theme import finished, layered, powers, table, tips
from .words import Row, number, plain, rounded, shown_by

_TITLE = "How far a step moves the gradient"
_CAPTION = (
    "Each dot is a step of a training: |g(t+1) - g(t)| on the same batch against |w(t+1) - w(t)|, whole "
    "network; grey lines are constant ratios. Look whether a training stays near one line: then its gradient is"
    " Lipschitz with that constant where the training went."
)
_HEIGHT = 380
_MOST = 300
_NAMES = ("increments.step", "increments.update", "increments.lipschitz", "increments.drift")
_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")


def gradient_increments(registry: Registry) -> Chart:
    """From ``increments.*`` of gradient-statistics: |dg| = ratio |dw|. Coloured by optimizer, at most 300 steps."""
    found = [one for one in trainings(registry, *_NAMES) if increments(one)]
    rows = [row for one in found for row in increments(one)]
    if not rows:
        return nothing("gradient-increments", _TITLE, _CAPTION, EMPTY)
    few = rounded(rows[:: math.ceil(len(rows) / _MOST)], 3)
    spec = finished(_chart(few), {"steps": few, "guides": _guides(few)}, height=_HEIGHT)
    return Chart("gradient-increments", _title(rows), f"{_CAPTION} {told(found)}.", _alt(rows), spec)


def increments(one: Taken) -> list[Row]:
    """A row for each paired step at which both moved."""
    optimizer, model, dataset = (plain(one.words[name], 24) for name in ("optimizer", "model", "dataset"))
    common = {
        "optimizer": optimizer,
        "training": f"{model} on {dataset}",
        "show": shown_by(one.words["result_id"]),
    }
    columns = zip(*(one.samples(name) for name in _NAMES), strict=False)
    return [
        {**common, "step": int(step), "dw": dw, "dg": ratio * dw, "ratio": ratio, "drift": drift}
        for step, dw, ratio, drift in columns
        if dw > 0 and ratio > 0
    ]


def _chart(rows: list[Row]) -> alt.LayerChart:
    x = alt.X(field="dw", **_log("|Δw|, length of the step →"))
    y = alt.Y(field="dg", **_log("|Δg| on the same batch"))
    names = sorted({row["optimizer"] for row in rows})
    scale = alt.Scale(domain=names, range=[_HUES[i % len(_HUES)] for i in range(len(names))])
    legend = alt.Legend(columns=alt.ExprRef("width < 330 ? 2 : width < 480 ? 3 : 8"), symbolType="circle")
    tooltip = tips(
        ("training", "training"),
        ("optimizer", "optimizer"),
        ("step", "step"),
        ("dw", "|Δw|", ".3~g"),
        ("dg", "|Δg|", ".3~g"),
        ("ratio", "|Δg| / |Δw|", ".3~g"),
        ("drift", "|Δg| / |g|", ".3~g"),
        ("show", "reproduce"),
    )
    dots = alt.Chart(table("steps")).mark_point(size=32, filled=True, opacity=0.85)
    dots = dots.encode(
        x=x,
        y=y,
        color=alt.Color(field="optimizer", type="nominal", scale=scale, legend=legend),
        tooltip=tooltip,
    )
    guides = alt.Chart(table("guides")).encode(x=x, y=y)
    lines = guides.mark_line(style="limit", strokeDash=[2, 4]).encode(
        detail=alt.Detail(field="ratio", type="quantitative")
    )
    named = guides.transform_filter("isValid(datum.words)").mark_text(style="limit-text", align="left", dx=5)
    return layered(lines, dots, named.encode(text=alt.Text(field="words", type="nominal")))


def _log(title: str) -> Row:
    """What both axes have in common."""
    axis = alt.Axis(title=title, labelExpr=powers(), values=[10.0**power for power in range(-8, 9)])
    return {"type": "quantitative", "scale": alt.Scale(type="log", nice=False, padding=8), "axis": axis}


def _guides(rows: Sequence[Row]) -> list[Row]:
    """Ends of the lines |dg| = ratio |dw| for the powers of 10 that cross the dots."""
    left, right = (pick(row["dw"] for row in rows) for pick in (min, max))
    low, high = (pick(row["dg"] for row in rows) for pick in (min, max))
    ratios = [row["ratio"] for row in rows]
    found: list[Row] = []
    for power in range(math.floor(math.log10(min(ratios))), math.ceil(math.log10(max(ratios))) + 1):
        ratio = 10.0**power
        a, b = max(left, low / ratio), min(right, high / ratio)
        if a < b:
            found.append({"ratio": ratio, "dw": a, "dg": ratio * a})
            found.append({"ratio": ratio, "dw": b, "dg": ratio * b, "words": f"{ratio:g}"})
    return rounded(found)


def _quantiles(rows: Sequence[Row], name: str) -> tuple[float, float, float]:
    low, mid, high = np.percentile([row[name] for row in rows], [10, 50, 90])
    return float(low), float(mid), float(high)


def _title(rows: Sequence[Row]) -> str:
    _, mid, _ = _quantiles(rows, "drift")
    return f"A typical step changes the gradient of its own batch by {number(100 * mid, 0)} %"


def _alt(rows: Sequence[Row]) -> str:
    low, mid, high = _quantiles(rows, "ratio")
    small, usual, large = _quantiles(rows, "drift")
    return (
        f"{len(rows):,} steps: the ratio |dg| / |dw| has median {mid:.2g}, "
        f"10th to 90th percentile {low:.2g} to {high:.2g}; "
        f"relative to the gradient it moves by {number(usual)} in the median, {number(small)} to {number(large)}."
    )
