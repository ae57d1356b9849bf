"""The table at the end of a run: quantizers against data sets and models, at the bits really needed.

Where a track has many points, the table keeps those that nothing beats at no more bits in some column, and
the best point of every other method.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from ..components import Kind
from ..reporting import WIDTH
from ..schema import Cell, canonical_json
from . import rendering
from .comparison import (
    Headline,
    Label,
    Measured,
    Point,
    alike,
    headline,
    mark_front,
    points_of,
    references,
    worth_showing,
)
from .rendering import QUIET, Screen

_TITLE = {"fixed": "fixed length", "coded": "entropy-coded"}


def show(screen: Screen, found: Sequence[Measured], label: Label, place: Sequence[str] = ()) -> None:
    """A table per track, target and budget.

    ``label(kind, spec)`` shortens specifications; ``place`` are the options of a command that name the registry.
    """
    groups: dict[tuple[str, str], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        if one.cell.quantizer is not None:
            groups[one.cell.track, one.cell.target][canonical_json(one.cell.budget)].append(one)
    for (track, target), by_budget in groups.items():
        notes = _differences([group[0].cell.budget for group in by_budget.values()])
        for group, note in zip(by_budget.values(), notes, strict=True):
            chosen = headline(track, target, {name for one in group for name in one.metrics})
            if chosen is None:
                continue
            few = _show_group(screen, f"{track}, {target}", chosen, group, label, note)
            if few:
                terms = ["--where", f"track={track} target={target}", "--limit", str(len(group))]
                screen.say(few, QUIET)
                screen.verbatim(shlex.join(["qbench", "results", *terms, *place]))


def _show_group(
    screen: Screen, title: str, chosen: Headline, group: Sequence[Measured], label: Label, note: list[str]
) -> str:
    """Draw the tables of a group; says so where they do not hold all of its points."""
    columns, common = _columns(group, label)
    points = points_of(group, chosen, columns, label)
    mark_front(points, chosen.sign)
    kept, floats = worth_showing(points), references(group, chosen, columns)
    screen.heading(title, ", ".join([chosen.says, *common, *note]))
    width = max((len(point.label) for point in kept), default=0)
    for similar in alike(points, list(dict.fromkeys(columns.values()))):
        for part in _parts(similar, width):
            header = [("quantizer", "left"), ("bits/elem", "right"), *((name, "right") for name in part)]
            screen.say()
            screen.show(rendering.table(header, _rows(kept, part, chosen, floats)))
    screen.say()
    screen.say("* nothing of its class here is better at no more bits", QUIET)
    if len(kept) == len(points):
        return ""
    return f"{len(kept)} of {len(points)} points: these, and the best of every other method; all of them:"


def _differences(budgets: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Of each budget the settings in which they differ."""
    flat = [dict(_settings("", budget)) for budget in budgets]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    several = [key for key in keys if len({str(one.get(key)) for one in flat}) > 1]
    return [[f"{key}={one[key]}" for key in several if key in one] for one in flat]


def _settings(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _settings(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value


def _columns(group: Sequence[Measured], label: Label) -> tuple[dict[str, str], list[str]]:
    """Per cell the header of its column, and what all columns have in common when there are several."""
    parts = {one.cell.cell_id: _where(one.cell, label) for one in group}
    kinds = {kind for where in parts.values() for kind in where}
    several = {kind for kind in kinds if len({where.get(kind) for where in parts.values()}) > 1}
    shown = several or {"dataset", "model"}
    first = next(iter(parts.values()))
    common = [
        first[kind] for kind in ("model", "dataset", "optimizer") if kind in first and kind not in shown
    ]
    headers = {
        cell_id: "\n".join(
            where[kind] for kind in ("model", "dataset", "optimizer") if kind in where and kind in shown
        )
        for cell_id, where in parts.items()
    }
    return headers, common


def _where(cell: Cell, label: Label) -> dict[str, str]:
    kinds: tuple[Kind, ...] = ("model", "dataset", "optimizer")
    found = {kind: getattr(cell, kind) for kind in kinds}
    return {kind: label(kind, spec) for kind, spec in found.items() if spec is not None}


def _parts(columns: Sequence[str], label_width: int) -> Iterator[list[str]]:
    """Columns side by side as far as the width allows."""
    room = WIDTH - min(label_width, 40) - 14
    part: list[str] = []
    for column in columns:
        width = max(15, *map(len, column.split("\n"))) + 2
        if part and room < width:
            yield part
            part, room = [], WIDTH - min(label_width, 40) - 14
        part.append(column)
        room -= width
    if part:
        yield part


def _rows(
    points: Sequence[Point], columns: Sequence[str], chosen: Headline, references: Mapping[str, float]
) -> Iterator[list[Text | str]]:
    if any(column in references for column in columns):
        values = [rendering.number(references.get(column), chosen.decimals) for column in columns]
        aside = " " * 9 if chosen.aside else ""
        yield ["float32", "32", *(f"{value}{aside}" for value in values)]
    present = [point for point in points if any(column in point.value for column in columns)]
    several = len({point.rate_class for point in present}) > 1
    before = ""
    for point in present:
        if several and point.rate_class != before:
            yield [
                rendering.text(_TITLE.get(point.rate_class, point.rate_class), QUIET),
                *[""] * (len(columns) + 1),
            ]
            before = point.rate_class
        yield [point.label, _bits(point, columns), *(_cell(point, column, chosen) for column in columns)]


def _bits(point: Point, columns: Sequence[str]) -> str:
    rates = [point.rate[column] for column in columns if column in point.rate]
    if not rates:
        return "-"
    low, high = (f"{rate:.2f}" for rate in (min(rates), max(rates)))
    return low if low == high else f"{low} to {high}"


def _cell(point: Point, column: str, chosen: Headline) -> str:
    value = point.value.get(column)
    if value is None:
        return "-"
    mark = "*" if column in point.front else " "
    text = f"{value:.{chosen.decimals}f}"
    aside = point.aside.get(column)
    if chosen.aside:
        text += f" {'(' + rendering.number(aside, chosen.aside_decimals) + ')':>7}"
    return text + mark
