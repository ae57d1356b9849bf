"""Results as rows of the registry's tables, and back."""

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, final

from duckdb import DuckDBPyConnection

from .environment import environment_id
from .schema import Measurement, Result, canonical_json

Row = dict[str, Any]

_PLAIN = (
    *("run_id", "attempt", "fingerprint", "device_kind", "device", "environment_id", "error"),
    *("baseline_id", "baseline_sha256", "seconds"),
)
_MEASURED = ("value", "unit", "n", "timing", "samples")
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
    connection: DuckDBPyConnection,
    table: str,
    rows: Sequence[Row],
    conflict: str = "ON CONFLICT DO NOTHING",
) -> None:
    """Append rows of equal keys to a table of the registry; ``conflict`` says what becomes of known ones."""
    if not rows:
        return
    import pandas as pd

    described = connection.execute(f"DESCRIBE {table}").fetchall()
    kinds = {name: kind for name, kind, *_ in described if name in rows[0]}
    columns = {name: _column([row[name] for row in rows], kind) for name, kind in kinds.items()}
    values = ", ".join(f"CAST({name} AS {kind})" for name, kind in kinds.items())
    connection.register("incoming", pd.DataFrame(columns, copy=False))
    connection.execute(f"INSERT INTO {table} ({', '.join(kinds)}) SELECT {values} FROM incoming {conflict}")
    connection.unregister("incoming")


def _column(values: Sequence[Any], kind: str) -> Any:
    """A column of a DataFrame that has its type: DuckDB would guess that of objects from a few rows."""
    import numpy as np
    import pandas as pd

    if kind == "TIMESTAMP":
        return np.array(values, dtype="datetime64[us]")
    if kind == "DOUBLE[]":
        lists = np.empty(len(values), dtype=object)
        lists[:] = [np.asarray(one, dtype=np.float64) for one in values]
        return lists
    plain = {"DOUBLE": "Float64", "BIGINT": "Int64", "INTEGER": "Int32", "BOOLEAN": "boolean"}
    return pd.array(list(values), dtype=plain.get(kind) or pd.StringDtype("python"))


def first_of(rows: Iterable[Row], *key: str) -> list[Row]:
    """Of rows that agree in the columns ``key`` the first."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in key), row)
    return list(found.values())


def environment_row(content: Mapping[str, Any]) -> Row:
    """An environment as a row of ``environments``, under its identifier."""
    return {"environment_id": environment_id(content), "content": canonical_json(dict(content))}


def insert_environments(connection: DuckDBPyConnection, contents: Iterable[Mapping[str, Any]]) -> None:
    """Append environments under their identifiers."""
    insert(connection, "environments", first_of(map(environment_row, contents), "environment_id"))


@final
class Entry(NamedTuple):
    """A result as a row of ``results`` and its rows of ``measurements``."""

    row: Row
    measurements: list[Row]

    @classmethod
    def of(cls, result: Result) -> "Entry":
        """The rows of a validated result."""
        row = _result_row(result)
        return cls(row, [_measurement_row(row["result_id"], *one) for one in result.measurements.items()])


@final
class Batch:
    """Results that are written together, made before the registry is opened; of one that is there twice the first."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self._entries.setdefault(entry.row["result_id"], entry)

    def absent(self, connection: DuckDBPyConnection) -> list[str]:
        """Identifiers of those that are not there yet."""
        query = "SELECT result_id FROM results WHERE result_id IN (SELECT unnest($1::VARCHAR[]))"
        present = {found for (found,) in connection.execute(query, [list(self._entries)]).fetchall()}
        return [name for name in self._entries if name not in present]

    def insert(self, connection: DuckDBPyConnection) -> int:
        """Append what is not there yet; returns how many results that were."""
        new = [self._entries[name] for name in self.absent(connection)]
        insert(connection, "results", [entry.row for entry in new], conflict="")
        insert(connection, "measurements", [row for entry in new for row in entry.measurements], conflict="")
        return len(new)

    def satisfy(self, connection: DuckDBPyConnection) -> None:
        """Enter the results where their runs wait for them."""
        names = ("run_id", "cell_id", "result_id")
        rows = [entry.row for entry in self._entries.values()]
        connection.execute(_SATISFY, [[row[name] for row in rows] for name in names])


def _measurement_row(result_id: str, name: str, measured: Measurement) -> Row:
    return {
        "result_id": result_id,
        "name": name,
        "value": measured.value,
        "unit": measured.unit,
        "n": measured.n,
        "timing": measured.timing,
        "samples": array("d", measured.samples),
    }


def _result_row(result: Result) -> Row:
    cell, dumped = result.cell, result.cell.model_dump(mode="json")
    row = {name: getattr(result, name) for name in _PLAIN}
    row |= {name: getattr(cell, name) for name in ("track", "track_version", "target", "seed")}
    row |= _component("quantizer", "parameters", dumped["quantizer"])
    for kind in ("model", "dataset", "optimizer"):
        row |= _component(kind, f"{kind}_parameters", dumped[kind])
    row |= {"result_id": result.result_id, "cell_id": cell.cell_id, "status": str(result.status)}
    row |= {"started": utc(result.started), "budget": canonical_json(cell.budget)}
    return row | {"facts": canonical_json(result.facts), "cell": canonical_json(dumped)}


def _component(name: str, parameters: str, spec: Mapping[str, Any] | None) -> Row:
    given = spec or {"name": None, "parameters": {}}
    return {name: given["name"], parameters: canonical_json(given["parameters"])}


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
