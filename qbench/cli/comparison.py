"""Results side by side: points of quantizers, columns of data sets and models, and what nothing beats."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..components import Kind
from ..headlines import Headline, Measured
from ..schema import Spec, canonical_json
from ..settings import written

MANY = 24

Label: TypeAlias = Callable[[Kind, Spec], str]
Columns: TypeAlias = Mapping[tuple[str, str | None], str]  # headers by cell and data set tested on


@dataclass
class Point:
    """A line of a table: means over seeds, per column.

    ``weight_rate`` where activations and weights are quantized; ``second`` stands in brackets behind ``aside``.
    """

    label: str
    method: str
    rate_class: str
    rate: dict[str, float] = field(default_factory=dict)
    value: dict[str, float] = field(default_factory=dict)
    aside: dict[str, float] = field(default_factory=dict)
    front: set[str] = field(default_factory=set)
    deficit: float = 0.0
    weight_rate: dict[str, float] = field(default_factory=dict)
    second: dict[str, float] = field(default_factory=dict)

    @property
    def bits(self) -> float:
        return _mean(list(self.rate.values())) if self.rate else math.inf

    @property
    def weight_bits(self) -> float:
        return _mean(list(self.weight_rate.values())) if self.weight_rate else 0.0

    def no_more_bits(self, other: "Point", column: str) -> bool:
        """Whether it takes no more than the other, of weights and of activations."""
        return self.rate.get(column, math.inf) <= other.rate.get(column, math.inf) and self.weight_rate.get(
            column, 0.0
        ) <= other.weight_rate.get(column, 0.0)


def on_common_seeds(group: Sequence[Measured], columns: Columns) -> list[Measured]:
    """In each column what has a seed that all of its lines have, so that they are compared on the same networks.

    Everything of a column whose lines have no seed in common.
    """
    seeds: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for one in group:
        line = canonical_json(one.cell.model_dump(mode="json", exclude={"seed"}))
        seeds[columns[one.cell.cell_id, one.tested]][line].add(one.cell.seed)
    common = {column: set.intersection(*lines.values()) for column, lines in seeds.items()}
    kept = [one for one in group if one.cell.seed in common[columns[one.cell.cell_id, one.tested]]]
    empty = {column for column, found in common.items() if not found}
    return [*kept, *(one for one in group if columns[one.cell.cell_id, one.tested] in empty)]


def points_of(group: Sequence[Measured], chosen: Headline, columns: Columns, label: Label) -> list[Point]:
    """A line for each quantizer and each setting that lines name, fixed length first, then by bits and label."""
    lines: dict[tuple[str, str, str], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    differing = [name for name in chosen.in_row if len({str(one.cell.budget.get(name)) for one in group}) > 1]
    for one in group:
        text = _line_label(one, chosen, differing, label)
        method = one.cell.quantizer.name if one.cell.quantizer else text
        lines[text, method, one.rate_class][columns[one.cell.cell_id, one.tested]].append(one)
    points = []
    for key, by_column in lines.items():
        point = Point(*key)
        for column, seeds in by_column.items():
            for into, name in _quantities(point, chosen):
                values = [v for v in (one.value(name) for one in seeds) if v is not None]
                if values:
                    into[column] = _mean(values)
        points.append(point)
    return sorted(points, key=lambda p: (p.rate_class != "fixed", p.weight_bits, p.bits, p.label))


def _quantities(point: Point, chosen: Headline) -> list[tuple[dict[str, float], str | None]]:
    return [
        *((point.weight_rate if name == "weight_rate" else point.rate, name) for _, name in chosen.rates),
        (point.value, chosen.metric),
        (point.aside, chosen.aside),
        (point.second, chosen.second),
    ]


def _line_label(one: Measured, chosen: Headline, differing: Sequence[str], label: Label) -> str:
    """The quantizer, or the model and its optimizer where there is none; and the settings in which lines differ."""
    cell = one.cell
    parts = [str(cell.budget[name]) for name in chosen.always if name in cell.budget]
    if cell.quantizer is None:
        parts += [label("model", cell.model)] if cell.model else []
        parts += [label("optimizer", cell.optimizer)] if cell.optimizer else []
    else:
        parts.append(label("quantizer", cell.quantizer if chosen.own_bits else _without_bits(cell.quantizer)))
    settings = {name: cell.budget.get(name) for name in differing if name not in chosen.always}
    return ", ".join([*parts, *spoken(settings, label)])


def _without_bits(spec: Spec) -> Spec:
    return Spec(name=spec.name, parameters={k: v for k, v in spec.parameters.items() if k != "bits"})


def spoken(settings: Mapping[str, object], label: Label) -> list[str]:
    """Settings of budgets; a quantizer of weights is written as briefly as others are."""
    others = {name: value for name, value in settings.items() if name != "weights"}
    if "weights" not in settings:
        return written(others)
    named = settings["weights"]
    weights = "float32" if named is None else label("quantizer", Spec.parse(str(named)))
    return [f"weights {weights}", *written(others)]


def mark_front(points: Sequence[Point], sign: int) -> None:
    """Per column and rate class: which points nothing beats at no more bits; the others' mean deficit."""
    for point in points:
        behind = []
        for column, value in point.value.items():
            rivals = [
                sign * other.value[column]
                for other in points
                if other.rate_class == point.rate_class
                and column in other.value
                and other.no_more_bits(point, column)
            ]
            behind.append(max(rivals) - sign * value)
            if behind[-1] == 0:
                point.front.add(column)
        point.deficit = math.fsum(behind) / len(behind) if behind else math.inf


def worth_showing(points: Sequence[Point]) -> list[Point]:
    if len(points) <= MANY:
        return list(points)
    best: dict[str, Point] = {}
    for point in points:
        if point.method not in best or point.deficit < best[point.method].deficit:
            best[point.method] = point
    return [point for point in points if point.front or best[point.method] is point]


def references(group: Sequence[Measured], chosen: Headline, columns: Columns) -> dict[str, float]:
    """The float model's value per column."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in group:
        value = one.value(chosen.reference)
        if value is not None:
            found[columns[one.cell.cell_id, one.tested]].append(value)
    return {column: _mean(values) for column, values in found.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def alike(points: Sequence[Point], columns: Sequence[str]) -> list[list[str]]:
    """Columns in groups that mostly the same points have values in, so that no table is full of holes."""
    groups: list[tuple[set[str], list[str]]] = []
    for column in columns:
        present = {f"{point.label} {point.rate_class}" for point in points if column in point.value}
        for labels, members in groups:
            if present and 2 * len(present & labels) >= len(present | labels):
                members.append(column)
                break
        else:
            if present:
                groups.append((present, [column]))
    return [members for _, members in groups]
