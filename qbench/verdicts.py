"""Verdicts over many cells: a hypothesis holds, fails or depends, and on what.

It holds if at least 80 % of the cells support it, and so in at least 5/6 of the architectures and of the optimizers; it
fails if at least 80 % contradict it; otherwise it depends. The figure to which that is due is named, and the factor
with the largest share of its variance. Undecided cells count among all. p-values decide nothing.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final, get_args

from .hypotheses import Estimate, Hypothesis, Support

Outcome: TypeAlias = Literal["holds", "fails", "depends", "unmeasured"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
CELLS = (4, 5)  # share of the cells that decides
GROUPS = (5, 6)  # share of the architectures, and of the optimizers, in which as many must support
GROUPED = ("architecture", "optimizer")
LAYER_KIND = "layer kind"
NO_COMPONENT = "seed"
SMALLEST_COMPONENT = 0.05  # of the variance; less may be chance


@final
@dataclass(frozen=True)
class Observation:
    """One cell: what it is, by factor, its figures, and where known every layer's kind and figure.

    ``left_out``: by figure, the number of layers that it is not defined for, and which it therefore says nothing of.
    """

    factors: Mapping[str, str]
    figures: Mapping[str, Estimate | None]
    layers: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Judged:
    """An observation and what it says of a hypothesis."""

    observation: Observation
    support: Support


@final
@dataclass(frozen=True)
class Tally:
    """How many cells say what."""

    supports: int
    contradicts: int
    undecided: int

    @classmethod
    def of(cls, found: Iterable[Support]) -> "Tally":
        counts = Counter(found)
        return cls(counts["supports"], counts["contradicts"], counts["undecided"])

    @property
    def cells(self) -> int:
        return self.supports + self.contradicts + self.undecided


@final
@dataclass(frozen=True)
class Verdict:
    """What all cells together say of a hypothesis.

    Attributes:
        deciding: the figure to which the outcome is due. Beside ``all``, where one figure outside is enough to
            contradict: the one that most cells contradict, of equal ones the one that fewest support. Beside ``any``,
            where one inside is enough to support: the one that most cells support, of equal ones the one that fewest
            contradict. Of figures equal in both the first.
        components: by factor, the share of the deciding figure's variance between its values (epsilon squared),
            largest first, none below 5 %; over layers where every cell knows its layers' figures, so that their kind is
            a factor too, else over cells.
    """

    hypothesis: Hypothesis
    outcome: Outcome
    judged: tuple[Judged, ...]
    deciding: str
    components: Mapping[str, float]

    @property
    def tally(self) -> Tally:
        return Tally.of(one.support for one in self.judged)

    @property
    def largest_component(self) -> tuple[str, float] | None:
        return next(iter(self.components.items()), None)

    def by(self, factor: str) -> dict[str, Tally]:
        """The tally for every value of a factor."""
        return _by(self.judged, factor)

    def of_figure(self, figure: str) -> Tally:
        """What the cells say of one figure's region."""
        return _of_figure(self.hypothesis, figure, self.judged)

    def left_out(self, figure: str) -> tuple[int, int]:
        """Layers that a figure is without, over all cells, and the number of these cells."""
        counts = [one.observation.left_out.get(figure, 0) for one in self.judged]
        return sum(counts), sum(map(bool, counts))

    def median(self, figure: str, factors: Mapping[str, str] | None = None) -> float | None:
        """A figure's median over the cells with these factors; None where there is none."""
        wanted = (factors or {}).items()
        found = [one.observation for one in self.judged if wanted <= one.observation.factors.items()]
        values = [estimate.value for one in found if (estimate := one.figures.get(figure)) is not None]
        return statistics.median(values) if values else None


def decide(
    hypothesis: Hypothesis, observations: Iterable[Observation], needed: Hypothesis | None = None
) -> Verdict:
    """The verdict over the cells that were measured.

    Args:
        hypothesis: what is decided.
        observations: a cell each.
        needed: the hypothesis that ``needs_failed`` names.
    """
    judged = tuple(
        Judged(one, hypothesis.support(one.figures, needed and needed.support(one.figures)))
        for one in observations
    )
    deciding = _deciding(hypothesis, judged)
    components = _components(judged, deciding)
    return Verdict(hypothesis, _outcome(judged), judged, deciding, components)


