"""Whether two sets of results agree: which cells are in both, and what of their differences is more than noise.

Pairs of results are judged by :mod:`qbench.pairs`. What nothing judges there, such as the divergence of networks that
were trained apart, is judged over seeds where the same was measured with several: by Student's t for pairs of equal
weights, else by Welch's. p-values are adjusted after Holm over all tests that were made. What has no test is
``untested``. Where a quantity differs in many cells of a track, a sign-flip test over the cells tells a trend that none
of them shows alone.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

from . import significance
from .pairs import Judgement, Pair, Verdict, by_draws, judge
from .records import Record

ALPHA = 0.05
FEWEST_LINES = 6  # with fewer the least p-value of a sign-flip test is above ALPHA

Key: TypeAlias = tuple[str, str]
Records: TypeAlias = Mapping[Key, Record]


@final
@dataclass(frozen=True)
class Difference:
    """A quantity that two results of a cell do not agree in.

    Attributes:
        method: what judged it.
        p: its p-value alone; None where there is none.
        adjusted: that together with all others, after Holm.
    """

    pair: Pair
    quantity: str
    before: float | None
    after: float | None
    method: str = ""
    p: float | None = None
    adjusted: float | None = None
    verdict: Verdict = "untested"

    @property
    def change(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def unit(self) -> str:
        return self.pair.first.unit(self.quantity) or self.pair.second.unit(self.quantity)


@final
@dataclass(frozen=True)
class Trend:
    """A quantity of a track that differs in many cells, all of equal weights.

    Attributes:
        lines: cells but for their seeds, in each of which the mean over seeds is taken.
        up, down: how many became larger and smaller.
        mean: the mean difference over lines.
        adjusted: the p-value of a sign-flip test over lines, together with all others after Holm.
    """

    track: str
    target: str
    quantity: str
    unit: str
    lines: int
    up: int
    down: int
    mean: float
    p: float
    adjusted: float = 1.0

    @property
    def moved(self) -> bool:
        return self.adjusted <= ALPHA


@final
@dataclass(frozen=True)
class Comparison:
    """Two sets of results side by side.

    Attributes:
        pairs: cells in both.
        only_first, only_second: cells in one, on that kind of device.
        differences: those of pairs that both ended well, largest first.
        trends: quantities that differ in many cells of a track.
    """

    pairs: list[Pair]
    only_first: list[Record]
    only_second: list[Record]
    differences: list[Difference]
    trends: list[Trend]

    @property
    def status_changes(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.changed_status]

    @property
    def measured(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.first.ok and pair.second.ok]

    @property
    def counts(self) -> Counter[str]:
        """Rows by the worst that is said of their quantities: moved, untested, within noise, exactly."""
        said: dict[str, set[Verdict]] = defaultdict(set)
        for one in self.differences:
            said[one.pair.first.result_id].add(one.verdict)
        order: tuple[Verdict, ...] = ("moved", "untested", "within noise")
        worst = [
            next((verdict for verdict in order if verdict in said[pair.first.result_id]), "exactly")
            for pair in self.measured
        ]
        return Counter(worst)

    @property
    def moved(self) -> list[Difference]:
        return [one for one in self.differences if one.verdict == "moved"]

    @property
    def tests(self) -> int:
        """How many tests were made; one over seeds counts once."""
        return len({_test_of(one) for one in self.differences if one.p is not None}) + len(self.trends)

    @property
    def exit_code(self) -> int:
        """0 where nothing moved and nothing ended otherwise, else 1."""
        moved = self.moved or self.status_changes or any(trend.moved for trend in self.trends)
        return 1 if moved else 0


def compare(first: Records, second: Records, *, timing: bool = False) -> Comparison:
    """Two sets of results, each by cell and kind of device.

    Args:
        first: what :func:`qbench.records.gather` gave.
        second: the same.
        timing: compare besides what depends on the machine's speed.
    """
    pairs = [Pair(record, second[key]) for key, record in first.items() if key in second]
    measured = [pair for pair in pairs if pair.first.ok and pair.second.ok]
    found = [one for pair in measured for one in _differences(pair, timing)]
    judged, trends = _judged(_over_seeds(found, measured), list(_trends(found, measured)))
    return Comparison(
        pairs,
        [record for key, record in first.items() if key not in second],
        [record for key, record in second.items() if key not in first],
        _largest_first(judged, measured),
        trends,
    )


def _differences(pair: Pair, timing: bool) -> Iterator[Difference]:
    for name in dict.fromkeys([*pair.first.quantities, *pair.second.quantities]):
        before, after = pair.values(name)
        if before != after:
            yield _difference(pair, name, judge(pair, name))
    for name in sorted({*pair.first.timings, *pair.second.timings}) if timing else ():
        before, after = pair.values(name)
        if before != after:
            yield _difference(pair, name, by_draws(pair, name, matched=False))


def _difference(pair: Pair, name: str, found: Judgement | None) -> Difference:
    unjudged = Difference(pair, name, *pair.values(name))
    if found is None:
        return unjudged
    return replace(unjudged, method=found.method, p=found.p, verdict=found.verdict or "untested")


def _over_seeds(found: Sequence[Difference], measured: Iterable[Pair]) -> list[Difference]:
    """What nothing has judged so far, judged together with the same under other seeds where there are any."""
    lines: dict[str, list[Pair]] = defaultdict(list)
    for pair in measured:
        lines[pair.first.line].append(pair)
    known: dict[tuple[str, str], tuple[str, float] | None] = {}
    for one in found:
        line = one.pair.first.line
        if not one.method and (line, one.quantity) not in known:
            known[line, one.quantity] = _of_seeds(lines[line], one.quantity)
    answers = [None if one.method else known[one.pair.first.line, one.quantity] for one in found]
    return [
        replace(one, method=answer[0], p=answer[1]) if answer else one
        for one, answer in zip(found, answers, strict=True)
    ]


def _of_seeds(pairs: Sequence[Pair], name: str) -> tuple[str, float] | None:
    values = [(a, b) for a, b in (pair.values(name) for pair in pairs) if a is not None and b is not None]
    if len(values) < 2:
        return None
    if all(pair.equal_weights for pair in pairs):
        return f"paired t, {len(values)} seeds", significance.paired([b - a for a, b in values])
    return f"Welch, {len(values)} seeds", significance.welch(*map(list, zip(*values, strict=True)))


def _trends(found: Iterable[Difference], measured: Iterable[Pair]) -> Iterator[Trend]:
    """For each quantity of a track whose differences are left to tests, in the cells that start from equal weights."""
    uncertain = {_subject(one.pair, one.quantity): one.unit for one in found if one.verdict == "untested"}
    changes: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in measured:
        for name in pair.first.quantities if pair.equal_weights else ():
            before, after = pair.values(name)
            subject = _subject(pair, name)
            if subject in uncertain and before is not None and after is not None:
                changes[subject][pair.first.line].append(after - before)
    for subject, lines in changes.items():
        means = [statistics.fmean(line) for line in lines.values()]
        up, down = sum(mean > 0 for mean in means), sum(mean < 0 for mean in means)
        if up + down >= FEWEST_LINES:
            mean, p = statistics.fmean(means), significance.sign_flip(means)
            yield Trend(*subject, uncertain[subject], len(means), up, down, mean, p)


def _subject(pair: Pair, name: str) -> tuple[str, str, str]:
    return pair.first.cell.track, pair.first.cell.target, name


def _judged(found: Sequence[Difference], trends: Sequence[Trend]) -> tuple[list[Difference], list[Trend]]:
    """With p-values adjusted; seeds that were judged together count as one test."""
    tests: dict[tuple[str, ...], float] = {_subject_of(trend): trend.p for trend in trends}
    tests |= {_test_of(one): one.p for one in found if one.p is not None}
    adjusted = dict(zip(tests, significance.holm(list(tests.values())), strict=True))

    def judged(one: Difference) -> Difference:
        if one.p is None:
            return one
        p = adjusted[_test_of(one)]
        return replace(one, adjusted=p, verdict="moved" if p <= ALPHA else "within noise")

    together = [replace(trend, adjusted=adjusted[_subject_of(trend)]) for trend in trends]
    return [judged(one) for one in found], together


def _subject_of(trend: Trend) -> tuple[str, str, str]:
    return trend.track, trend.target, trend.quantity


def _test_of(one: Difference) -> tuple[str, str]:
    """What names a test: seeds are judged by one, and so are an accuracy and its difference to the same float model."""
    line = one.pair.first.line if one.method.endswith("seeds") else one.pair.first.result_id
    return line, "accuracy" if one.method == "McNemar" else one.quantity


def _largest_first(found: Sequence[Difference], measured: Iterable[Pair]) -> list[Difference]:
    """By size in proportion to the largest value of the quantity in its track."""
    largest: dict[tuple[str, ...], float] = defaultdict(float)
    names = {one.quantity for one in found}
    for pair in measured:
        for name in names:
            key = pair.first.cell.track, pair.first.cell.target, name
            largest[key] = max(largest[key], *(abs(value or 0.0) for value in pair.values(name)))

    def size(one: Difference) -> float:
        scale = largest[one.pair.first.cell.track, one.pair.first.cell.target, one.quantity]
        return math.inf if one.change is None else abs(one.change) / scale

    return sorted(found, key=lambda one: (-size(one), one.quantity, one.pair.first.result_id))
