"""Means over seeds with their standard errors, by what is compared and by place, and what is best of its class."""

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..components import Kind
from ..headlines import Headline, Measured, headline, transferred
from ..schema import Spec, canonical_json
from .comparison import Columns, Label, Point, on_common_seeds, points_of

PLACES: tuple[Kind, ...] = ("model", "dataset", "optimizer")
SIDES = ("quantizer", *PLACES)
MORE = frozenset(
    {
        *("accuracy", "validation_accuracy", "transfer_accuracy", "sqnr_db", "cosine", "dot_correlation"),
        *("encode_throughput", "examples_per_second", "gained"),
    }
)
LESS = frozenset(
    {
        *(
            "accuracy_drop",
            "bits_per_character",
            "kl",
            "flips",
            "lost",
            "mse",
            "relative_mse",
            "gap_db",
            "rate",
        ),
        *("weight_rate", "rate_down", "entropy_rate", "model_rate", "effective_bits", "stored_bytes"),
        *("static_bytes", "saved_bytes", "bops", "energy", "up_bits", "down_bits", "bits_to_target"),
        *("relative_variance", "training_loss", "validation_loss", "generalization_gap"),
    }
)
DECIMALS = {
    "accuracy_drop": 2,
    "kl": 4,
    "gap_db": 2,
    "cosine": 3,
    "rate": 3,
    "entropy_rate": 3,
    "model_rate": 3,
}
SIGNIFICANT = -1

Place = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Line:
    """What is compared: a quantizer with its settings; ``rate_class`` is empty for the float model."""

    label: str
    rate_class: str


@dataclass(frozen=True)
class Figure:
    """A mean over seeds with its standard error, None for one seed, at its bits of weights and elements."""

    value: float
    error: float | None
    seeds: int
    rates: tuple[float, ...]
    best: bool = False


Figures = Mapping[tuple[Line, Place], Figure]


@dataclass(frozen=True)
class Matrix:
    """Every figure of what may be compared, by line and by place.

    ``left_out`` are the places with seeds that not all lines have; ``quantized`` says whether lines are quantizers,
    else they are models with their optimizers.
    """

    chosen: Headline
    lines: Sequence[Line]
    places: Sequence[Place]
    figures: Figures
    left_out: frozenset[Place]
    quantized: bool

    @property
    def classes(self) -> set[str]:
        return {line.rate_class for line in self.lines if line.rate_class}

    def varying(self) -> list[str]:
        """The sides in which something may differ: quantizers, and of the others those that do."""
        several = {kind: len({dict(place).get(kind) for place in self.places}) > 1 for kind in PLACES}
        return [side for side in SIDES if several.get(side, True)]


def shown(value: float, decimals: int) -> str:
    """Fixed decimals; with ``SIGNIFICANT`` four digits that mean something."""
    return f"{value:.4g}" if decimals == SIGNIFICANT else f"{value:z.{decimals}f}"


def quantity(
    track: str, target: str, metrics: Mapping[str, Mapping[str, Any]], metric: str | None
) -> Headline | None:
    """The headline of a track without what stands in brackets, or the metric asked for; None where it is not there."""
    own = headline(track, target, metrics)
    if own is None or metric in (None, own.metric):
        return own and replace(own, aside=None, second=None, says=re.sub(r" \([^()]*\)", "", own.says))
    if metric not in metrics:
        return None
    unit = str(metrics[metric].get("unit") or "")
    return replace(
        own,
        metric=metric,
        aside=None,
        second=None,
        reference=None,
        decimals=DECIMALS.get(metric, SIGNIFICANT),
        sign=1 if metric in MORE else -1 if metric in LESS else 0,
        says=f"{metric} in {unit}" if unit not in ("", "1") else metric,
    )


