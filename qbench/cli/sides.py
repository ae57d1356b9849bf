"""What ``qbench compare`` can hold against each other: a registry, a Parquet file, a run of a registry."""

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from .. import api
from ..errors import RegistryError
from ..records import Record, gather
from ..registry import Registry
from ..selection import Selection
from ..unmet import Slip, slips

_RUN_ID = re.compile(r"\d{1,8}(T[0-9a-f-]{0,15})?")  # its beginning
_RUNS = "SELECT run_id FROM runs WHERE starts_with(run_id, ?) ORDER BY run_id DESC"


@final
@dataclass(frozen=True)
class Side:
    """A set of results and what it was named; ``slips`` are the terms that none of them meets."""

    name: str
    records: dict[tuple[str, str], Record]
    environments: dict[str, dict[str, Any]]
    rejected: int = 0
    reason: str | None = None
    slips: Sequence[Slip] = ()


def side(named: str, registry: Path | None, where: Sequence[str]) -> Side:
    """The results of a file, or of the run whose identifier begins so.

    Raises:
        RegistryError: no such file or run, several runs, or nothing of use in it.
    """
    path = Path(named).expanduser()
    if not path.exists():
        return _of_run(named, registry, where)
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        if not _is_parquet(path):
            return _of_registry(path.name, Registry(path), where)
        taken = Registry(Path(folder) / "taken.duckdb")
        merged = taken.merge(path)
        if not merged.added:
            raise RegistryError(f"no result in {path} can be read: {merged.reason or 'it is empty'}")
        found = _of_registry(path.name, taken, where)
        return replace(found, rejected=merged.rejected, reason=merged.reason)


def _is_parquet(path: Path) -> bool:
    if path.is_dir():
        raise RegistryError(f"{path} is a folder; name a registry or a Parquet file in it")
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _of_run(named: str, registry: Path | None, where: Sequence[str]) -> Side:
    if not _RUN_ID.fullmatch(named):
        raise RegistryError(f"there is no file {named!r}; name a registry, a Parquet file, or a run's id")
    held = api.open_registry(registry)
    runs = [run_id for (run_id,) in held.sql(_RUNS, [named]).fetchall()]
    if not runs:
        raise RegistryError(
            f"{named!r} is no file, and no run of registry {held.path} has an id that begins so"
        )
    if len(runs) > 1:
        raise RegistryError(f"run {named!r} is ambiguous: {', '.join(runs[:3])}; give more of it")
    return _of_registry(f"run {runs[0]}", held, where, [f"run_id={runs[0]}"])


def _of_registry(name: str, held: Registry, where: Sequence[str], run: Sequence[str] = ()) -> Side:
    records, unmet = gather(held, [*where, *run]), slips(held, where, Selection.parse(run))
    ids = [one for one, _ in Counter(record.environment_id for record in records.values()).most_common()]
    known = {one for (one,) in held.sql("SELECT environment_id FROM environments").fetchall()}
    environments = {one: held.environment(one) for one in ids if one in known}
    return Side(name, records, environments, slips=unmet)
