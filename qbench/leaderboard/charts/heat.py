"""Bits saved of methods by model, as coloured cells with their numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import altair as alt

from ..boards import Board
from .cells import cells
from .chart import Chart, Spec, nothing
from .theme import POINTS, table, tips
from .words import count, number, percent, plain, several

if TYPE_CHECKING:
    import pandas as pd

    from ..standings import Standing

_TITLE = "Which method suits which model or data set"
_CAPTION = (
    "Share of the uniform anchor's bits that a method saves at equal quality, means over bits and data sets, methods "
    "in the order of the table, those without a rank last; blue saves, orange wastes. Look for rows that change "
    "colour: methods that suit one model and not another. Without an anchor the cells hold the mean quality."
)
_EMPTY = "Run `qbench run --suite standard --select track=ptq` to compare quantizers on several models."
_ROWS = 24


def heat(
    points: "pd.DataFrame", boards: Sequence[Board], standings: Mapping[str, Sequence["Standing"]]
) -> Chart:
    """Methods by model (or by data set, where there is no model) of the rows that the page gives as ``points``.

    Args:
        standings: of each board, by its key: the words name methods that are ranked, where any is.
    """
    ways = {board.key: _way(points[points["board"] == board.key], board) for board in boards}
    drawn = {way: _linked(way) for way in dict.fromkeys(ways.values())}
    anchored = [board for board in boards if board.anchored] or list(boards)
    chosen = max(anchored, key=lambda board: (len(_models(points, board)), board.results), default=None)
    if chosen is None:
        return nothing("heat", _TITLE, _CAPTION, _EMPTY)
    own = points[points["board"] == chosen.key]
    others = {key: drawn[way] for key, way in ways.items() if way != ways[chosen.key]}
    return Chart(
        "heat",
        _TITLE,
        _CAPTION,
        _alt(own, chosen, standings.get(chosen.key, ())),
        drawn[ways[chosen.key]],
        _EMPTY,
        others,
        linked=True,
    )


def _ranked(own: "pd.DataFrame", standings: Sequence["Standing"]) -> "pd.DataFrame":
    """The rows of methods that have a rank; all where none has."""
    ranked = {(one.method, one.rate_class) for one in standings if one.rank is not None}
    pairs = zip(own["method"], own["rate_class"], strict=True)
    kept = own[[pair in ranked for pair in pairs]]
    return kept if len(kept) else own


class Way(NamedTuple):
    """The field of a linked row, whether more of it is better (+1) or less (-1), its name, how many columns."""

    field: str
    better: int
    words: str
    columns: int


def _way(own: "pd.DataFrame", board: Board) -> Way:
    columns = len(set(own["model"]) - {""}) or len(set(own["dataset"]))
    if board.anchored:
        return Way("gain", 1, "bits saved", columns)
    return Way("quality", board.better, plain(board.quality_label, 60), columns)


def _models(points: "pd.DataFrame", board: Board) -> set[str]:
    return set(points.loc[points["board"] == board.key, "model"]) - {""}


def _linked(way: Way) -> Spec:
    """The first 24 methods by ``order``, their place in the table.

    Averaged here are the points of a method at its bits, and data sets of a model.
    """
    place = "datum.model ? datum.model : datum.dataset ? datum.dataset : datum.unit"
    base = (
        alt.Chart(table(POINTS))
        .transform_filter(f"isValid(datum.{way.field})")
        .transform_calculate(place=place, name="datum.label")
        .transform_aggregate(
            value=f"mean({way.field})",
            points="count()",
            selected="max(selected)",
            row_order="min(order)",
            groupby=["method", "name", "place"],
        )
        .transform_joinaggregate(order="min(row_order)", groupby=["method", "name"])
        .transform_window(row="dense_rank()", sort=[alt.SortField("order"), alt.SortField("method")])
        .transform_filter(f"datum.row <= {_ROWS}")
        .transform_joinaggregate(least="min(value)", largest="max(value)")
    )
    tooltip = tips(
        ("name", "method"),
        ("place", "model"),
        ("saved", way.words) if way.field == "gain" else ("value", way.words, ".3~g"),
        ("points", "points"),
    )
    spec = cells(base, tooltip, way.columns, saved=way.field == "gain")
    spec["usermeta"] |= {"way": {"field": way.field, "better": way.better, "words": way.words, "cells": True}}
    return spec


def _alt(own: "pd.DataFrame", board: Board, standings: Sequence["Standing"]) -> str:
    way = _way(own, board)
    field, sign = way.field, way.better
    known = own[own[field].notna()]
    if not len(known):
        return f"No method of {plain(board.title)} has a value yet."
    place = "model" if known["model"].astype(str).str.len().max() else "dataset"
    ranked = _ranked(known, standings)
    grouped = ranked.groupby(["label", "rate_class", place], observed=True)[field].mean()
    means = grouped.groupby(["label", "rate_class"], observed=True).mean().sort_values(ascending=sign < 0)
    methods = len(known[["label", "rate_class"]].drop_duplicates())
    words = way.words
    told = percent if field == "gain" else number
    best = [f"{plain(label, 48)} ({rate}) {told(value)}" for (label, rate), value in means.head(3).items()]
    worst = [f"{plain(label, 48)} ({rate}) {told(value)}" for (label, rate), value in means.tail(1).items()]
    return (
        f"{words[0].upper() + words[1:]} of {count(methods, 'method')} on {count(known[place].nunique(), place)}, "
        f"{plain(board.title)}. Best on average: {several(best)}; worst: {worst[0]}."
    )
