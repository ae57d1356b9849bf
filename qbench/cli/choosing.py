"""Which of the recipes that were tried is the best: by validation accuracy alone, at equal search for all."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeAlias, final

from scipy.special import stdtrit

from ..schema import Cell, Spec, canonical_json

CONFIDENCE = 0.95

Interval: TypeAlias = tuple[float, float]
Reason = Literal["accuracy", "loss", "learning rate"]
Edge = Literal["lower", "upper", "only point"]


@final
@dataclass(frozen=True)
class Trial:
    """A training with one seed; ``metrics`` by name as ``{value, n}``, empty where it failed."""

    cell: Cell
    metrics: Mapping[str, Mapping[str, Any]]

    def value(self, name: str) -> float | None:
        found = self.metrics.get(name, {}).get("value")
        return None if found is None else float(found)

    @property
    def right(self) -> Fraction | None:
        """Share of the validation predictions, exact; None where there is none."""
        value = self.value("validation_accuracy")
        if value is None:
            return None
        held = int(self.metrics["validation_accuracy"]["n"])
        return Fraction(round(value / 100 * held), held)


@final
@dataclass(frozen=True)
class Point:
    """An optimizer with all its parameters, and its trials, one for each seed."""

    optimizer: Spec
    trials: Sequence[Trial]

    @property
    def rate(self) -> float:
        return float(self.optimizer.parameters["lr"])

    @property
    def complete(self) -> bool:
        return all(trial.right is not None for trial in self.trials)

    @property
    def right(self) -> Fraction:
        """Mean over seeds."""
        return sum((trial.right or Fraction(0) for trial in self.trials), Fraction(0)) / len(self.trials)

    @property
    def loss(self) -> float:
        """Mean validation loss over seeds; infinite where one has none."""
        values = [trial.value("validation_loss") for trial in self.trials]
        return math.fsum(math.inf if value is None else value for value in values) / len(values)

    def mean(self, name: str) -> float | None:
        values = [value for trial in self.trials if (value := trial.value(name)) is not None]
        return statistics.fmean(values) if values else None


@final
@dataclass(frozen=True)
class Search:
    """The points of one optimizer for a model, a data set and a budget. ``seeds``: most trials of a point."""

    model: Spec
    dataset: Spec
    budget: Mapping[str, Any]
    optimizer: str
    points: Sequence[Point]

    @property
    def seeds(self) -> int:
        return max(len(point.trials) for point in self.points)

    @property
    def left_out(self) -> list[Point]:
        """Points with a trial that failed, or with fewer trials than others."""
        return [point for point in self.points if not (point.complete and len(point.trials) == self.seeds)]


@final
@dataclass(frozen=True)
class Choice:
    """The best point of a search, what decided between it and the next, and whether the grid ends there."""

    search: Search
    point: Point
    decided_by: Reason
    edge: Edge | None


def searches(trials: Iterable[Trial]) -> list[Search]:
    """Trials put together by model, data set, budget and optimizer, in the order they come in."""
    groups: dict[tuple[str, ...], dict[str, list[Trial]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        cell = trial.cell
        if cell.model is None or cell.dataset is None or cell.optimizer is None:
            continue
        key = str(cell.model), str(cell.dataset), canonical_json(cell.budget), cell.optimizer.name
        if "lr" in cell.optimizer.parameters:
            groups[key][str(cell.optimizer)].append(trial)
    return [_search([_point(group) for group in points.values()]) for points in groups.values()]


def _point(trials: list[Trial]) -> Point:
    optimizer = trials[0].cell.optimizer
    assert optimizer is not None
    return Point(optimizer, trials)


def _search(points: list[Point]) -> Search:
    cell = points[0].trials[0].cell
    assert cell.model is not None
    assert cell.dataset is not None
    ordered = sorted(points, key=lambda point: (point.rate, str(point.optimizer)))
    return Search(cell.model, cell.dataset, cell.budget, points[0].optimizer.name, ordered)


def choose(search: Search) -> Choice | None:
    """The point of best mean validation accuracy over all its seeds; None where no point is complete.

    Of equal ones the lower mean validation loss decides, then the smaller learning rate. Test accuracies play no part.
    Points that failed count for the size of the search and for its edges, and are never chosen.
    """
    left_out = search.left_out
    candidates = [point for point in search.points if point not in left_out]
    if not candidates:
        return None
    ranked = sorted(candidates, key=lambda point: (-point.right, point.loss, point.rate))
    return Choice(search, ranked[0], _reason(ranked), _edge(ranked[0], search))


def _reason(ranked: Sequence[Point]) -> Reason:
    if len(ranked) == 1 or ranked[0].right > ranked[1].right:
        return "accuracy"
    return "loss" if ranked[0].loss < ranked[1].loss else "learning rate"


def _edge(point: Point, search: Search) -> Edge | None:
    rates = {other.rate for other in search.points}
    if len(rates) == 1:
        return "only point"
    return "lower" if point.rate == min(rates) else "upper" if point.rate == max(rates) else None


def seeds_interval(values: Sequence[float]) -> Interval | None:
    """Student's t interval of the mean of ``values``, one for each seed; None for fewer than two.

    It is for these test examples: what other ones would give is no part of it.
    """
    if len(values) < 2:
        return None
    mean, count = statistics.fmean(values), len(values)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / math.sqrt(count)
    return mean - half, mean + half


def wilson(share: float, count: int) -> Interval:
    """Score interval of a probability that was estimated as ``share`` from ``count`` independent cases.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    >>> [round(bound, 3) for bound in wilson(0.9, 100)]
    [0.826, 0.945]

    Reference: Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)
