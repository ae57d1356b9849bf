"""Tables of numbers as coloured cells."""

import altair as alt

from .chart import Spec
from .theme import Tips, finished, layered
from .words import Row

# Of a gain in field ``value``; adding 0 turns -0 into 0.
SAVED = "format(round(100 * (1 - pow(2, -datum.value))) + 0, 'd') + ' %'"
_STRONG = 0.55
# Pixels: of a row, of a column, beside rows and columns, of the names of rows; of a letter by the size of its font.
_ROW = 30
_COLUMN, _LEAST_COLUMN, _MOST_COLUMN, _BESIDE = 40, 36, 104, 88
_LEAST_ROOM, _NARROW_ROOM, _MOST_ROOM = 168, 200, 340
_SIZE = f"(room < {_NARROW_ROOM} ? 11 : room < 260 ? 12 : 13)"
_LETTER = 0.55
_COLUMN_LETTERS = 24
_WIDTH = 600


def cells(base: alt.Chart, tooltip: Tips, columns: int, *, saved: bool, numbered: bool = False) -> Spec:
    """Rows of ``name``, ``place``, ``value`` and ``order`` (of the rows) as cells with their numbers.

    Strong colours are under light digits. Names are broken into two lines where the room for them, parameter ``room``,
    is too narrow. ``usermeta.cells`` says how much the page gives them of a place W wide: ``clamp(W - beside - columns
    column, least, most)`` pixels. ``usermeta`` has besides the least and the most pixels that the place should be wide.

    Args:
        base: a chart with these fields, and ``least`` and ``largest`` of all values where these are not bits saved.
        columns: how many there may be.
        saved: values are gains, log2 of bits over bits, on one scale everywhere, from -1 to 1; written in the cells
            is the share of bits that they save, see :func:`~qbench.leaderboard.standings.saved_percent`.
        numbered: columns stand in the order of field ``at``.
    """
    x, y = _across(numbered), _down()
    scale = (
        alt.Scale(domain=[-1, 1], domainMid=0, clamp=True, interpolate="lab")
        if saved
        else alt.Scale(zero=False)
    )
    colour = alt.Color(field="value", type="quantitative", scale=scale, legend=None)
    strong = f"abs(datum.value) > {_STRONG}" if saved else "2 * datum.value > datum.least + datum.largest"
    text = (
        alt.Text(field="saved", type="nominal")
        if saved
        else alt.Text(field="value", type="quantitative", format=".3~g")
    )
    base = base.transform_calculate(saved=SAVED) if saved else base
    rects = base.mark_rect(cornerRadius=2).encode(x=x, y=y, color=colour, tooltip=tooltip)
    digits = base.encode(x=x, y=y, text=text)
    look: Row = {"fontSize": alt.ExprRef("clamp(bandwidth('x') / 4, 10, 13)")}
    look["opacity"] = alt.ExprRef("bandwidth('x') < 28 ? 0 : 1")
    dark = digits.transform_filter(f"!({strong})").mark_text(style="ink", **look)
    light = digits.transform_filter(strong).mark_text(style="on-colour", **look)
    return _with_room(finished(layered(rects, dark, light), {}), max(2, columns))


def _across(numbered: bool) -> alt.X:
    places = alt.EncodingSortField("at", op="min") if numbered else "ascending"
    axis = alt.Axis(
        title=None,
        labelExpr=broken("datum.label", str(_COLUMN_LETTERS)),
        labelAngle=alt.ExprRef(f"room < {_NARROW_ROOM} ? -90 : -45"),
        labelLineHeight=14,
        orient="top",
        labelLimit=190,
        domain=False,
        labelOverlap=False,
    )
    return alt.X(field="place", type="nominal", axis=axis, sort=places)


def _down() -> alt.Y:
    letters = f"floor((room - 8) / ({_LETTER} * {_SIZE}))"
    # Vega centres the first of two lines; with its bottom there the two are centred together.
    two = {"test": f"length(datum.value) > {letters}", "value": "bottom"}
    axis = alt.Axis(
        title=None,
        labelExpr=broken("datum.label", letters),
        labelBaseline={"condition": two, "value": "middle"},
        labelLineHeight=14,
        labelFontSize=alt.ExprRef(_SIZE),
        labelLimit=alt.ExprRef("room"),
        grid=False,
        labelOverlap=False,
    )
    return alt.Y(field="name", type="nominal", axis=axis, sort=alt.EncodingSortField("order", op="min"))


def broken(text: str, letters: str) -> str:
    """An expression of Vega: a text of more letters in two lines, broken at the last blank before so many."""
    cut = f"lastindexof(slice({text}, 0, {letters} + 1), ' ')"
    two = f"[slice({text}, 0, {cut}), slice({text}, {cut} + 1)]"
    return f"length({text}) <= {letters} || {cut} < 1 ? {text} : {two}"


def _with_room(spec: Spec, columns: int) -> Spec:
    """The specification with the rule of its widths, laid out for a place of usual width."""
    rule = {
        "columns": columns,
        "column": _COLUMN,
        "beside": _BESIDE,
        "least": _LEAST_ROOM,
        "most": _MOST_ROOM,
    }
    room = max(_LEAST_ROOM, min(_MOST_ROOM, _WIDTH - _BESIDE - columns * _COLUMN))
    del spec["autosize"]
    spec |= {"width": _WIDTH, "height": {"step": _ROW}, "params": [{"name": "room", "value": room}]}
    spec["usermeta"] = {
        "cells": rule,
        "narrowest": _LEAST_ROOM + 10 + _LEAST_COLUMN * columns,
        "widest": _MOST_ROOM + _BESIDE + _MOST_COLUMN * columns,
    }
    return spec
