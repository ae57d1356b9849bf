"""A run: fetch what is missing, train baselines, measure cells, write results about once a second."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from pydantic import ValidationError

from . import plan as planning
from .environment import clean_traceback, environment, environment_id
from .errors import DataError, RegistryError
from .executors.local import Finished, LocalPool, Settings, Task
from .fetching import fetch
from .plan import BASELINE_SECONDS, MEMORY_SHARE, Options, Plan, PlannedCell
from .plugins import DISABLE_VARIABLE
from .registry import Registry, RunCell
from .reporting import Progress
from .schema import Outcome, Result, Status

FLUSH_SECONDS = 1.0
LAST_WAIT = 60.0
BASELINE_LIMIT = 3600.0  # without a word; every epoch is one
_NO_OUTCOME = Outcome(measurements={})


class UnwrittenError(RegistryError):
    """Results were measured that the registry did not take, at the end of a run: ``results``."""

    def __init__(self, message: str, results: Sequence[Result]) -> None:
        count = f"{len(results):,} finished result{'s' * (len(results) != 1)}"
        super().__init__(f"{count} could not be written: {message}")
        self.results = tuple(results)


@dataclass
class Summary:
    """What a run did."""

    run_id: str
    registry: Path
    statuses: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    failed_before: int = 0
    pending: int = 0
    unavailable: dict[str, tuple[int, str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 done, 1 where a cell failed or was impossible, now or before."""
        failed = sum(count for status, count in self.statuses.items() if status != Status.OK)
        return 1 if failed or self.failed_before else 0


def run(options: Options, report: Callable[[Progress], None] = lambda progress: None) -> Summary:
    """Plan and execute.

    Raises:
        QBenchError: bad input; nothing was changed.
        DataError: not one cell could run, since the data of every one is missing.
    """
    return execute(planning.make(options), report)


def execute(plan: Plan, report: Callable[[Progress], None] = lambda progress: None) -> Summary:
    """Do what a plan says. An interruption keeps everything that was finished.

    Raises:
        DataError: as :func:`run`.
        UnwrittenError: the registry could not be written, and at the end not even when it was tried again.
        RegistryError: the registry could not be written for a while; what was finished until then is in it.
    """
    began = time.monotonic()
    writer = _Writer(plan)
    with _pool(plan) as pool:
        if plan.downloads:
            plan = fetch(plan, pool, report)
        _refuse_if_nothing_can_run(plan)
        writer.begin(plan)
        try:
            _measure(plan, pool, writer, report, began)
        except BaseException:
            writer.end("interrupted")
            raise
        writer.end("finished")
    summary = writer.summary
    summary.pending = plan.count("run") - sum(summary.statuses.values())
    summary.unavailable = plan.unavailable
    summary.reused, summary.failed_before = plan.count("reused"), plan.count("failed")
    summary.seconds = time.monotonic() - began
    return summary


def _pool(plan: Plan) -> LocalPool:
    options = plan.options
    memory = options.memory or int(MEMORY_SHARE * psutil.virtual_memory().total / plan.workers)
    disabled = {DISABLE_VARIABLE: ",".join(options.disabled)} if options.disabled else {}
    workers = min(plan.workers, plan.count("run") + len(plan.downloads))
    return LocalPool(
        Settings(
            device=plan.device_kind,
            data_root=options.data_root.absolute(),
            cache_root=options.cache_root.absolute(),
            memory=memory,
            device_share=MEMORY_SHARE / workers if workers > 1 else 1.0,
            environment=disabled,
        ),
        workers,
    )


def _refuse_if_nothing_can_run(plan: Plan) -> None:
    if plan.count("unavailable") == len(plan.cells):
        reasons = "; ".join(dict.fromkeys(reason for _, reason in plan.unavailable.values()))
        raise DataError(f"no cell can run: {reasons}")


def _measure(
    plan: Plan, pool: LocalPool, writer: "_Writer", report: Callable[[Progress], None], began: float
) -> None:
    cells = {planned.cell.cell_id: planned for planned in plan.cells if planned.state == "run"}
    clock = _Clock(plan.seconds)
    report(Progress(0, len(cells), "starting", clock.left()))
    for finished in pool.run(order_tasks(list(cells.values()), plan)):
        if finished is not None:
            planned = cells.get(finished.task.key)
            if planned is not None:
                writer.add(planned, finished)
            clock.add((planned.estimate if planned else BASELINE_SECONDS) / plan.workers)
            what = str(planned.cell) if planned else "baseline trained"
            report(Progress(writer.count, len(cells), what, clock.left()))
        elif notes := pool.notes():
            report(Progress(writer.count, len(cells), "; ".join(notes), clock.left()))
        writer.flush()
        budget = plan.options.time_budget
        if budget is not None and time.monotonic() - began > budget:
            return


class _Clock:
    """How long the rest takes: the expected seconds of what is left, at the pace since the first task ended."""

    def __init__(self, expected: float) -> None:
        self._left, self._done, self._began = expected, 0.0, 0.0

    def add(self, expected: float) -> None:
        if self._began:
            self._done += expected
        self._began = self._began or time.monotonic()
        self._left -= expected

    def left(self) -> float:
        pace = (time.monotonic() - self._began) / self._done if self._done else 1.0
        return max(0.0, self._left) * pace


