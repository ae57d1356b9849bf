"""Results in and out: one Parquet file with a row per result, or another registry.

A row carries everything that is known of a result: the columns of table ``results``, its measurements with
their samples, its environment, and the runs it belongs to. What comes in is validated row by row as if a
stranger had written it; identifiers are computed anew and have to agree.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import duckdb
from duckdb import DuckDBPyConnection
from pydantic import BeforeValidator, Field, ValidationError

from .environment import environment_id
from .errors import RegistryError
from .registry_file import NO_EXTENSIONS, WAIT, RegistryFile, alone, explained, restrict
from .registry_rows import Batch, Row, insert, insert_environments, to_result, utc
from .registry_trust import enter_imports
from .schema import Frozen, Result, canonical_json

BATCH = 500
PART = 600_000_000
LITTLE = "1GB"
_PARQUET, _DUCKDB = b"PAR1", b"DUCK"

_EVERYTHING = """
    SELECT r.*, coalesce(m.measurements, []) AS measurements, e.content AS environment, {runs} AS runs
    FROM (SELECT * FROM results WHERE {which}) AS r
    LEFT JOIN environments AS e ON e.environment_id = r.environment_id
    LEFT JOIN (
        SELECT result_id, list_sort(list({{
            'name': name, 'value': value, 'unit': unit, 'n': n, 'timing': timing, 'samples': samples
        }})) AS measurements
        FROM measurements WHERE {which} GROUP BY result_id
    ) AS m ON m.result_id = r.result_id
    {joined}
    ORDER BY r.started, r.result_id
"""
_RUN = """{{
    'run_id': run.run_id, 'suite': run.suite, 'version': run.version, 'arguments': run.arguments,
    'environment': run.content, 'started': run.started, 'finished': run.finished,
    'status': run.status, 'position': c.position, 'digest': c.digest
}}"""
_OF_RUNS = """
    (SELECT * FROM run_cells WHERE {which}) AS c
    JOIN (SELECT runs.*, content FROM runs JOIN environments USING (environment_id)) AS run ON run.run_id = c.run_id
"""
_SEVERAL = {
    "runs": "coalesce(u.runs, [])",
    "joined": f"""LEFT JOIN (
        SELECT c.result_id, list_sort(list({_RUN})) AS runs
        FROM {_OF_RUNS} GROUP BY c.result_id
    ) AS u ON u.result_id = r.result_id""",
}
# The same where no result is in two runs, which takes far less time.
_SINGLE = {
    "runs": "CASE WHEN u.run IS NULL THEN [] ELSE [u.run] END",
    "joined": f"""LEFT JOIN (
        SELECT c.result_id, {_RUN} AS run FROM {_OF_RUNS}
    ) AS u ON u.result_id = r.result_id""",
}
_ARE_SINGLE = "SELECT count(*) = count(DISTINCT result_id) FROM run_cells WHERE result_id IS NOT NULL"
_IN_PART = "result_id IN (SELECT result_id FROM parts WHERE part = {part})"
# What lists of measurements take while they are gathered, in bytes: about so much a result, a measurement, a sample.
_PARTS = """
    CREATE TEMP TABLE parts AS
    SELECT result_id, dense_rank() OVER (ORDER BY place) - 1 AS part
    FROM (
        SELECT result_id, (sum(weight) OVER (ORDER BY started, result_id) - weight) // {size} AS place
        FROM (
            SELECT r.result_id, r.started, 2000 + coalesce(m.weight, 0) AS weight
            FROM results AS r LEFT JOIN (
                SELECT result_id, sum(450 + 16 * len(samples)) AS weight FROM measurements GROUP BY result_id
            ) AS m ON m.result_id = r.result_id
        )
    )