def matrix(group: Sequence[Measured], chosen: Headline, label: Label) -> Matrix:
    """Means over the seeds that all lines of a place have, and what is best of its class in each place.

    Args:
        group: what may be compared: of one track, target, digest, kind of device and setting.
        label: shortens specifications, ``label(kind, spec)``.
    """
    group = [one for one in group if one.cell.quantizer] or list(group)
    group = [each for one in group for each in (one, transferred(one)) if each]
    group = [one for one in group if one.value(chosen.metric) is not None]
    places = {(one.cell.cell_id, one.tested): _place(one, label) for one in group}
    kept: Sequence[Measured] = group
    if chosen.rates:
        kept = on_common_seeds(group, {key: canonical_json(place) for key, place in places.items()})
    seeds = {
        (one.cell.cell_id, one.tested): canonical_json([places[one.cell.cell_id, one.tested], one.cell.seed])
        for one in kept
    }
    place_of = {column: places[key] for key, column in seeds.items()}
    found: dict[tuple[Line, Place], Figure] = {}
    for point in _points(kept, chosen, seeds, label):
        columns: dict[Place, list[str]] = defaultdict(list)
        for column in point.value:
            columns[place_of[column]].append(column)
        line = Line(point.label, point.rate_class)
        found |= {(line, place): _figure(point, several) for place, several in columns.items()}
    ids = {one.cell.cell_id for one in kept}
    return Matrix(
        chosen,
        list(dict.fromkeys(line for line, _ in found)),
        list(dict.fromkeys(place_of.values())),
        _with_best(found, chosen),
        frozenset(place for (cell_id, _), place in places.items() if cell_id not in ids),
        any(one.cell.quantizer for one in kept),
    )


def _place(one: Measured, label: Label) -> Place:
    """What a column may differ in; without a quantizer, models and optimizers are lines."""
    kinds: tuple[Kind, ...] = PLACES if one.cell.quantizer else ("dataset",)
    specs: list[tuple[Kind, Spec | None]] = [(kind, getattr(one.cell, kind)) for kind in kinds]
    place = {str(kind): label(kind, spec) for kind, spec in specs if spec is not None}
    if one.tested is not None:
        place["dataset"] += f", tested on {label('dataset', Spec.parse(one.tested))}"
    return tuple(place.items())


def _points(group: Sequence[Measured], chosen: Headline, seeds: Columns, label: Label) -> Iterator[Point]:
    """The float model, then quantizers, with a column for each seed at each place."""
    if any(one.value(chosen.reference) is not None for one in group):
        trained = ", trained as long" if str(chosen.reference).startswith("finetuned") else ""
        name = f"{'float32' if chosen.float_bits == '32' else 'float'}{trained}"
        of_float = replace(chosen, metric=str(chosen.reference), rates=())
        values = {c: v for point in points_of(group, of_float, seeds, label) for c, v in point.value.items()}
        yield Point(name, name, "", value=values)
    yield from points_of(group, chosen, seeds, label)


def _figure(point: Point, columns: Sequence[str]) -> Figure:
    values = [point.value[column] for column in columns]
    rates = [[rate[c] for c in columns if c in rate] for rate in (point.weight_rate, point.rate)]
    return Figure(
        statistics.fmean(values),
        statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        len(values),
        tuple(statistics.fmean(rate) for rate in rates if rate),
    )


def _with_best(found: Figures, chosen: Headline) -> Figures:
    """Best as it is written, of its class in its place; where there is no other, or no better, none is."""
    rivals: dict[tuple[str, Place], list[float]] = defaultdict(list)
    merit = {key: chosen.sign * float(shown(figure.value, chosen.decimals)) for key, figure in found.items()}
    for (line, place), value in merit.items():
        rivals[line.rate_class, place].append(value)
    return {
        (line, place): replace(
            figure, best=_is_best(merit[line, place], rivals[line.rate_class, place], line, chosen)
        )
        for (line, place), figure in found.items()
    }


def _is_best(value: float, rivals: Sequence[float], line: Line, chosen: Headline) -> bool:
    return bool(chosen.rates and chosen.sign and line.rate_class and min(rivals) < value == max(rivals))
