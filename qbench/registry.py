"""The registry: one DuckDB file of results, to be asked in SQL.

Tables:

runs
    run_id, suite, version (of qbench), arguments, environment_id, started, finished, status
run_cells
    the cells a run consists of: run_id, position, cell_id, track, suite, digest, and result_id: the result
    that satisfied it, new or reused, NULL while it is pending
results
    an attempt at a cell, named by result_id: cell_id, run_id (that made it), track, track_version, target,
    quantizer, parameters, model, model_parameters, dataset, dataset_parameters, optimizer,
    optimizer_parameters, seed, budget, status, error, attempt, fingerprint (of the code), device_kind (cpu or
    cuda), device, environment_id, facts, baseline_id, baseline_sha256, started, seconds, cell
measurements
    result_id, name, value, unit, n, timing, samples
environments
    environment_id, content
imports
    results that a merge brought: result_id, source (the file's name, or what was said), imported
reproductions
    results that were run again: result_id, again_id (the newer result), environment_id and started (of the newer),
    holds, independent (the older was not measured here, nor in the same environment), details

Views: ``history`` (results in every run they belong to, with suite and digest), ``latest`` (the attempt at each
cell that counts, see :mod:`qbench.attempts`, with ``metrics['name']``), and for each track its successful rows of
``latest`` with the usual metrics as columns: ``rate_distortion``, ``ptq``; ``trust`` (result_id, trust: reproduced or
self-reported, reproductions: how many independent ones hold). Times are UTC. Parameters, budget and facts are JSON:
``parameters->>'$.bits'``.
"""

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final

from duckdb import DuckDBPyConnection

from . import __version__
from .environment import environment_id
from .errors import RegistryError
from .places import registry_path
from .registry_exchange import Merged, merge_file, write_parquet
from .registry_file import WAIT, BusyError, RegistryFile, explained
from .registry_rows import Batch, Entry, Row, insert, insert_environments, utc
from .registry_sql import Key, Known, Results, Rows, ask, find_latest, find_result, find_results
from .registry_trust import Reproduction, Trust, enter_reproduction, imported_from, trust_of
from .schema import Result, canonical_json
from .selection import Selection

__all__ = [
    "Key",
    "Known",
    "Merged",
    "Registry",
    "Reproduction",
    "Results",
    "Rows",
    "RunCell",
    "Trust",
    "open_registry",
]


@final
@dataclass(frozen=True)
class RunCell:
    """A cell that a run consists of; ``result_id`` names the result that is reused for it."""

    cell_id: str
    track: str
    digest: str
    result_id: str | None = None