"""

_FIRST_COMES = "DO UPDATE SET result_id = coalesce(result_id, excluded.result_id)"

T = TypeVar("T")
Json = Annotated[dict[str, Any], BeforeValidator(json.loads)]


class Membership(Frozen):
    """A run that a result belongs to, and its place in it."""

    run_id: str = Field(max_length=64)
    suite: str = Field(max_length=256)
    version: str = Field(max_length=64)
    arguments: Json
    environment: Json
    started: datetime
    finished: datetime | None
    status: Literal["running", "finished", "interrupted"]
    position: int = Field(ge=0, lt=2**31)
    digest: str = Field(max_length=64)


@dataclass(frozen=True)
class Incoming:
    """A validated row."""

    result: Result
    environment: dict[str, Any] | None
    runs: list[Membership]


@dataclass(frozen=True)
class Merged:
    """What a merge did: rows added, present before, rejected, and why the first of those was."""

    added: int = 0
    present: int = 0
    rejected: int = 0
    reason: str | None = None

    def __add__(self, other: "Merged") -> "Merged":
        counts = (self.added + other.added, self.present + other.present, self.rejected + other.rejected)
        return Merged(*counts, self.reason or other.reason)


def write_parquet(source: RegistryFile, path: Path) -> int:
    """Write every result to ``path``, which appears whole or not at all; returns how many.

    The same registry makes the same bytes.

    Raises:
        RegistryError: the folder is missing, not writable or full.
    """
    _refuse_unless_free(path)
    with explained(path), tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as building:
        folder = Path(building)
        new, count = with_little_memory(source, folder, lambda connection: _write_parts(connection, folder))
        os.replace(new, path)
    return count


def with_little_memory(source: RegistryFile, folder: Path, work: Callable[[DuckDBPyConnection], T]) -> T:
    """What ``work`` makes of a private copy that may write into ``folder``: in ``LITTLE`` memory, else in all there is.

    Raises:
        duckdb.OutOfMemoryException: that is too little as well.
    """
    with (
        contextlib.suppress(duckdb.OutOfMemoryException),
        contextlib.closing(source.copy(allowed=folder, memory=LITTLE)) as connection,
    ):
        return work(connection)
    with contextlib.closing(source.copy(allowed=folder)) as connection:
        return work(connection)


def _write_parts(connection: DuckDBPyConnection, building: Path) -> tuple[Path, int]:
    """Parts of results as files, made one file in the end: one part at a time fits into memory, all may not.

    Returns:
        That file, and the number of results.
    """
    count = parts(connection)
    everything = _everything(connection)
    for part in range(count):
        query = everything(_IN_PART.format(part=part))
        connection.sql(query).write_parquet(
            f"{building}/{part:06d}.parquet", compression="snappy" if count > 1 else "zstd"
        )
    if count > 1:
        together = f"SELECT * FROM read_parquet('{building}/[0-9]*.parquet')"
        connection.sql(together).write_parquet(f"{building}/whole.parquet", compression="zstd")
    ((results,),) = connection.execute("SELECT count(*) FROM results").fetchall()
    return building / ("whole.parquet" if count > 1 else "000000.parquet"), int(results)


def _everything(connection: DuckDBPyConnection) -> Callable[[str], str]:
    """Of a condition on ``result_id`` the query of all that is known of the results that meet it."""
    ((single,),) = connection.execute(_ARE_SINGLE).fetchall()
    shape = _SINGLE if single else _SEVERAL
    return lambda which: _EVERYTHING.format(
        which=which, **{name: text.format(which=which) for name, text in shape.items()}
    )


def parts(connection: DuckDBPyConnection, size: int = PART) -> int:
    """Make the table ``parts`` (result_id, part) in the order of time; returns how many there are, at least one.

    Args:
        size: about how many bytes of memory a part may take.
    """
    connection.execute(_PARTS.format(size=size))
    ((count,),) = connection.execute("SELECT coalesce(max(part), 0) + 1 FROM parts").fetchall()
    return int(count)


def _refuse_unless_free(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise RegistryError(f"cannot export to {path}: name a file in a folder that exists")
    if path.exists() and _beginning(path)[:4] != _PARQUET:
        raise RegistryError(f"cannot export to {path}: it exists and is no Parquet file; name another")


def merge_file(target: RegistryFile, path: Path, source: str | None = None) -> Merged:
    """Take over the rows of a Parquet file or a registry, in batches; what is new is noted as from ``source``.

    Raises:
        RegistryError: the file is neither, or ``target`` cannot be written.
    """
    merged = Merged()
    for rows in _batches(path):
        good: list[Incoming] = []
        for row in rows:
            try:
                good.append(_validated(row))
            except (ValueError, TypeError, KeyError, RecursionError, OverflowError, AttributeError) as error:
                merged += Merged(rejected=1, reason=_first_line(row, error))
        added = _append(target, good, source or path.name)
        merged += Merged(added=added, present=len(good) - added)
    return merged


def _batches(path: Path) -> Iterator[list[Row]]:
    connection, query, parameters = _source(path)
    with explained(path):
        found = connection.execute(query, parameters)
        names = [column[0] for column in found.description or ()]
        while rows := found.fetchmany(BATCH):
            yield [dict(zip(names, row, strict=True)) for row in rows]


def _source(path: Path) -> tuple[DuckDBPyConnection, str, list[str]]:
    """A connection to what is at ``path``, and the query that gives its rows."""
    start = _beginning(path)
    if start[8:] == _DUCKDB:
        connection = RegistryFile(path).reader()
        return connection, _everything(connection)("true"), []
    if start[:4] != _PARQUET:
        raise RegistryError(
            f"cannot merge {path}: neither a Parquet file nor a registry; see `qbench export`"
        )
    connection = duckdb.connect(":memory:", config=NO_EXTENSIONS)
    restrict(connection, path)
    return connection, "SELECT * FROM read_parquet(?)", [str(path)]


def _beginning(path: Path) -> bytes:
    # Closing a file gives up this process's locks on it, so nobody here may be writing it.
    with alone(path, WAIT), explained(path), path.open("rb") as file:
        return file.read(12)


def _validated(row: Row) -> Incoming:
    result = to_result(row, row["measurements"])
    if row["result_id"] != result.result_id:
        raise ValueError(f"its result_id {row['result_id']} is not that of its contents, {result.result_id}")
    environment = None if row.get("environment") is None else json.loads(row["environment"])
    if environment is not None and environment_id(environment) != result.environment_id:
        raise ValueError(f"its environment is not the one it names, {result.environment_id}")
    runs = [Membership.model_validate(run) for run in row.get("runs") or ()]
    return Incoming(result, environment, runs)


def _first_line(row: Row, error: Exception) -> str:
    text = f"lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        text = f"{'.'.join(map(str, problem['loc'])) or 'row'}: {problem['msg']}"
    return f"result {str(row.get('result_id'))[:64]!r}: {' '.join(text.split())[:300]}"


def _append(target: RegistryFile, incoming: Sequence[Incoming], source: str) -> int:
    if not incoming:
        return 0
    contents = [one.environment for one in incoming if one.environment is not None]
    contents += [run.environment for one in incoming for run in one.runs]
    runs = {run.run_id: _run_row(run) for one in incoming for run in one.runs}
    places = [_place_row(one.result, run) for one in incoming for run in one.runs]
    batch = Batch(one.result for one in incoming)
    with target.transaction() as connection:
        insert_environments(connection, contents)
        insert(connection, "runs", list(runs.values()))
        enter_imports(connection, (row["result_id"] for row in batch.results), source)
        added = batch.insert(connection)
        insert(connection, "run_cells", places, _FIRST_COMES)
    return added


def _run_row(run: Membership) -> Row:
    times = {"started": utc(run.started), "finished": utc(run.finished) if run.finished else None}
    row = run.model_dump(include={"run_id", "suite", "version", "status"}) | times
    return row | {
        "arguments": canonical_json(run.arguments),
        "environment_id": environment_id(run.environment),
    }


def _place_row(result: Result, run: Membership) -> Row:
    place = run.model_dump(include={"run_id", "position", "suite", "digest"})
    return place | {"cell_id": result.cell_id, "track": result.cell.track, "result_id": result.result_id}
