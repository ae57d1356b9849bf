"""What a registry holds for the hypotheses of a suite: every planned cell, and its figures where it was measured."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from . import suite as suites
from .errors import RegistryError, SuiteError
from .hypotheses import Estimate, Hypothesis, measurement
from .plan import flat
from .plugins import Catalog
from .registry import Registry
from .schema import Cell, Spec, canonical_json
from .selection import Selection
from .suite import Suite
from .verdicts import Observation, Verdict, decide

OK, MISSING = "ok", "missing"
_MEASURED_UNDER = """
    SELECT r.result_id, c.digest FROM results AS r
    LEFT JOIN run_cells AS c ON c.run_id = r.run_id AND c.cell_id = r.cell_id
    WHERE r.track IN (SELECT unnest($1::VARCHAR[]))
"""
_LAYERS = """
    SELECT r.result_id, m.name, r.facts->>'$.layers', m.samples
    FROM results AS r JOIN measurements AS m ON m.result_id = r.result_id
    WHERE r.result_id IN (SELECT unnest($1::VARCHAR[])) AND m.name IN (SELECT unnest($2::VARCHAR[]))
      AND r.facts->>'$.layers' IS NOT NULL
"""
_Layers: TypeAlias = Mapping[str, Sequence[tuple[str, float]]]


@final
@dataclass(frozen=True)
class Record:
    """A planned cell with its result that counts (:mod:`qbench.attempts`).

    Attributes:
        status: of the result; ``missing`` where there is none.
        metrics: by name, as ``{value, unit, n}``; empty unless the status is ``ok``.
        layers: by measurement, every layer's kind and value, where the result names its layers in the fact ``layers``
            as ``name:kind:size ...`` and has as many samples.
        as_stated: whether it was measured in a run of this very protocol, hypotheses included.
    """

    cell: Cell
    status: str = MISSING
    error: str = ""
    result_id: str = ""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layers: _Layers = field(default_factory=dict)
    as_stated: bool = True

    def estimate(self, name: str, exact: bool = False) -> Estimate | None:
        """A measurement with its interval, or for exact; None where it or an end of it is not there.

        Raises:
            RegistryError: the interval's ends are the wrong way round.
        """
        value, low, high = (self._value(name if exact else f"{name}{end}") for end in ("", ".low", ".high"))
        if value is None or low is None or high is None:
            return None
        if low > high:
            raise RegistryError(
                f"result {self.result_id}: measurement {name!r} has {name}.low={low} above {name}.high={high}; "
                f"track {self.cell.track!r} is at fault: run the cell again with one that is right"
            )
        return Estimate(value, low, high)

    def left_out(self, name: str) -> int:
        """Layers that a measurement over layers is without."""
        return int(self._value(f"{name}.left_out") or 0)

    def _value(self, name: str) -> float | None:
        found = self.metrics.get(name)
        return None if found is None else found["value"]


@final
@dataclass(frozen=True)
class Evidence:
    """The records of every track that the suite's hypotheses are about, and the protocols' digests."""

    suite: Suite
    digests: Mapping[str, str]
    records: Mapping[str, Sequence[Record]]

    def about(self, hypothesis: Hypothesis) -> list[Record]:
        """The cells of its track that it is about.

        Raises:
            SuiteError: it narrows them by a budget that none of them has.
        """
        selection, budget = Selection.parse(hypothesis.where), hypothesis.budget
        records = self.records[hypothesis.track]
        found = [one for one in records if all(one.cell.budget.get(k) == v for k, v in budget.items())]
        if budget and not found:
            said = ", ".join(f"{name}={value}" for name, value in budget.items())
            raise SuiteError(
                f"hypothesis {hypothesis.id}: no cell of track {hypothesis.track!r} has a budget of {said}; give "
                "entries as a grid of that track has them"
            )
        return [one for one in found if selection.matches(flat(one.cell))]

    def counts(self, track: str) -> Counter[str]:
        """Cells by status."""
        return Counter(one.status for one in self.records[track])

    def verdicts(self) -> list[Verdict]:
        """Every hypothesis decided, in the order of the suite.

        Raises:
            SuiteError: a figure that no measured cell of the track has.
            RegistryError: an interval that is none.
        """
        known = {one.id: one for one in self.suite.hypothesis}
        pairs = [(one, known.get(one.needs_failed or "")) for one in self.suite.hypothesis]
        return [decide(one, observations(one, self.about(one), needed), needed) for one, needed in pairs]


def gather(suite: Suite, catalog: Catalog, registry: Registry) -> Evidence:
    """The result that counts (:mod:`qbench.attempts`) of every cell that the suite's hypotheses are about.

    Raises:
        SuiteError: the suite states no hypothesis, or does not expand.
        RegistryError: the registry cannot be read.
    """
    tracks = sorted({one.track for one in suite.hypothesis})
    if not tracks:
        raise SuiteError(f"suite {suite.name!r} states no hypothesis: give one with [[hypothesis]] tables")
    rows = {row["cell_id"]: row for row in registry.results([f"track={','.join(tracks)}"])}
    digests = dict(registry.sql(_MEASURED_UNDER, [tracks]).fetchall())
    names = [name for one in suite.hypothesis for name in one.measured if one.windows]
    layers = _layers(registry, [row["result_id"] for row in rows.values()], names)
    records: dict[str, list[Record]] = {track: [] for track in tracks}
    for one in suites.expand(suite, catalog):
        row = rows.get(one.cell.cell_id)
        if row is None and one.cell.track in tracks:
            records[one.cell.track].append(Record(one.cell))
        elif row is not None:
            stated = digests.get(row["result_id"]) == one.digest
            records[one.cell.track].append(_record(one.cell, row, layers.get(row["result_id"], {}), stated))
    return Evidence(suite, suite.digests(catalog), records)


def _record(cell: Cell, row: Mapping[str, Any], layers: _Layers, as_stated: bool) -> Record:
    metrics = row["metrics"] if row["status"] == OK else {}
    return Record(cell, row["status"], row["error"] or "", row["result_id"], metrics, layers, as_stated)


def _layers(registry: Registry, results: Sequence[str], names: Sequence[str]) -> dict[str, _Layers]:
    """By result and measurement every layer's kind and value."""
    found: dict[str, dict[str, list[tuple[str, float]]]] = defaultdict(dict)
    for result_id, name, layers, samples in registry.sql(_LAYERS, [results, names]).fetchall():
        kinds = [layer.split(":")[1] for layer in layers.split() if layer.count(":") == 2]
        if len(kinds) == len(samples):
            found[result_id][name] = list(zip(kinds, samples, strict=True))
    return dict(found)


