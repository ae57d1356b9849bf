"""What is lost against true bits, with the front of codes that nothing beats: of the page's selection."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import altair as alt

from ..boards import Board
from .chart import Chart, Spec, nothing
from .theme import (
    COLUMNS,
    POINTS,
    as_fill,
    as_stroke,
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
from .words import Row, count, number, plain

if TYPE_CHECKING:
    import pandas as pd

_TITLE = "What each bit buys"
_CAPTION = (
    "Every mark is a quantizer at one setting, averaged over the models and data sets that are selected; the "
    "lines join those that nothing beats at as few bits, solid at fixed rate, dashed entropy-coded. Look for "
    "marks near the line left of the bend. Hollow marks lack a model or data set that others have."
)
_EMPTY = "Run `qbench run --suite standard --select track=ptq` to quantize trained networks."
_HEIGHT = 420
_FLOAT_BITS = 31.5
_LONG = 18
_POINTS_LOST = "drop"
NETWORKS = ("ptq", "qat", "mixed-precision", "saved-activations", "gradient-compression")


def pareto(points: "pd.DataFrame", boards: Sequence[Board]) -> Chart:
    """Of the rows that the page gives it as ``points``; ``boards`` has those that are drawn in another way.

    Networks are drawn by accuracy points lost (``drop``), where they have an accuracy, all else by the board's quality.
    """
    families = present(points.loc[points["rate"] < _FLOAT_BITS, "family"].unique())
    ways = {board.key: _way(points[points["board"] == board.key], board) for board in boards}
    drawn = {way: _spec(way, families) for way in dict.fromkeys(ways.values())}
    networks = [board for board in boards if board.track in NETWORKS]
    chosen = max(networks or boards, key=lambda board: board.results, default=None)
    if chosen is None:
        return nothing("pareto", _TITLE, _CAPTION, _EMPTY)
    alt_text = _alt(points[points["board"] == chosen.key], chosen)
    others = {key: drawn[way] for key, way in ways.items() if way != ways[chosen.key]}
    return Chart("pareto", _TITLE, _CAPTION, alt_text, drawn[ways[chosen.key]], _EMPTY, others, linked=True)


@dataclass(frozen=True)
class Way:
    """How a board is drawn: the field of a linked row, whether more of it is better (+1) or less (-1), its name."""

    field: str
    better: int
    words: str
    logarithmic: bool


def _way(own: "pd.DataFrame", board: Board) -> Way:
    if board.track in NETWORKS and bool(own["accuracy_drop"].notna().any()):
        return Way(_POINTS_LOST, -1, "accuracy lost (percentage points)", False)
    return Way("quality", board.better, plain(board.quality_label, 60), board.quality == "kl")


def _spec(way: Way, families: list[str]) -> Spec:
    base = _averaged(way)
    chart = layered(*_marks(base, way, families), *_front(base, way))
    return finished(chart, {}, height=_HEIGHT) | {"usermeta": {"way": asdict(way)}}


def _averaged(way: Way) -> alt.Chart:
    """One row for each code: means over the units that at least half of the methods have, of divergences geometric.

    ``whole``: these are as many units as any code has; ``lit``: it is selected, or nothing is.
    """
    alike: list[str | alt.FieldName] = ["label", "spec", "family", "rate_class", "method"]
    return (
        alt.Chart(table(POINTS))
        .transform_filter(f"isValid(datum.bits) && isValid(datum.{way.field})")
        .transform_calculate(
            one=f"log(max(1e-12, datum.{way.field}))" if way.logarithmic else f"datum.{way.field}"
        )
        .transform_joinaggregate(methods="distinct(method)")
        .transform_joinaggregate(here="distinct(method)", groupby=["unit"])
        .transform_joinaggregate(crowd="max(here)")
        .transform_filter("2 * datum.here >= datum.methods || datum.here == datum.crowd")
        .transform_aggregate(
            bits="mean(bits)",
            value="mean(one)",
            least=f"min({way.field})",
            most=f"max({way.field})",
            units="distinct(unit)",
            gain="mean(gain)",
            seeds="sum(seeds)",
            selected="max(selected)",
            groupby=alike,
        )
        .transform_joinaggregate(all="max(units)", any="max(selected)")
        .transform_calculate(
            value="exp(datum.value)" if way.logarithmic else "datum.value",
            whole="datum.units == datum.all",
            cost=f"{-way.better} * datum.value",
            lit="!datum.any || datum.selected > 0",
        )
    )


def _y(way: Way) -> alt.Y:
    scale, axis = alt.Scale(zero=False, padding=10), alt.Axis(tickCount=6)
    if way.field == _POINTS_LOST:
        scale = alt.Scale(type="symlog", constant=1, nice=False, padding=44)
        axis = alt.Axis(values=[-2, -1, 0, 1, 2, 5, 10, 20, 50, 90])
    elif way.logarithmic:
        scale = alt.Scale(type="log", padding=20)
    return alt.Y(field="value", type="quantitative", scale=scale, axis=axis, title=_arrow(way) + way.words)


def _arrow(way: Way) -> str:
    return "↑ " if way.better > 0 else "↓ "


def _x() -> alt.X:
    axis = alt.Axis(title="true bits per element →", tickCount=8, grid=False)
    return alt.X(
        field="bits", type="quantitative", scale=alt.Scale(zero=True, nice=False, padding=14), axis=axis
    )


def _marks(base: alt.Chart, way: Way, families: list[str]) -> list[alt.Chart]:
    tooltip = tips(
        ("label", "code"),
        ("spec", "parameters"),
        ("rate_class", "rate"),
        ("bits", "true bits", ".3f"),
        ("value", way.words, ".4~g"),
        ("least", "least of them", ".4~g"),
        ("most", "most of them", ".4~g"),
        ("units", "models and data sets"),
        ("seeds", "seeds in all"),
    )
    common = base.encode(
        x=_x(),
        y=_y(way),
        shape=family_shape(families, legend=COLUMNS),
        tooltip=tooltip,
        opacity=alt.condition("datum.lit", alt.value(0.9), alt.value(0.12)),
    )
    full = common.transform_filter("datum.whole").mark_point(style="ring", size=60)
    hollow = common.transform_filter("!datum.whole").mark_point(filled=False, size=45, strokeWidth=1.2)
    colour = family_colour(families, legend=COLUMNS)
    return [hollow.encode(stroke=as_stroke(colour)), full.encode(fill=as_fill(colour))]


def _front(base: alt.Chart, way: Way) -> list[alt.Chart]:
    """Steps through the codes that none of their rate class beats at as few bits.

    Named is, near each whole number of bits (each second where room is short), the last that none beats; names
    stand in two rows by turns, long ones without what is in brackets.
    """
    order: list[alt.SortField | dict[str, str]] = [alt.SortField("bits"), alt.SortField("cost")]
    front = (
        base.transform_filter("datum.whole")
        .transform_window(best="min(cost)", frame=[None, 0], sort=order, groupby=["rate_class"])
        .transform_filter("datum.cost <= datum.best")
    )
    line = front.mark_line(style="limit", interpolate="step-after", strokeWidth=1.5).encode(
        x=_x(), y=_y(way), strokeDash=rate_dash()
    )
    down = way.better < 0
    named = (
        front.transform_window(least="min(cost)", frame=[None, 0], sort=order)
        .transform_filter("datum.cost <= datum.least")
        .transform_calculate(
            near="round(datum.bits / (width < 500 ? 2 : 1))",
            name=f"length(datum.label) > {_LONG} ? split(datum.label, ' (')[0] : datum.label",
        )
        .transform_joinaggregate(last="max(bits)", groupby=["near"])
        .transform_filter("datum.bits == datum.last && datum.near > 0")
        .encode(x=_x(), y=_y(way), text=alt.Text(field="name", type="nominal"))
    )
    look: Row = {"align": "right", "baseline": "top" if down else "bottom", "dx": -7, "limit": 140}
    look["dy"] = alt.ExprRef(f"{'' if down else '-'}(datum.near % 2 ? 5 : 20)")
    return [line, *haloed(named, **look)]


def _alt(own: "pd.DataFrame", board: Board) -> str:
    way = _way(own, board)
    column = "accuracy_drop" if way.field == _POINTS_LOST else "quality"
    rows = averaged(own, column)
    parts = []
    for bits in (2, 4, 8):
        near = [row for row in rows if abs(row["rate"] - bits) <= 0.5]
        if near:
            best = max(near, key=lambda row: way.better * float(row[column]))
            parts.append(f"near {bits} bits {best['label']} is best with {number(best[column])}")
    found = f"{way.words} of {plain(board.title)}, {count(len(rows), 'code')}: "
    return found[0].upper() + found[1:] + ("; ".join(parts) or "none near 2, 4 or 8 bits") + "."


def averaged(own: "pd.DataFrame", column: str) -> list[Row]:
    """What the chart draws: a row for each code with means over the units that at least half of the methods have.

    Codes that lack one of these are left out.
    """
    known = own[own[column].notna() & own["rate"].notna()]
    if not len(known):
        return []
    here = known.groupby("unit", observed=True)["method"].nunique()
    counted = here[(2 * here >= known["method"].nunique()) | (here == here.max())].index
    known = known[known["unit"].isin(counted)]
    means = {"rate": ("rate", "mean"), column: (column, "mean"), "units": ("unit", "nunique")}
    found = known.groupby(["label", "spec", "family", "rate_class"], as_index=False, observed=True).agg(
        **means
    )
    rows: list[Row] = found[found["units"] == found["units"].max()].to_dict("records")
    return [{**row, "label": plain(row["label"], 48)} for row in rows]
