"""How every chart looks: colours and shapes of families, and one configuration for light and for dark paper."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import altair as alt

from .chart import Spec
from .words import Row

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.1.0.json"
POINTS = "points"
ROWS = "rows"
_FIT = {"type": "fit-x", "contains": "padding"}
# How many columns a legend has, by the width of the plot or of a panel, as an expression of Vega.
COLUMNS = "width < 330 ? 2 : width < 480 ? 3 : width < 680 ? 4 : 8"
PANEL_COLUMNS = "child_width < 320 ? 3 : child_width > 400 && child_width < 600 ? 4 : 8"
WIDE_PANEL_COLUMNS = "child_width < 360 ? 2 : child_width < 640 ? 4 : 8"
THREE_PANELS_COLUMNS = "child_width < 230 || child_width > 300 && child_width < 360 ? 2 : 8"
NEUTRAL = "#8A8A8A"


class Look(NamedTuple):
    """Of a family: its name in words, its colour (Okabe & Ito 2008), its shape."""

    words: str
    colour: str
    shape: str


FAMILIES = {
    "scalar": Look("scalar", "#0072B2", "circle"),
    "vector": Look("vector", "#009E73", "square"),
    "lattice": Look("lattice", "#D55E00", "diamond"),
    "stochastic": Look("stochastic", "#CC79A7", "triangle-up"),
    "optimized": Look("optimized", "#E69F00", "triangle-down"),
    "float": Look("float formats", "#56B4E9", "cross"),
    "binary": Look("binary, ternary", "#8A8A8A", "triangle-right"),
    "other": Look("other", "#B0A160", "triangle-left"),
}

_INK = {"light": "#1b1f24", "dark": "#e6e8eb"}
_QUIET = {"light": "#5c646d", "dark": "#a3abb4"}
_HAIR = {"light": "#e4e5e6", "dark": "#2a2e32"}
_LIMIT = {"light": "#8b939b", "dark": "#7d858e"}
_PAPER = {"light": "#ffffff", "dark": "#111417"}
_ORDER = {
    "light": ["#6fa8cc", "#2f7fb3", "#003d63"],
    "dark": ["#4f8db5", "#86bfe3", "#d6eefb"],
}
_HEAT = {"light": ["#f1f4f6", "#86b5d3", "#0072B2"], "dark": ["#1d2328", "#1f5a80", "#2b8fcb"]}
_DIVERGING = {
    "light": ["#b34d00", "#eeb48c", "#f1f2f3", "#8fbcd8", "#00639b"],
    "dark": ["#d0661d", "#6b3d1e", "#20262b", "#1f526f", "#2f8ec4"],
}

Mode = Literal["light", "dark"]


def config(mode: Mode) -> dict[str, Any]:
    """The configuration that a page adds to every specification; these hold colours of data only."""
    ink, quiet, hair = _INK[mode], _QUIET[mode], _HAIR[mode]
    text = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": 13, "titleFontSize": 13}
    plain = {"titleFontWeight": "normal", "labelColor": quiet, "titleColor": quiet}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            **plain,
            "ticks": False,
            "gridColor": hair,
            "labelPadding": 6,
            "labelLimit": 190,
            "titleLimit": 360,
        },
        "axisX": {"grid": False, "domainColor": _LIMIT[mode], "titleAnchor": "end", "titlePadding": 8}
        | {"labelOverlap": "greedy", "labelFlush": False},
        "axisY": {"grid": True, "domain": False, "titleAngle": 0, "titleAlign": "left"}
        | {
            "titleAnchor": "start",
            "titleX": 0,
            "titleY": -14,
            "titleBaseline": "bottom",
            "labelOverlap": "greedy",
        },
        "header": {
            **text,
            "labelFontWeight": 600,
            "labelColor": ink,
            "labelAnchor": "start",
            "labelPadding": 28,
        }
        | {"labelLimit": 260, "title": None},
        "legend": {**text, **plain, "orient": "top", "direction": "horizontal", "title": None, "padding": 0}
        | {"labelLimit": 160, "symbolSize": 70, "symbolStrokeWidth": 2, "offset": 36, "columnPadding": 14}
        | {"layout": {"top": {"anchor": "start", "direction": "vertical", "margin": 6}}},
        "text": {"font": FONT, "fontSize": 13, "color": ink},
        "line": {"strokeWidth": 2, "strokeCap": "round", "strokeJoin": "round"},
        "rule": {"color": _LIMIT[mode]},
        "point": {"filled": True, "size": 55, "opacity": 1},
        "range": {"ordinal": _ORDER[mode], "heatmap": _HEAT[mode], "ramp": _ORDER[mode]}
        | {"diverging": _DIVERGING[mode]},
        "style": {
            "limit": {"color": _LIMIT[mode], "stroke": _LIMIT[mode], "strokeWidth": 1.25},
            "limit-text": {"color": quiet, "fill": quiet, "fontSize": 13},
            "ink": {"color": ink, "fill": ink},
            "quiet": {"color": quiet, "fill": quiet},
            "halo": {"stroke": _PAPER[mode], "strokeWidth": 4, "strokeJoin": "round", "fill": _PAPER[mode]},
            "ring": {"stroke": _PAPER[mode], "strokeWidth": 1},
            "on-colour": {"color": "#ffffff", "fill": "#ffffff"},
        },
    }


def present(families: Iterable[str]) -> list[str]:
    """Those families in the order of the table, unknown ones as ``other``."""
    found = {family if family in FAMILIES else "other" for family in families}
    return [name for name in FAMILIES if name in found]


def family_colour(names: list[str], *, legend: str | None = None) -> alt.Color:
    """The colour of field ``family``; ``legend`` is an expression of how many columns its legend has."""
    scale = alt.Scale(domain=names, range=[FAMILIES[name].colour for name in names])
    return alt.Color(field="family", type="nominal", scale=scale, legend=_legend(names, legend))


def family_shape(names: list[str], *, legend: str | None = None) -> alt.Shape:
    """The shape of field ``family``."""
    scale = alt.Scale(domain=names, range=[FAMILIES[name].shape for name in names])
    return alt.Shape(field="family", type="nominal", scale=scale, legend=_legend(names, legend))


def as_fill(colour: alt.Color) -> alt.Fill:
    """The same for the inside of marks, which then may have an outline of their own."""
    given: Any = colour.to_dict(validate=False)
    return alt.Fill(**given)


def as_stroke(colour: alt.Color) -> alt.Stroke:
    """The same for the outline alone."""
    given: Any = colour.to_dict(validate=False)
    return alt.Stroke(**given)


def _legend(names: list[str], columns: str | None) -> alt.Legend | None:
    words = ", ".join(f"{name}: '{FAMILIES[name].words}'" for name in names)
    return (
        alt.Legend(labelExpr=f"{{{words}}}[datum.value]", columns=alt.ExprRef(columns)) if columns else None
    )


def rate_dash(*, legend: bool = False) -> alt.StrokeDash:
    """Fixed rate solid, entropy-coded dashed."""
    scale = alt.Scale(domain=["fixed", "coded"], range=[[1, 0], [5, 4]])
    words = "datum.value == 'fixed' ? 'fixed rate' : 'entropy-coded'"
    shown = (
        alt.Legend(labelExpr=words, symbolStrokeColor=NEUTRAL, symbolType="stroke", symbolSize=400)
        if legend
        else None
    )
    return alt.StrokeDash(field="rate_class", type="nominal", scale=scale, legend=shown)


Tips = list[alt.Tooltip]


def tips(*lines: tuple[str, str] | tuple[str, str, str]) -> Tips:
    """Lines of a tooltip: field, title, and the format of a number."""
    return [
        alt.Tooltip(field=field, title=title, type="quantitative", format=form[0])
        if form
        else alt.Tooltip(field=field, title=title, type="nominal")
        for field, title, *form in lines
    ]


def layered(*layers: alt.Chart) -> alt.LayerChart:
    """One over the other, the last one on top."""
    return alt.LayerChart(layer=list(layers))


def faceted(
    layers: Sequence[alt.Chart],
    field: str,
    height: float,
    order: Sequence[str] | None = None,
    *,
    own_y: bool = False,
) -> alt.FacetChart:
    """The same layers of table ``rows`` in a panel for each value of a field; ``own_y``: each has its own scale.

    Every panel has an axis below it: shared ones would stand below empty places too.
    """
    spec = alt.LayerChart(layer=list(layers), height=height)
    sort: Any = alt.Undefined if order is None else list(order)
    header = alt.Header(labelPadding=2) if own_y else alt.Undefined
    facet = alt.Facet(field=field, type="nominal", sort=sort, title=None, header=header)
    resolve: Any = {"axis": {"x": "independent"}} | ({"scale": {"y": "independent"}} if own_y else {})
    return alt.FacetChart(data=table(ROWS), spec=spec, facet=facet, resolve=resolve)


def haloed(base: alt.Chart, colour: alt.Color | None = None, **look: Any) -> list[alt.Chart]:
    """Text over a halo of the paper's colour."""
    text = base.mark_text(**look)
    return [base.mark_text(style="halo", **look), text if colour is None else text.encode(color=colour)]


