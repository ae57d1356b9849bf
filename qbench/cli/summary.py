"""The table at the end of a run: quantizers against data sets and models, at the bits really needed.

Where a track has many points, the table keeps those that nothing beats at no more bits in some column, and
the best point of every other method.
"""

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from ..components import Kind
from ..headlines import Headline, Measured, headline, transferred
from ..reporting import WIDTH
from ..schema import Spec, canonical_json
from ..settings import differences
from . import rendering
from .comparison import (
    Columns,
    Label,
    Point,
    alike,
    mark_front,
    on_common_seeds,
    points_of,
    references,
    spoken,
    worth_showing,
)
from .rendering import QUIET, Screen

_KINDS = ("model", "dataset", "optimizer", "tested")
_TITLE = {"fixed": "fixed length", "coded": "entropy-coded"}


def show(screen: Screen, found: Sequence[Measured], label: Label, place: Sequence[str] = ()) -> None:
    """A table per track, target and budget; settings that rows name do not part tables.

    ``label(kind, spec)`` shortens specifications; ``place`` are the options of a command that name the registry.
    """
    groups: dict[tuple[str, str], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        chosen = headline(one.cell.track, one.cell.target, one.metrics)
        if chosen is not None:
            kind = canonical_json([chosen.metric, _parting(one, chosen)])
            groups[one.cell.track, one.cell.target][kind].append(one)
    for (track, target), by_budget in groups.items():
        for group, note in zip(by_budget.values(), _notes(by_budget.values()), strict=True):
            chosen = headline(track, target, group[0].metrics)
            assert chosen is not None
            note |= _common_settings(group, chosen)
            few = _show_group(screen, f"{track}, {target}", chosen, group, label, note)
            if few:
                terms = ["--where", f"track={track} target={target}", "--limit", str(len(group))]
                screen.say(few, QUIET)
                screen.verbatim(shlex.join(["qbench", "results", *terms, *place]))


def _parting(one: Measured, chosen: Headline) -> dict[str, Any]:
    return {name: value for name, value in one.cell.budget.items() if name not in chosen.in_row}


def _show_group(
    screen: Screen,
    title: str,
    chosen: Headline,
    group: Sequence[Measured],
    label: Label,
    note: Mapping[str, Any],
) -> str:
    """Draw the tables of a group; says so where they do not hold all of its points."""
    # without a quantizer: what the line of floats says already
    group = [one for one in group if one.cell.quantizer] or group
    group = [each for one in group for each in (one, transferred(one)) if each]
    columns, common = _columns(group, label)
    measured, group = len(group), on_common_seeds(group, columns) if chosen.rates else group
    points = points_of(group, chosen, columns, label)
    if chosen.rates:
        mark_front(points, chosen.sign)
    kept, floats = worth_showing(points), references(group, chosen, columns)
    screen.heading(title, ", ".join([chosen.says, *common, *spoken(note, label)]))
    width = max((len(point.label) for point in kept), default=0)
    named = "quantizer" if group[0].cell.quantizer else "model, optimizer"
    for similar in alike(points, list(dict.fromkeys(columns.values()))):
        for part in _parts(similar, width, len(chosen.rates)):
            header = [(named, "left"), *((name, "right") for name in (*(h for h, _ in chosen.rates), *part))]
            screen.say()
            screen.show(rendering.table(header, _rows(kept, part, chosen, floats)))
    if chosen.rates:
        screen.say()
        screen.say("* nothing of its class here is better at no more bits", QUIET)
    if len(group) < measured:
        screen.say("only seeds that all lines of a column have: `qbench results` has the others too", QUIET)
    if len(kept) == len(points):
        return ""
    return f"{len(kept)} of {len(points)} points: these, and the best of every other method; all of them:"


def _notes(groups: Collection[Sequence[Measured]]) -> list[dict[str, Any]]:
    """Of each group's budget the settings in which they differ, but for those that its rows name."""
    budgets = []
    for group in groups:
        chosen = headline(group[0].cell.track, group[0].cell.target, group[0].metrics)
        assert chosen is not None
        budgets.append(_parting(group[0], chosen))
    return differences(budgets)


def _common_settings(group: Sequence[Measured], chosen: Headline) -> dict[str, Any]:
    """The quantizer of weights, where all rows have the same."""
    held = {one.cell.budget.get("weights") for one in group}
    return {"weights": held.pop()} if "weights" in chosen.in_row and len(held) == 1 else {}


def _columns(group: Sequence[Measured], label: Label) -> tuple[Columns, list[str]]:
    """The header of each column, and what all columns have in common when there are several."""
    parts = {(one.cell.cell_id, one.tested): _where(one, label) for one in group}
    kinds = {kind for where in parts.values() for kind in where}
    several = {kind for kind in kinds if len({where.get(kind) for where in parts.values()}) > 1}
    shown = several or kinds & {"dataset", "model"}
    first = next(iter(parts.values()))
    common = [first[kind] for kind in _KINDS if kind in first and kind not in shown]
    headers = {
        key: "\n".join(where[kind] for kind in _KINDS if kind in where and kind in shown) or first["dataset"]
        for key, where in parts.items()
    }
    return headers, common


def _where(one: Measured, label: Label) -> dict[str, str]:
    """What a column may differ in; without a quantizer, models and optimizers are rows."""
    kinds: tuple[Kind, ...] = ("model", "dataset", "optimizer") if one.cell.quantizer else ("dataset",)
    found = {kind: getattr(one.cell, kind) for kind in kinds}
    where: dict[str, str] = {kind: label(kind, spec) for kind, spec in found.items() if spec is not None}
    if one.tested is not None:
        where["tested"] = f"tested on {label('dataset', Spec.parse(one.tested))}"
    return where


def _parts(columns: Sequence[str], label_width: int, rates: int) -> Iterator[list[str]]:
    """Columns side by side as far as the width allows."""
    whole = room = WIDTH - min(label_width, 40) - 14 * rates
    part: list[str] = []
    for column in columns:
        width = max(15, *map(len, column.split("\n"))) + 2
        if part and room < width:
            yield part
            part, room = [], whole
        part.append(column)
        room -= width
    if part:
        yield part


def _rows(
    points: Sequence[Point], columns: Sequence[str], chosen: Headline, references: Mapping[str, float]
) -> Iterator[list[Text | str]]:
    if any(column in references for column in columns):
        values = [rendering.number(references.get(column), chosen.decimals) for column in columns]
        aside = " " * (_aside_width(chosen) + 2 if chosen.aside else 0)
        bits = [chosen.float_bits] * len(chosen.rates)
        name = "float32" if chosen.float_bits == "32" else "float"
        yield [name, *bits, *(f"{value}{aside}" for value in values)]
    present = [point for point in points if any(column in point.value for column in columns)]
    several = len({point.rate_class for point in present}) > 1
    before = ""
    for point in present:
        if several and point.rate_class != before:
            yield [
                rendering.text(_TITLE.get(point.rate_class, point.rate_class), QUIET),
                *[""] * (len(columns) + len(chosen.rates)),
            ]
            before = point.rate_class
        rates = [point.weight_rate if name == "weight_rate" else point.rate for _, name in chosen.rates]
        bits = [_bits(rate, columns) for rate in rates]
        yield [point.label, *bits, *(_cell(point, column, chosen) for column in columns)]


def _bits(rate: Mapping[str, float], columns: Sequence[str]) -> str:
    rates = [rate[column] for column in columns if column in rate]
    if not rates:
        return "-"
    low, high = (f"{rate:.2f}" for rate in (min(rates), max(rates)))
    return low if low == high else f"{low} to {high}"


def _aside_width(chosen: Headline) -> int:
    return 7 if chosen.second is None else 15


def _cell(point: Point, column: str, chosen: Headline) -> str:
    value = point.value.get(column)
    if value is None:
        return "-"
    mark = "*" if column in point.front else " "
    text = rendering.number(value, chosen.decimals)
    if chosen.aside:
        aside = rendering.number(point.aside.get(column), chosen.aside_decimals)
        if chosen.second:
            aside += f", {rendering.number(point.second.get(column), chosen.second_decimals)}"
        text += f" {f'({aside})':>{_aside_width(chosen)}}"
    return text + mark
