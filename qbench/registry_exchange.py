"""Results in and out: one Parquet file with a row per result, or another registry.

A row carries everything that is known of a result: the columns of table ``results``, its measurements with
their samples, its environment, and the runs it belongs to. What comes in is validated row by row as if a
stranger had written it; identifiers are computed anew and have to agree.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb
from duckdb import DuckDBPyConnection

from .errors import RegistryError
from .registry_file import NO_EXTENSIONS, WAIT, RegistryFile, alone, explained, restrict, settle
from .registry_incoming import NOT_VALID, Incoming, Validator, fault
from .registry_rows import Batch, Row, first_of, insert
from .registry_trust import enter_imports

# Rows that are read at a time, and that are written at a time: each time has the price of opening the registry.
PORTION, BATCH = 500, 5000
# What rows that wait to be written may hold, in bytes.
HELD = 200_000_000
PART = 600_000_000
LITTLE = "1GB"
_PARQUET, _DUCKDB = b"PAR1", b"DUCK"
_SUFFIXES = (".parquet", ".pq")

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

_FIRST_COMES = "ON CONFLICT DO UPDATE SET result_id = excluded.result_id WHERE run_cells.result_id IS NULL"

T = TypeVar("T")


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
        RegistryError: the folder is missing, not writable or full, or ``path`` names another format.
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
    if path.suffix[1:2].isalpha() and path.suffix.lower() not in _SUFFIXES:
        raise RegistryError(
            f"cannot export to {path}: export writes Parquet; name a file that ends in .parquet, "
            "and for CSV see `qbench table` and `qbench leaderboard build`"
        )
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
    for incoming, rejected in _written_together(path):
        merged += rejected + _append(target, incoming, source or path.name)
    return merged


def _written_together(path: Path) -> Iterator[tuple[list[Incoming], Merged]]:
    """Valid rows, as many at a time as are written in one transaction, and what was rejected among them."""
    validator, good, rejected, held = Validator(), list[Incoming](), Merged(), 0
    for rows in _portions(path):
        for row in rows:
            try:
                good.append(validator.incoming(row))
                held += good[-1].weight
            except NOT_VALID as error:
                rejected += Merged(rejected=1, reason=fault(row, error))
        if len(good) >= BATCH or held >= HELD:
            yield good, rejected
            good, rejected, held = [], Merged(), 0
    yield good, rejected


def _portions(path: Path) -> Iterator[list[Row]]:
    connection, queries, parameters = _source(path)
    with explained(path):
        for query in queries:
            found = connection.execute(query, parameters)
            names = [column[0] for column in found.description or ()]
            while rows := found.fetchmany(PORTION):
                yield [dict(zip(names, row, strict=True)) for row in rows]


def _source(path: Path) -> tuple[DuckDBPyConnection, Iterable[str], list[str]]:
    """A connection to what is at ``path``, and the queries that give its rows."""
    start = _beginning(path)
    if start[8:] == _DUCKDB:
        connection = RegistryFile(path).reader()
        return connection, _queries(connection), []
    if start[:4] != _PARQUET:
        raise RegistryError(
            f"cannot merge {path}: neither a Parquet file nor a registry; see `qbench export`"
        )
    connection = duckdb.connect(":memory:", config=NO_EXTENSIONS)
    settle(connection, closed=False)
    restrict(connection, path)
    return connection, ["SELECT * FROM read_parquet(?)"], [str(path)]


def _queries(connection: DuckDBPyConnection) -> list[str]:
    """One for each part of results, in the order of time."""
    with_part = _everything(connection)
    return [with_part(_IN_PART.format(part=part)) for part in range(parts(connection))]


def _beginning(path: Path) -> bytes:
    # Closing a file gives up this process's locks on it, so nobody here may be writing it.
    with alone(path, WAIT), explained(path), path.open("rb") as file:
        return file.read(12)


def _append(target: RegistryFile, incoming: Sequence[Incoming], source: str) -> Merged:
    if not incoming:
        return Merged()
    environments = first_of((row for one in incoming for row in one.environments), "environment_id")
    runs = first_of((row for one in incoming for row in one.runs), "run_id")
    places = first_of((row for one in incoming for row in one.places), "run_id", "cell_id")
    batch = Batch(one.entry for one in incoming)
    with target.transaction() as connection:
        insert(connection, "environments", environments)
        insert(connection, "runs", runs)
        enter_imports(connection, batch.absent(connection), source)
        added = batch.insert(connection)
        insert(connection, "run_cells", places, _FIRST_COMES)
    return Merged(added=added, present=len(incoming) - added)
