"""Fetching data sets before a run, in processes that can be killed."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .executors.local import LocalPool, Task
from .plan import Plan, PlannedCell, with_data
from .reporting import Progress
from .schema import Spec, Status

IDLE_SECONDS = 60.0  # sockets give up after 10 s each; this is for what they do not cover
_LIMIT = 24 * 3600.0


def fetch(plan: Plan, pool: LocalPool, report: Callable[[Progress], None]) -> Plan:
    """Fetch the missing data sets; when no byte comes for a while, whatever still waits is killed.

    Returns:
        The plan with cells whose data has come to run, and the reason on those whose data has not.
    """
    failures = _fetch(plan, pool, report)
    silent = f"nothing came for {IDLE_SECONDS:.0f} s"
    cells, missing = with_data([_hopeful(p) for p in plan.cells], plan.catalog, plan.options)
    for at, planned in enumerate(cells):
        name = str(planned.cell.dataset)
        if planned.state == "unavailable" and name in missing:
            cells[at] = replace(
                planned, reason=failures.get(name, f"cannot fetch {name}: {silent}; {planned.reason}")
            )
    return replace(plan, cells=cells, downloads={})


def _fetch(plan: Plan, pool: LocalPool, report: Callable[[Progress], None]) -> dict[str, str]:
    """Errors by data set."""
    tasks = [
        Task(name, {"op": "fetch", "dataset": Spec.parse(name).model_dump(mode="json")}, limit=_LIMIT)
        for name in plan.downloads
    ]
    root, total, what = plan.options.data_root, sum(plan.downloads.values()), ", ".join(plan.downloads)
    start = seen = bytes_below(root)
    since, failures = time.monotonic(), dict[str, str]()
    for finished in pool.run(tasks):
        got = bytes_below(root)
        if finished is not None or got != seen:
            seen, since = got, time.monotonic()
        if finished is not None and finished.status is not Status.OK:
            failures[finished.task.key] = str(finished.error)
        if time.monotonic() - since > IDLE_SECONDS:
            pool.restart()
            break
        report(Progress(max(0, got - start), total, f"fetching {what}", unit="bytes"))
    return failures


def _hopeful(planned: PlannedCell) -> PlannedCell:
    return replace(planned, state="run", reason="") if planned.state == "unavailable" else planned


def bytes_below(folder: Path) -> int:
    """Bytes of the files in a folder at any depth; files may come and go meanwhile."""
    total = 0
    for path in folder.rglob("*") if folder.exists() else ():
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