@final
class Registry:
    """The registry at ``path``. A file that does not exist is made by the first run."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = RegistryFile(path)

    @property
    def path(self) -> Path:
        return self._file.path

    @contextlib.contextmanager
    def _reading(self) -> Iterator[DuckDBPyConnection]:
        connection = self._file.reader()
        with explained(self.path):
            yield connection

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Ask the tables and views that the module's docstring lists.

        Args:
            query: one SELECT; values that come from elsewhere are ``?`` or ``$name``.
            parameters: those values.

        Raises:
            RegistryError: the registry cannot be read, or the query is wrong.
        """
        return ask(self._file.reader(), query, parameters)

    def results(self, where: str | Iterable[str] | Selection | None = None, *, all: bool = False) -> Results:
        """Of each cell the attempt that counts (:mod:`qbench.attempts`), or with ``all`` every attempt, oldest first.

        Args:
            where: terms such as ``track=ptq quantizer=uniform bits=2,4``; see :mod:`qbench.selection`.

        Raises:
            RegistryError: the registry cannot be read.
            SuiteError: an unknown key, or a term that cannot be read.
        """
        with self._reading() as connection:
            return find_results(connection, where or (), all_attempts=all)

    def result(self, id_prefix: str) -> Result:
        """One result with its samples and provenance.

        Raises:
            RegistryError: no result, or more than one, has an identifier that begins so.
        """
        with self._reading() as connection:
            return find_result(connection, id_prefix)

    def environment(self, environment_id: str) -> dict[str, Any]:
        """What a result was measured on.

        Raises:
            RegistryError: the registry knows no such environment.
        """
        with self._reading() as connection:
            query = "SELECT content FROM environments WHERE environment_id = ?"
            found = connection.execute(query, [environment_id]).fetchone()
        if found is None:
            raise RegistryError(f"no environment {environment_id!r} in registry {self.path}")
        content: dict[str, Any] = json.loads(found[0])
        return content

    def latest(self, keys: Iterable[tuple[str, str, str]]) -> dict[Key, Known]:
        """What a resumed run goes by, for each known (cell_id, fingerprint, device_kind).

        A cell is done once an attempt succeeded; a further attempt has the number ``attempt + 1``.

        Raises:
            RegistryError: the registry cannot be read. One that does not exist knows nothing.
        """
        wanted = list(keys)
        with explained(self.path):
            if not wanted or not self.path.exists():
                return {}
        with self._reading() as connection:
            return find_latest(connection, wanted)

    def begin_run(
        self,
        suite: str,
        environment: Mapping[str, Any],
        cells: Iterable[RunCell],
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Write down a run and the cells it consists of; returns its run_id, which sorts by time.

        Raises:
            RegistryError: the file cannot be made or written.
        """
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        run: Row = {"run_id": run_id, "suite": suite, "version": __version__, "status": "running"}
        run |= {"environment_id": environment_id(environment), "started": utc(now)}
        run |= {"arguments": canonical_json(dict(arguments or {}))}
        places = [
            {"run_id": run_id, "position": number, "suite": suite, **vars(cell)}
            for number, cell in enumerate(cells)
        ]
        with self._file.transaction() as connection:
            insert_environments(connection, [environment])
            insert(connection, "runs", [run])
            insert(connection, "run_cells", places)
        return run_id

    def write(self, results: Sequence[Result], wait: float = WAIT) -> bool:
        """Append results of a run that was begun, in one transaction; what is there already stays as it is.

        Args:
            results: validated results.
            wait: seconds to wait while others hold the file; 0 tries once.

        Returns:
            True once everything is on disk; False where others held the file all that time and nothing was
            written.

        Raises:
            RegistryError: the file cannot be written (a full disk, no permission), and nothing was.
        """
        batch = Batch(map(Entry.of, results))
        try:
            with self._file.transaction(wait) as connection:
                batch.insert(connection)
                batch.satisfy(connection)
        except BusyError:
            return False
        return True

    def finish_run(self, run_id: str, status: Literal["finished", "interrupted"] = "finished") -> None:
        """Note when and how a run ended.

        Raises:
            RegistryError: the file cannot be written.
        """
        with self._file.transaction() as connection:
            query = "UPDATE runs SET finished = ?, status = ? WHERE run_id = ?"
            connection.execute(query, [utc(datetime.now(UTC)), status, run_id])

    def export(self, path: str | PathLike[str]) -> int:
        """Write every result with samples, environment and runs to a Parquet file; returns how many.

        Raises:
            RegistryError: the registry cannot be read, or the file cannot be written.
        """
        return write_parquet(self._file, Path(path).expanduser().absolute())

    def merge(
        self, paths: str | PathLike[str] | Iterable[str | PathLike[str]], source: str | None = None
    ) -> Merged:
        """Take over results from Parquet files or registries; what is here already stays as it is.

        Every row is validated; a bad one is counted, harms nothing, and the first one's fault is told.

        Args:
            paths: one file or several.
            source: where they come from, in words; default each file's name.

        Raises:
            RegistryError: a file is neither, or the registry cannot be written.
        """
        several = [paths] if isinstance(paths, str | PathLike) else paths
        files = [Path(path).expanduser().absolute() for path in several]
        return sum((merge_file(self._file, path, source) for path in files), Merged())

    def imported(self, result_id: str) -> str | None:
        """Where a result was merged from; None where it was measured here.

        Raises:
            RegistryError: the registry cannot be read.
        """
        with self._reading() as connection:
            return imported_from(connection, result_id)

    def trust(self, result_ids: Iterable[str] | None = None) -> dict[str, Trust]:
        """``reproduced`` or ``self-reported`` by identifier; see :mod:`qbench.registry_trust`.

        Args:
            result_ids: whole identifiers; default all results.

        Raises:
            RegistryError: the registry cannot be read.
        """
        with self._reading() as connection:
            return trust_of(connection, None if result_ids is None else list(result_ids))

    def add_reproduction(self, found: Reproduction) -> None:
        """Write down that a result was run again, and whether it holds.

        Raises:
            RegistryError: the file cannot be written.
        """
        with self._file.transaction() as connection:
            enter_reproduction(connection, found)

    def adopt_reproductions(self, own: "Registry") -> None:
        """Take over what another registry of one's own says about results that were run again.

        Raises:
            RegistryError: one cannot be read, or the other cannot be written.
        """
        found = own.sql("SELECT * FROM reproductions")
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        with self._file.transaction() as connection:
            insert(connection, "reproductions", rows)


def open_registry(path: str | PathLike[str] | None = None) -> Registry:
    """The registry at ``path``; default ``$QBENCH_REGISTRY``, else ``qbench.duckdb`` in the working folder.

    Raises:
        RegistryError: there is none, or it cannot be read by this version.
    """
    registry = Registry(registry_path() if path is None else path)
    registry.sql("SELECT 1")
    return registry
