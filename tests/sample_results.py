"""Results that nobody measured, for tests of what is done with results."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from qbench.environment import environment_id
from qbench.registry import Registry, RunCell
from qbench.schema import Cell, Result

ENVIRONMENT = {"python": "3.11.7", "packages": {"torch": "2.11.0"}}
STARTED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def result_of(cell: Cell, run_id: str = "r", **changes: Any) -> Result:
    """How a cell ended on a CPU: well unless ``changes`` say otherwise, with nothing measured unless they name it."""
    given: dict[str, Any] = {
        "cell": cell,
        "fingerprint": "f" * 16,
        "device_kind": "cpu",
        "device": "cpu",
        "environment_id": environment_id(ENVIRONMENT),
        "run_id": run_id,
        "status": "ok",
        "started": STARTED,
        "seconds": 1.5,
    }
    if changes.get("status", "ok") != "ok":
        given["error"] = "ValueError: boom"
    return Result(**given | changes)


def write_run(registry: Registry, results: list[Result], digests: Iterable[str], suite: str = "mine") -> None:
    """A finished run of these results, whatever runs they name; each is of the suite with the digest beside it."""
    places = [RunCell(one.cell_id, one.cell.track, digest) for one, digest in zip(results, digests)]
    assert len(places) == len(results)
    run_id = registry.begin_run(suite, ENVIRONMENT, places)
    assert registry.write([one.model_copy(update={"run_id": run_id}) for one in results])
    registry.finish_run(run_id)