def observations(
    hypothesis: Hypothesis, records: Iterable[Record], needed: Hypothesis | None = None
) -> list[Observation]:
    """The measured cells as a hypothesis, and the one that it needs to fail, see them: by window, or against partners.

    Raises:
        SuiteError: a figure that none of them has.
    """
    measured = [one for one in records if one.status == OK]
    _require_figures(hypothesis, measured)
    names = [*hypothesis.figures, *(needed.figures if needed else ())]
    found = [
        (one, _observation(one, window, names, hypothesis))
        for one in measured
        for window in hypothesis.windows or [""]
    ]
    return _against_partners(hypothesis, found) if hypothesis.against else [one for _, one in found]


def _require_figures(hypothesis: Hypothesis, measured: Sequence[Record]) -> None:
    known = {name for one in measured for name in one.metrics}
    shown = [measurement(window, name) for window in hypothesis.windows or [""] for name in hypothesis.report]
    absent = [name for name in [*hypothesis.measured, *shown] if name not in known]
    if measured and absent:
        ends = (".low", ".high", ".left_out")
        near = ", ".join(sorted(name for name in known if not name.endswith(ends)))
        remedy = (
            "a figure without interval needs exact = true"
            if absent[0].endswith(ends)
            else f"there are: {near}"
        )
        raise SuiteError(
            f"hypothesis {hypothesis.id}: no measured cell of track {hypothesis.track!r} has {absent[0]!r}; "
            f"correct the figure or its window; {remedy}"
        )


def _factors(cell: Cell, window: str) -> dict[str, str]:
    named = {
        "architecture": cell.model and cell.model.name,
        "optimizer": cell.optimizer and cell.optimizer.name,
        "data set": cell.dataset and cell.dataset.name,
        "window": window,
        "gradient": cell.budget.get("gradient"),
        "quantizer": cell.quantizer and cell.quantizer.name,
        "seed": str(cell.seed),
    }
    own = cell.quantizer.parameters if cell.quantizer else {}
    return {name: value for name, value in named.items() if value} | {n: str(v) for n, v in own.items()}


def _observation(record: Record, window: str, names: Iterable[str], hypothesis: Hypothesis) -> Observation:
    exact = dict.fromkeys(hypothesis.report, True) | dict.fromkeys(names, hypothesis.exact)
    figures = {name: record.estimate(measurement(window, name), bare) for name, bare in exact.items()}
    layers = {name: record.layers.get(measurement(window, name), ()) for name in names}
    left_out = {name: count for name in names if (count := record.left_out(measurement(window, name)))}
    return Observation(_factors(record.cell, window), figures, layers, left_out)


def _against_partners(
    hypothesis: Hypothesis, found: Sequence[tuple[Record, Observation]]
) -> list[Observation]:
    """Differences to the cell with the parameters in ``against`` that is the same in all else, where there is one."""
    keyed = [(_setting(one.cell, hypothesis.against), seen) for one, seen in found]
    partners = {
        (setting, seen.factors.get("window")): seen
        for (setting, own), seen in keyed
        if own == hypothesis.against
    }
    pairs = [
        (seen, partners.get((setting, seen.factors.get("window"))))
        for (setting, own), seen in keyed
        if own != hypothesis.against
    ]
    return [Observation(one.factors, _differences(one, other)) for one, other in pairs if other is not None]


def _setting(cell: Cell, names: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The cell without these parameters of its quantizer, and their values."""
    own = dict(cell.quantizer.parameters) if cell.quantizer else {}
    apart = {name: own.pop(name) for name in names if name in own}
    bare = cell.model_dump(mode="json", exclude={"quantizer"})
    name = cell.quantizer.name if cell.quantizer else None
    return canonical_json([bare, name, Spec(name="rest", parameters=own).model_dump(mode="json")]), apart


def _differences(one: Observation, other: Observation) -> dict[str, Estimate | None]:
    pairs = {name: (estimate, other.figures.get(name)) for name, estimate in one.figures.items()}
    return {name: a - b if a is not None and b is not None else None for name, (a, b) in pairs.items()}
