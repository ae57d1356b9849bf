"""SQNR against rate on each iid source, between the limit, entropy-coded scalars and the best scalars of fixed rate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from .chart import Chart, nothing
from .envelope import envelopes
from .limits import LLOYD_MAX, ecsq, limit_sqnr_db
from .theme import PANEL_COLUMNS, as_fill, faceted, family_colour, family_shape, panels, present, tips
from .words import Row, count, number, rounded, several

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {
    "gaussian": "Gaussian",
    "laplacian": "Laplacian",
    "uniform": "uniform",
    "scale-mixture": "scale mixture",
}
_TITLE = "Every source has its own distance between scalar codes and the limit"
_CAPTION = (
    "Signal to quantization noise against true bits on independent values of four densities; up and left is "
    "better. Grey lines: what no code passes (solid), ideal entropy-coded scalars (dashed), the best scalars of"
    " fixed rate (dotted). Look for marks between the solid and the dotted line: they gain from vectors or from"
    " entropy coding."
)
_EMPTY = "Run `qbench run --suite standard --select track=rate-distortion` to measure codes on iid sources."
_BITS = 5.0
_HEIGHT = 270
_DASHES = {"limit": [1, 0], "ECSQ": [6, 4], "Lloyd-Max": [1, 4]}
_APART = 2.1


def sources(points: "pd.DataFrame") -> Chart:
    """One panel a source, from the points of a board rate-distortion/source: the best of each family."""
    found = {
        name: [row for row in envelopes(points[points["dataset"] == name]) if row["rate"] <= _BITS]
        for name in SOURCES
    }
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        return nothing("sources", _TITLE, _CAPTION, _EMPTY)
    values: list[Row] = []
    for name, rows in found.items():
        kept = ("family", "rate_class", "rate", "sqnr", "gap", "label", "show")
        values += [{"source": SOURCES[name], **{key: row[key] for key in kept}} for row in rows]
        values += limits(name)
    chart = _panel(values, present(row["family"] for row in values if "family" in row), list(found))
    return Chart(
        "sources",
        _TITLE,
        _CAPTION,
        _alt(found),
        panels(chart, values, narrowest=240, most=min(2, len(found)), beside=108, gap=84),
    )


def limits(name: str) -> list[Row]:
    """The grey lines of a source up to 5 bits, rows of line, rate and sqnr; ``end`` names a line where it ends."""
    lines: dict[str, list[tuple[float, float]]] = {
        "limit": [(rate, limit_sqnr_db(name, rate)) for rate in (0.0, _BITS) if rate or name == "gaussian"]
    }
    if name != "gaussian":
        lines["limit"].insert(0, (0.25, limit_sqnr_db(name, 0.25)))
    if name != "uniform":  # thresholds that fit the ends of a uniform density are those of Lloyd-Max
        rates, sqnr = ecsq(name, np.geomspace(8, 0.09, 90))
        grid = np.linspace(0.25, _BITS, 20)
        lines["ECSQ"] = list(zip(grid.tolist(), np.interp(grid, rates, sqnr).tolist(), strict=True))
    if name in LLOYD_MAX:
        errors = LLOYD_MAX[name][: int(_BITS)]
        lines["Lloyd-Max"] = [(float(b), -10 * float(np.log10(e))) for b, e in enumerate(errors, 1)]
    rows = [
        {"source": SOURCES[name], "line": line, "rate": rate, "sqnr": sqnr}
        for line, points in lines.items()
        for rate, sqnr in points
    ]
    return rounded([*rows, *_names(name, {line: points[-1] for line, points in lines.items()})])


def _names(name: str, ends: dict[str, tuple[float, float]]) -> list[Row]:
    """Where the lines' names stand, from the top down, at least a line of text apart."""
    rows: list[Row] = []
    place = np.inf
    for line, (rate, sqnr) in ends.items():
        place = min(place - _APART, sqnr)
        rows.append({"source": SOURCES[name], "name": line, "rate": rate, "sqnr": place})
    return rows


def _panel(values: list[Row], families: list[str], names: Sequence[str]) -> alt.FacetChart:
    domain = alt.Scale(domain=[0, _BITS], nice=False)
    across = alt.Axis(title="true bits per element →", values=list(range(int(_BITS) + 1)), format="d")
    high = 5 * np.ceil(max(row["sqnr"] for row in values) / 5)
    x = alt.X(field="rate", type="quantitative", scale=domain, axis=across)
    up, scale = alt.Axis(title="↑ SQNR (dB)", tickCount=6), alt.Scale(domain=[0, high], nice=False)
    y = alt.Y(field="sqnr", type="quantitative", scale=scale, axis=up)
    base = alt.Chart().encode(x=x, y=y)
    dash = alt.Scale(domain=list(_DASHES), range=list(_DASHES.values()))
    lines = base.transform_filter("isValid(datum.line)").mark_line(style="limit", clip=True)
    lines = lines.encode(strokeDash=alt.StrokeDash(field="line", type="nominal", scale=dash, legend=None))
    tooltip = tips(
        ("label", "code"),
        ("rate_class", "rate"),
        ("rate", "true bits", ".3f"),
        ("sqnr", "SQNR in dB", ".2f"),
        ("gap", "dB above the limit", ".2f"),
        ("show", "reproduce"),
    )
    marks = base.transform_filter("isValid(datum.family)").mark_point(style="ring", size=50, clip=True)
    marks = marks.encode(
        fill=as_fill(family_colour(families, legend=PANEL_COLUMNS)),
        shape=family_shape(families, legend=PANEL_COLUMNS),
        tooltip=tooltip,
    )
    names_of_lines = base.transform_filter("isValid(datum.name)").mark_text(
        style="limit-text", align="left", dx=6
    )
    names_of_lines = names_of_lines.encode(text=alt.Text(field="name", type="nominal"))
    order = [SOURCES[name] for name in names]
    return faceted([lines, marks, names_of_lines], "source", _HEIGHT, order)


def _alt(found: dict[str, list[Row]]) -> str:
    parts = []
    for name, rows in found.items():
        near = [row for row in rows if abs(row["rate"] - 2) <= 0.3]
        if near:
            best = min(near, key=lambda row: float(row["gap"]))
            limit = limit_sqnr_db(name, 2.0)
            parts.append(
                f"{SOURCES[name]}: limit {number(limit)} dB at 2 bits, {best['label']} {number(best['sqnr'])} dB at "
                f"{number(best['rate'])} bits"
            )
    names = several([SOURCES[name] for name in found])
    return f"SQNR of the best codes on {count(len(found), 'source')} ({names}). " + "; ".join(parts) + "."