def powers(value: str = "datum.value") -> str:
    """An expression of Vega: a power of 10 as people write it, 0.01 to 100 as they are, else with an exponent."""
    exponent = f"round(log({value}) / LN10)"
    size, digits = f"abs({exponent})", "'⁰¹²³⁴⁵⁶⁷⁸⁹'"
    tens = f"({size} > 9 ? {digits}[floor({size} / 10)] : '')"
    raised = f"'10' + ({exponent} < 0 ? '⁻' : '') + {tens} + {digits}[{size} % 10]"
    return f"{value} < 0.0099 || {value} > 101 ? {raised} : format({value}, '~g')"


def table(name: str) -> alt.NamedData:
    """A table that stands under that name in ``datasets``."""
    return alt.NamedData(name=name)


def finished(chart: alt.TopLevelMixin, tables: Mapping[str, list[Row]], *, height: int | None = None) -> Spec:
    """The specification of a chart as wide as its place, without configuration, with its tables by name.

    It is not validated here, which would take most of the time; tests do.
    """
    spec: Spec = chart.to_dict(validate=False)
    spec.pop("config", None)
    spec["$schema"] = SCHEMA
    if tables:
        spec["datasets"] = dict(tables)
    if height is not None:
        spec |= {"height": height}
    return spec if "spec" in spec else spec | {"width": "container", "autosize": _FIT}


def panels(
    chart: alt.TopLevelMixin, rows: list[Row], *, narrowest: int, most: int, beside: int, gap: int = 28
) -> Spec:
    """The specification of a wrapped facet of table ``rows``. Vega-Lite has no responsive one: the page lays it out.

    ``usermeta.panels`` says how: of a place W wide, ``columns = clamp(floor((W - beside + gap) / (narrowest + gap)), 1,
    most)`` and each plot is ``(W - beside + gap) / columns - gap`` wide. See :func:`laid_out`.
    """
    spec = finished(chart, {ROWS: rows})
    spec["bounds"] = "flush"
    spec["usermeta"] = {"panels": {"narrowest": narrowest, "most": most, "beside": beside, "gap": gap}}
    return laid_out(spec, 960)


def laid_out(spec: Spec, width: float) -> Spec:
    """The same panels in a place of that width."""
    rule = spec["usermeta"]["panels"]
    room = width - rule["beside"] + rule["gap"]
    columns = max(1, min(rule["most"], int(room // (rule["narrowest"] + rule["gap"]))))
    inner = {**spec["spec"], "width": int(room / columns - rule["gap"])}
    return {**spec, "columns": columns, "spacing": {"row": 104, "column": rule["gap"]}, "spec": inner}
