"""Results as rows of the registry's tables, and back."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, final

from duckdb import DuckDBPyConnection

from .environment import environment_id
from .schema import Measurement, Result, Spec, canonical_json

Row = dict[str, Any]

_PLAIN = (
    *("run_id", "attempt", "fingerprint", "device_kind", "device", "environment_id", "error"),
    *("baseline_id", "baseline_sha256", "seconds"),
)
_MEASURED = ("value", "unit", "n", "timing", "samples")
_INSERT_MEASUREMENTS = """
    INSERT INTO measurements
    SELECT result_id, name, CASE WHEN isnan(value) THEN NULL ELSE value END, unit, n, timing, samples
    FROM incoming WHERE result_id IN (SELECT unnest($1::VARCHAR[]))
"""
_SATISFY = """
    UPDATE run_cells SET result_id = new.result_id
    FROM (
        SELECT unnest($1::VARCHAR[]) AS run_id, unnest($2::VARCHAR[]) AS cell_id,
               unnest($3::VARCHAR[]) AS result_id
    ) AS new
    WHERE run_cells.run_id = new.run_id AND run_cells.cell_id = new.cell_id
"""


def utc(moment: datetime) -> datetime:
    """The moment as the tables hold it: UTC without saying so. One without a zone is taken for UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def insert(
    connection: DuckDBPyConnection, table: str, rows: Sequence[Row], conflict: str = "DO NOTHING"
) -> None:
    """Append rows of equal keys to a table of the registry; ``conflict`` says what becomes of known ones."""
    if not rows:
        return
    described = connection.execute(f"DESCRIBE {table}").fetchall()
    kinds = {name: "VARCHAR" if kind == "JSON" else kind for name, kind, *_ in described}
    columns = list(rows[0])
    values = ", ".join(f"unnest(${number}::{kinds[name]}[])" for number, name in enumerate(columns, 1))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} ON CONFLICT {conflict}",
        [[row[name] for row in rows] for name in columns],
    )


def insert_environments(connection: DuckDBPyConnection, contents: Iterable[Mapping[str, Any]]) -> None:
    """Append environments under their identifiers."""
    rows = [{"environment_id": environment_id(one), "content": canonical_json(dict(one))} for one in contents]
    insert(connection, "environments", list({row["environment_id"]: row for row in rows}.values()))


@final
class Batch:
    """Results as rows of ``results`` and ``measurements``, made before the registry is opened."""

    def __init__(self, results: Iterable[Result]) -> None:
        rows = ((_result_row(result), result) for result in results)
        chosen = {row["result_id"]: (row, result) for row, result in reversed(list(rows))}
        self.results = [row for row, _ in reversed(chosen.values())]
        measured = {name: result.measurements for name, (_, result) in chosen.items()}
        self._measurements = _measurements(measured)

    def insert(self, connection: DuckDBPyConnection) -> int:
        """Append what is not there yet; returns how many results that were."""
        new = self._absent(connection)
        insert(connection, "results", self.results)
        connection.register("incoming", self._measurements)
        connection.execute(_INSERT_MEASUREMENTS, [new])
        connection.unregister("incoming")
        return len(new)

    def satisfy(self, connection: DuckDBPyConnection) -> None:
        """Enter the results where their runs wait for them."""
        names = ("run_id", "cell_id", "result_id")
        connection.execute(_SATISFY, [[row[name] for row in self.results] for name in names])

    def _absent(self, connection: DuckDBPyConnection) -> list[str]:
        wanted = [row["result_id"] for row in self.results]
        query = "SELECT result_id FROM results WHERE result_id IN (SELECT unnest($1::VARCHAR[]))"
        present = {found for (found,) in connection.execute(query, [wanted]).fetchall()}
        return [name for name in wanted if name not in present]


def _measurements(measured: Mapping[str, Mapping[str, Measurement]]) -> Any:
    """A DataFrame in which every column has its type: DuckDB would guess that of lists from a few rows."""
    import numpy as np
    import pandas as pd

    found = [
        (result_id, name, m.value, m.unit, m.n, m.timing, np.array(m.samples, dtype=np.float64))
        for result_id, measurements in measured.items()
        for name, m in measurements.items()
    ]
    frame = pd.DataFrame(found, columns=["result_id", "name", "value", "unit", "n", "timing", "samples"])
    kinds = {
        "result_id": object,
        "name": object,
        "value": float,
        "unit": object,
        "n": np.int64,
        "timing": bool,
    }
    return frame.astype(kinds)


def _result_row(result: Result) -> Row:
    cell, row = result.cell, {name: getattr(result, name) for name in _PLAIN}
    row |= {name: getattr(cell, name) for name in ("track", "track_version", "target", "seed")}
    row |= _component("quantizer", "parameters", cell.quantizer)
    for kind in ("model", "dataset", "optimizer"):
        row |= _component(kind, f"{kind}_parameters", getattr(cell, kind))
    row |= {"result_id": result.result_id, "cell_id": cell.cell_id, "status": str(result.status)}
    row |= {"started": utc(result.started), "budget": canonical_json(cell.budget)}
    row |= {"facts": canonical_json(result.facts)}
    row |= {"cell": canonical_json(cell.model_dump(mode="json"))}
    return row


def _component(name: str, parameters: str, spec: Spec | None) -> Row:
    given = spec.model_dump(mode="json")["parameters"] if spec else {}
    return {name: spec.name if spec else None, parameters: canonical_json(given)}


def to_result(row: Mapping[str, Any], measurements: Iterable[Mapping[str, Any]]) -> Result:
    """The result of a row of ``results`` and its rows of ``measurements``, validated.

    Raises:
        ValueError: the rows are not what this version writes.
    """
    given: Row = {name: row.get(name) for name in (*_PLAIN, "status", "started")}
    if isinstance(given["started"], datetime):
        given["started"] = utc(given["started"]).replace(tzinfo=UTC)
    given |= {name: json.loads(row.get(name) or "null") for name in ("cell", "facts")}
    given["measurements"] = {m["name"]: {key: m[key] for key in _MEASURED} for m in measurements}
    return Result.model_validate(given)


def fetch(connection: DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """Every row of a query by column name."""
    found = connection.execute(query, list(parameters))
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
