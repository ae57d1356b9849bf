"""Results side by side: points of quantizers, columns of data sets and models, and what nothing beats."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..components import Kind
from ..schema import Cell, Spec

MANY = 24

Label: TypeAlias = Callable[[Kind, Spec], str]


@dataclass(frozen=True)
class Headline:
    """The quantities of a cell; ``aside`` stands in brackets. ``sign`` is -1 where less is better."""

    metric: str
    aside: str | None
    says: str
    sign: int = 1
    reference: str | None = None
    decimals: int = 2
    aside_decimals: int = 2


_HEADLINES = {
    ("rate-distortion", "source"): Headline(
        "sqnr_db", "gap_db", "SQNR in dB (dB above the limit of these bits)"
    ),
    ("rate-distortion", "weight"): Headline("sqnr_db", None, "SQNR in dB"),
    ("rate-distortion", "activation"): Headline("sqnr_db", None, "SQNR in dB"),
    ("rate-distortion", "gradient"): Headline(
        "sqnr_db", "cosine", "SQNR in dB (cosine with the gradient)", aside_decimals=3
    ),
    **{
        ("lattice-scaling", target): Headline(
            "sqnr_db", "minima", "SQNR in dB at the best beta (certified minima)", aside_decimals=0
        )
        for target in ("source", "gradient")
    },
    ("qat", "weight"): Headline(
        "accuracy",
        "accuracy_drop",
        "accuracy in % (points lost against float trained as long)",
        reference="finetuned_accuracy",
    ),
    ("ptq", "weight"): Headline(
        "accuracy", "accuracy_drop", "accuracy in % (points lost)", reference="baseline_accuracy"
    ),
}
_KNOWN = (
    Headline("accuracy", "accuracy_drop", "accuracy in % (points lost)", reference="baseline_accuracy"),
    Headline("sqnr_db", None, "SQNR in dB"),
    Headline("relative_mse", None, "mean squared error / mean square", sign=-1, decimals=5),
    Headline("mse", None, "mean squared error", sign=-1, decimals=5),
)


def headline(track: str, target: str, metrics: Iterable[str]) -> Headline | None:
    """What to show of a track: its own, else the first well-known quantity that was measured."""
    own = _HEADLINES.get((track, target))
    names = set(metrics)
    return own or next((known for known in _KNOWN if known.metric in names), None)


@dataclass(frozen=True)
class Measured:
    """A cell with its row of the registry: ``metrics`` by name, as ``{value, unit, n}``."""

    cell: Cell
    metrics: Mapping[str, Mapping[str, Any]]
    rate_class: str = "fixed"

    def value(self, name: str | None) -> float | None:
        found = self.metrics.get(name or "", {}).get("value")
        return None if found is None else float(found)


@dataclass
class Point:
    """A line of a table: a quantizer's means over seeds, per column."""

    label: str
    method: str
    rate_class: str
    rate: dict[str, float] = field(default_factory=dict)
    value: dict[str, float] = field(default_factory=dict)
    aside: dict[str, float] = field(default_factory=dict)
    front: set[str] = field(default_factory=set)
    deficit: float = 0.0

    @property
    def bits(self) -> float:
        return math.fsum(self.rate.values()) / len(self.rate) if self.rate else math.inf


def points_of(
    group: Sequence[Measured], chosen: Headline, columns: Mapping[str, str], label: Label
) -> list[Point]:
    cells: dict[tuple[str, str, str], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for one in group:
        quantizer = one.cell.quantizer
        assert quantizer is not None
        cells[label("quantizer", quantizer), quantizer.name, one.rate_class][
            columns[one.cell.cell_id]
        ].append(one)
    points = []
    for key, by_column in cells.items():
        point = Point(*key)
        for column, seeds in by_column.items():
            for into, name in (
                (point.rate, "rate"),
                (point.value, chosen.metric),
                (point.aside, chosen.aside),
            ):
                values = [v for v in (one.value(name) for one in seeds) if v is not None]
                if values:
                    into[column] = math.fsum(values) / len(values)
        points.append(point)
    return sorted(points, key=lambda point: (point.rate_class != "fixed", point.bits, point.label))


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
                and other.rate.get(column, math.inf) <= point.rate.get(column, math.inf)
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


def references(group: Sequence[Measured], chosen: Headline, columns: Mapping[str, str]) -> dict[str, float]:
    """The float model's value per column."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in group:
        value = one.value(chosen.reference)
        if value is not None:
            found[columns[one.cell.cell_id]].append(value)
    return {column: math.fsum(values) / len(values) for column, values in found.items()}


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
