"""Cells, results and runs of registries, and files that are no registry."""

from pathlib import Path
from typing import Any

import duckdb
from sample_results import ENVIRONMENT, result_of

import qbench
from qbench.registry import Registry, RunCell
from qbench.schema import Cell, Measurement, Result, Spec

ROOT = str(Path(qbench.__file__).parents[1])


def make_cell(seed: int = 0, quantizer: str = "uniform(bits=4,range=mse)", **changes: Any) -> Cell:
    given = {
        "track": "rate-distortion",
        "track_version": 1,
        "target": "source",
        "dataset": Spec.parse("gaussian"),
    }
    return Cell(**{**given, "quantizer": Spec.parse(quantizer), "seed": seed, **changes})


def make_result(cell: Cell | None = None, run_id: str = "r", **changes: Any) -> Result:
    ended_well = changes.get("status", "ok") == "ok"
    measured = {"measurements": {"mse": Measurement.mean([0.25, 0.75], "mse")}} if ended_well else {}
    return result_of(cell or make_cell(), run_id, **measured | changes)


def begin(registry: Registry, cells: list[Cell], suite: str = "smoke", **reused: str) -> str:
    places = [RunCell(cell.cell_id, cell.track, "d" * 64, reused.get(cell.cell_id)) for cell in cells]
    return registry.begin_run(suite, ENVIRONMENT, places)


def make_text(path: Path) -> None:
    path.write_text("no database\n" * 1000)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_foreign(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE migrations (number INTEGER)")


def make_newer(path: Path) -> None:
    begin(Registry(path), [])
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'm099', now())")


NO_REGISTRIES = (make_text, make_empty, make_folder, make_foreign, make_newer)