def _outcome(judged: Sequence[Judged]) -> Outcome:
    tally = Tally.of(one.support for one in judged)
    if not tally.cells:
        return "unmeasured"
    if _reaches(tally.contradicts, tally.cells, CELLS):
        return "fails"
    if _reaches(tally.supports, tally.cells, CELLS) and all(map(_in_enough, _groups(judged))):
        return "holds"
    return "depends"


def _reaches(part: int, whole: int, share: tuple[int, int]) -> bool:
    """``part / whole >= share``, in integers: exactly 80 % is enough."""
    return part * share[1] >= whole * share[0]


def _groups(judged: Sequence[Judged]) -> list[list[Tally]]:
    """For architectures and for optimizers, where cells have them, a tally of each."""
    return [list(_by(judged, factor).values()) for factor in GROUPED]


def _in_enough(groups: Sequence[Tally]) -> bool:
    supporting = sum(_reaches(tally.supports, tally.cells, CELLS) for tally in groups)
    return _reaches(supporting, len(groups), GROUPS)


def _by(judged: Iterable[Judged], factor: str) -> dict[str, Tally]:
    found: dict[str, list[Support]] = defaultdict(list)
    for one in judged:
        if factor in one.observation.factors:
            found[one.observation.factors[factor]].append(one.support)
    return {value: Tally.of(found[value]) for value in sorted(found)}


def _of_figure(hypothesis: Hypothesis, figure: str, judged: Iterable[Judged]) -> Tally:
    regions = [region for region in hypothesis.regions if region.figure == figure]
    found = [one.observation.figures.get(figure) for one in judged]
    return Tally.of(region.support(estimate) for region in regions for estimate in found)


def _deciding(hypothesis: Hypothesis, judged: Sequence[Judged]) -> str:
    figures = list(dict.fromkeys(region.figure for region in hypothesis.regions))
    tallies = {figure: _of_figure(hypothesis, figure, judged) for figure in figures}
    if hypothesis.all:
        return min(figures, key=lambda name: (-tallies[name].contradicts, tallies[name].supports))
    return min(figures, key=lambda name: (-tallies[name].supports, tallies[name].contradicts))


def _components(judged: Sequence[Judged], figure: str) -> dict[str, float]:
    """Epsilon squared of every factor by itself, where it is not small."""
    pairs = _layers(judged, figure) or _whole(judged, figure)
    values = [value for _, value in pairs]
    if not values or min(values) == max(values):
        return {}
    names = sorted({name for factors, _ in pairs for name in factors} - {NO_COMPONENT})
    found = {name: epsilon_squared([factors.get(name, "") for factors, _ in pairs], values) for name in names}
    known = [(name, share) for name, share in found.items() if share >= SMALLEST_COMPONENT]
    return dict(sorted(known, key=lambda item: -item[1]))


def _whole(judged: Sequence[Judged], figure: str) -> list[tuple[Mapping[str, str], float]]:
    found = [(one.observation.factors, one.observation.figures.get(figure)) for one in judged]
    return [(factors, estimate.value) for factors, estimate in found if estimate is not None]


def _layers(judged: Sequence[Judged], figure: str) -> list[tuple[Mapping[str, str], float]]:
    """Every layer of every cell; nothing if a cell does not know them."""
    known = [one.observation for one in judged if one.observation.figures.get(figure) is not None]
    if not all(one.layers.get(figure) for one in known):
        return []
    return [({**one.factors, LAYER_KIND: kind}, value) for one in known for kind, value in one.layers[figure]]


def epsilon_squared(labels: Sequence[str], values: Sequence[float]) -> float:
    """The share of the variance that lies between k labels, of n values:

        epsilon^2 = (SS_between - (k - 1) SS_within / (n - k)) / SS_total,

    0 where that is negative, where every value has a label of its own, and where all values are equal. Eta squared,
    SS_between / SS_total, is (k - 1) / (n - 1) in the mean where labels say nothing; this is 0 before it is cut off.

    Reference: Kelley 1935, "An unbiased correlation ratio measure", PNAS 21.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for label, value in zip(labels, values, strict=True):
        groups[label].append(value)
    mean = math.fsum(values) / len(values)
    means = {label: math.fsum(group) / len(group) for label, group in groups.items()}
    between = math.fsum(len(group) * (means[label] - mean) ** 2 for label, group in groups.items())
    within = math.fsum((value - means[label]) ** 2 for label, group in groups.items() for value in group)
    free = len(values) - len(groups)
    if not free or not between + within:
        return 0.0
    return max(0.0, (between - (len(groups) - 1) * within / free) / (between + within))
