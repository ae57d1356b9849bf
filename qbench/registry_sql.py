"""What is asked of a registry: free SQL, flat records, one result, and what a resumed run goes by."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final

import duckdb
from duckdb import DuckDBPyConnection, DuckDBPyRelation

from .attempts import counting
from .errors import RegistryError
from .registry_rows import Row, fetch, to_result
from .schema import Result, Status
from .selection import Selection

if TYPE_CHECKING:
    import pandas as pd

FLAT = (
    *("result_id", "cell_id", "run_id", "suite", "digest", "track", "quantizer", "parameters"),
    *("model", "dataset", "optimizer", "seed", "target", "device", "status", "error", "metrics"),
)
# A reused result belongs to several runs: these terms choose the run before the attempt that counts is looked for.
_OF_RUNS = ("run_id", "suite", "digest")

_RESULTS = """
    WITH chosen AS (SELECT * FROM ({counting}) WHERE {rest})
    SELECT chosen.*, names, found
    FROM chosen LEFT JOIN (
        SELECT result_id, list(name) AS names, list({{'value': value, 'unit': unit, 'n': n}}) AS found
        FROM measurements WHERE result_id IN (SELECT result_id FROM chosen) GROUP BY result_id
    ) AS m ON m.result_id = chosen.result_id
    ORDER BY chosen.started, chosen.result_id
"""
_ATTEMPTS = """
    SELECT r.cell_id, r.fingerprint, r.device_kind, r.result_id, r.status, r.attempt
    FROM results AS r SEMI JOIN (
        SELECT unnest($1::VARCHAR[]) AS cell_id, unnest($2::VARCHAR[]) AS fingerprint,
               unnest($3::VARCHAR[]) AS device_kind
    ) AS k ON r.cell_id = k.cell_id AND r.fingerprint = k.fingerprint AND r.device_kind = k.device_kind
    ORDER BY r.attempt
"""


class Key(NamedTuple):
    """What a result is reused by: the cell, the code and the kind of device."""

    cell_id: str
    fingerprint: str
    device_kind: str


@final
@dataclass(frozen=True)
class Known:
    """The last success under a key, or the last failure where none is; the last attempt's number.

    Which attempt counts (:mod:`qbench.attempts`) is another question.
    """

    result_id: str
    status: Status
    attempt: int


@final
class Rows:
    """The answer to a query: a table of its own that later writes do not change."""

    def __init__(self, connection: DuckDBPyConnection, relation: DuckDBPyRelation) -> None:
        self._connection, self._relation = connection, relation

    @property
    def columns(self) -> list[str]:
        return list(self._relation.columns)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Every row as a tuple."""
        with _query_errors():
            return list(self._relation.fetchall())

    def df(self) -> "pd.DataFrame":
        """The table as a pandas DataFrame."""
        with _query_errors():
            return self._relation.df()

    def __repr__(self) -> str:
        return repr(self._relation)


@final
class Results:
    """Results as flat records."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def rows(self) -> list[Row]:
        """Dictionaries with ``parameters`` by name and ``metrics`` as name: {value, unit, n}."""
        return self._rows

    def df(self) -> "pd.DataFrame":
        """The plain columns, then one per parameter of the quantizers, then one per metric: its value.

        A name that is taken gets ``parameter_`` or ``metric_`` before it.
        """
        import pandas as pd

        plain = [name for name in FLAT if name not in ("parameters", "metrics")]
        return pd.DataFrame([_wide(row, plain) for row in self._rows], columns=None if self._rows else plain)


def _wide(row: Row, plain: Sequence[str]) -> Row:
    wide = {name: row[name] for name in plain}
    values = {name: metric["value"] for name, metric in row["metrics"].items()}
    wide |= {
        f"parameter_{name}" if name in plain else name: value for name, value in row["parameters"].items()
    }
    taken = {*plain, *row["parameters"]}
    return wide | {f"metric_{name}" if name in taken else name: value for name, value in values.items()}


def ask(
    connection: DuckDBPyConnection, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None
) -> Rows:
    """The answer to one SELECT."""
    with _query_errors():
        relation = connection.sql(query, params=parameters)
    if relation is None:
        raise RegistryError(f"the query {query[:80]!r} returns no table; the registry is read with SELECT")
    return Rows(connection, relation)


@contextlib.contextmanager
def _query_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise RegistryError(f"query: {error}") from None


def find_results(
    connection: DuckDBPyConnection, where: str | Iterable[str] | Selection, *, all_attempts: bool
) -> Results:
    """Flat records of the attempts that a selection meets: of each cell the one that counts, or all."""
    selection = where if isinstance(where, Selection) else _selection(connection, where)
    runs, runs_values = selection.only(_OF_RUNS).sql()
    rest, rest_values = selection.without(_OF_RUNS).sql()
    each = "result_id" if all_attempts else "cell_id"
    query = _RESULTS.format(counting=counting(runs, [each]), rest=rest)
    return Results([_flat(row) for row in fetch(connection, query, [*runs_values, *rest_values])])


def _selection(connection: DuckDBPyConnection, where: str | Iterable[str]) -> Selection:
    rows = fetch(connection, "SELECT DISTINCT unnest(json_keys(parameters)) AS name FROM results")
    # A registry without results knows no parameter, which makes none of them wrong.
    return Selection.parse(where, {row["name"] for row in rows} or None)


def _flat(row: Row) -> Row:
    metrics = zip(row["names"] or (), row["found"] or (), strict=True)
    row |= {"parameters": json.loads(row["parameters"]), "metrics": dict(sorted(metrics))}
    return {name: row[name] for name in FLAT}


def find_result(connection: DuckDBPyConnection, prefix: str) -> Result:
    """The one result whose identifier begins with ``prefix``."""
    query = "SELECT * FROM results WHERE starts_with(result_id, ?) ORDER BY result_id LIMIT 4"
    rows = fetch(connection, query, [prefix.lower()]) if prefix else []
    if not rows:
        raise RegistryError(f"no result {prefix!r} in this registry; `qbench results` lists them")
    if len(rows) > 1:
        names = ", ".join(row["result_id"] for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
        raise RegistryError(f"result {prefix!r} is ambiguous: {names}; give more of it")
    measured = fetch(connection, "SELECT * FROM measurements WHERE result_id = ?", [rows[0]["result_id"]])
    return to_result(rows[0], measured)


def find_latest(connection: DuckDBPyConnection, keys: Sequence[tuple[str, str, str]]) -> dict[Key, Known]:
    """What is known under each of ``keys``, for those under which anything is."""
    found: dict[Key, Known] = {}
    for row in fetch(connection, _ATTEMPTS, [list(column) for column in zip(*keys)]):
        key = Key(row["cell_id"], row["fingerprint"], row["device_kind"])
        known = Known(row["result_id"], Status(row["status"]), row["attempt"])
        before = found.get(key)
        if before and before.status is Status.OK and known.status is not Status.OK:
            known = Known(before.result_id, before.status, known.attempt)
        found[key] = known
    return found