def order_tasks(cells: list[PlannedCell], plan: Plan) -> list[Task]:
    """The cells, breadth first under a time budget, each baseline just before the first cell that needs it."""
    tasks: list[Task] = []
    baselines = set()
    for planned in _breadth_first(cells) if plan.options.time_budget else cells:
        after: str | None = None
        for recipe in planned.recipes:
            needed, after = after, f"baseline {recipe.baseline_id}"
            if after not in baselines:
                baselines.add(after)
                question = {"op": "baseline", "recipe": recipe.model_dump(mode="json")}
                tasks.append(Task(after, question, after, needed, BASELINE_LIMIT))
        question = {"op": "cell", "cell": planned.cell.model_dump(mode="json")}
        group = "" if plan.options.time_budget else after or str(planned.cell.dataset)
        tasks.append(Task(planned.cell.cell_id, question, group, after, plan.options.timeout))
    return tasks


def _breadth_first(cells: Any) -> Iterator[PlannedCell]:
    """The first point of every method and data set, then the second of each, cheap ones first within a round."""
    rounds: Counter[tuple[str, ...]] = Counter()
    numbered = []
    for planned in cells:
        cell = planned.cell
        line = (cell.track, cell.target, cell.quantizer.name if cell.quantizer else "")
        numbered.append((rounds[line], planned.estimate + BASELINE_SECONDS * len(planned.recipes), planned))
        rounds[line] += 1
    yield from (planned for _, _, planned in sorted(numbered, key=lambda item: item[:2]))


class _Writer:
    """Turns what finished into results and writes them in batches."""

    def __init__(self, plan: Plan) -> None:
        self.registry = Registry(plan.options.registry)
        self.catalog = plan.catalog
        self.device_kind = plan.device_kind
        self.device = device_name(plan.device_kind)
        self.environment = environment(_device_details(plan))
        self.environment_id = environment_id(self.environment)
        self.count = 0
        self._batch: list[Result] = []
        self._written = time.monotonic()

    def begin(self, plan: Plan) -> None:
        cells = [
            RunCell(p.cell.cell_id, p.cell.track, p.digest, None if p.state == "run" else p.result_id)
            for p in plan.cells
        ]
        self.run_id = self.registry.begin_run(plan.suite.name, self.environment, cells)
        self.summary = Summary(self.run_id, plan.options.registry)

    def add(self, planned: PlannedCell, finished: Finished) -> None:
        self._batch.append(self._result(planned, finished))
        self.summary.statuses[self._batch[-1].status] += 1
        self.count += 1

    def flush(self, *, last: bool = False) -> None:
        if not self._batch or (not last and time.monotonic() - self._written < FLUSH_SECONDS):
            return
        if self.registry.write(self._batch, wait=LAST_WAIT if last else 0.0):
            for result in self._batch:
                self.catalog.observe(result)
            self._batch = []
        elif last:
            held = f"{self.registry.path} was held by another process for {LAST_WAIT:.0f} s"
            raise RegistryError(f"{held}; run the same again")
        self._written = time.monotonic()

    def end(self, how: Literal["finished", "interrupted"]) -> None:
        try:
            self.flush(last=True)
        except RegistryError as error:
            raise UnwrittenError(str(error), self._batch) from None
        self.registry.finish_run(self.run_id, how)

    def _result(self, planned: PlannedCell, finished: Finished) -> Result:
        """The row of a task that ended; what no row can hold becomes one that says so."""
        status, error, outcome = finished.status, finished.error, _NO_OUTCOME
        try:
            if status is Status.OK:
                outcome = Outcome.model_validate(finished.outcome)
                status, error = outcome.status, outcome.error
            return self._row(planned, finished, outcome, status, error)
        except ValidationError as problem:
            said = f"the track returned what no result can hold: {problem}"
            return self._row(planned, finished, _NO_OUTCOME, Status.INVALID, said)

    def _row(
        self, planned: PlannedCell, finished: Finished, outcome: Outcome, status: Status, error: str | None
    ) -> Result:
        if status is not Status.OK:
            error = clean_traceback(error or "") or f"{status}, and no word why"
        return Result(
            cell=planned.cell,
            attempt=planned.attempt,
            fingerprint=planned.fingerprint,
            device_kind=self.device_kind,
            device=self.device,
            environment_id=self.environment_id,
            run_id=self.run_id,
            status=status,
            error=error,
            measurements=outcome.measurements,
            facts=outcome.facts,
            baseline_id=outcome.baseline_id,
            baseline_sha256=outcome.baseline_sha256,
            started=finished.started,
            seconds=finished.seconds,
        )


def device_name(kind: str) -> str:
    """The device's own name."""
    return torch.cuda.get_device_name() if kind == "cuda" else "cpu"


def _device_details(plan: Plan) -> dict[str, Any]:
    """``workers`` share a GPU, on which timings depend; on a CPU each has a core."""
    if plan.device_kind == "cpu":
        return {"kind": "cpu"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "kind": "cuda",
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "workers": plan.workers,
    }
