"""The file of published results: the same bytes for the same rows, and nothing taken from it that is not a row.

What others wrote is sifted before a row of it is looked at: only the columns that this version writes are read,
by their types, and rows too large to be a result are left out. What remains is still a stranger's word and goes
through :meth:`qbench.registry.Registry.merge`, which validates each row with the schema. A column that says how
far the rows can be trusted is one of those that are never read.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from ..errors import RegistryError
from ..registry import Registry
from ..registry_file import NO_EXTENSIONS

FILE = "results.parquet"
MAX_FILE = 2**30  # bytes, packed
MAX_ROW = 8 * 2**20  # characters of a row written out; the largest of real runs have 150,000
_MEMORY = "2GB"
_NAMING = {"result_id", "cell_id", "track", "measurements"}

_SIFTED = "SELECT {columns} FROM read_parquet($1)"
_SORTED = "COPY (SELECT * FROM ({sifted}) WHERE {size} <= {most} ORDER BY {order}) TO '{target}' {form}"
_FORM = "(FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
_ABSENT = """
    SELECT {what} FROM read_parquet($1) AS one
    WHERE hash(one) NOT IN (SELECT hash(known) FROM read_parquet($2) AS known)
"""


@functools.cache
def columns() -> dict[str, str]:
    """Names and types of the columns of a results file of this version; JSON is text."""
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        registry, file = Registry(Path(folder) / "empty.duckdb"), Path(folder) / FILE
        registry.write([])
        registry.export(file)
        with _reading(file) as connection:
            return {
                name: kind.replace("JSON", "VARCHAR") for name, kind in _described(connection, file).items()
            }


def sift(source: Path, target: Path, called: str) -> int:
    """Write what can be rows of results, in one order, with one order inside them; the same rows, the same bytes.

    Args:
        source: a Parquet file by anybody.
        target: the file to be written, itself a file of results.
        called: what to call ``source`` in an error.

    Returns:
        How many rows were left out because they are too large.

    Raises:
        RegistryError: ``source`` is no Parquet file, damaged, or has none of the columns.
    """
    with _explained(called), _reading(source, target) as connection:
        given = _described(connection, source)
        if not given.keys() & columns().keys():
            raise RegistryError(f"{called} holds no results: none of its columns is known")
        sifted = _SIFTED.format(columns=", ".join(_taken(name, given) for name in columns()))
        size = " + ".join(
            f'coalesce(strlen("{name}"::VARCHAR), 0)' for name, kind in columns().items() if _long(kind)
        )
        query = _SORTED.format(
            sifted=sifted,
            size=f"({size})",
            most=MAX_ROW,
            order="started, result_id",
            target=_quoted(target),
            form=_FORM,
        )
        connection.execute(query, [str(source)])
        return _count(connection, source) - _count(connection, target)


def absent(source: Path, known: Path, target: Path) -> int:
    """Write the rows of ``source`` that ``known`` does not have just so; both sifted. Returns how many."""
    with _explained(str(source)), _reading(source, known, target) as connection:
        query = _ABSENT.format(what="*") + " ORDER BY started, result_id"
        connection.execute(f"COPY ({query}) TO '{_quoted(target)}' {_FORM}", [str(source), str(known)])
        return _count(connection, target)


def same(one: Path, other: Path) -> bool:
    """Whether two sifted files hold the same rows, whatever wrote their bytes."""
    with _explained(str(one)), _reading(one, other) as connection:
        found = connection.execute(_ABSENT.format(what="count(*)"), [str(one), str(other)]).fetchone()
        return found == (0,) and _count(connection, one) == _count(connection, other)


def holds_results(path: Path) -> bool:
    """Whether it is a Parquet file with the columns that name a result, its cell and its measurements."""
    try:
        with _reading(path) as connection:
            return _described(connection, path).keys() >= _NAMING
    except duckdb.Error:
        return False


def count(path: Path) -> int:
    """How many rows a Parquet file has."""
    with _explained(str(path)), _reading(path) as connection:
        return _count(connection, path)


def write(registry: Registry, target: Path) -> int:
    """Write every result of a registry, sifted; returns how many.

    Raises:
        RegistryError: the registry cannot be read, or the folder not be written.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-", dir=target.parent) as folder:
        exported = Path(folder) / FILE
        written = registry.export(exported)
        return written - sift(exported, target, str(registry.path))


def _taken(name: str, given: dict[str, str]) -> str:
    kind = columns()[name]
    value = f'TRY_CAST("{name}" AS {kind})' if name in given else f"NULL::{kind}"
    return f'{f"list_sort({value})" if kind.endswith("[]") else value} AS "{name}"'


def _long(kind: str) -> bool:
    return kind == "VARCHAR" or kind.endswith("[]")


def _described(connection: DuckDBPyConnection, path: Path) -> dict[str, str]:
    found = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
    return {str(name): str(kind) for name, kind, *_ in found}


def _count(connection: DuckDBPyConnection, path: Path) -> int:
    found = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    return int(found[0]) if found else 0


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


@contextlib.contextmanager
def _reading(*files: Path) -> Iterator[DuckDBPyConnection]:
    """A connection that reaches these files and no other; one thread, so that it writes in one order."""
    with tempfile.TemporaryDirectory(prefix="qbench-", dir=files[-1].parent) as spill:
        settings: dict[str, Any] = {"threads": 1, "memory_limit": _MEMORY, "temp_directory": spill}
        with contextlib.closing(duckdb.connect(":memory:", config=NO_EXTENSIONS | settings)) as connection:
            connection.execute("SET allowed_paths = $1", [[str(file) for file in files]])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection


@contextlib.contextmanager
def _explained(called: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RegistryError(f"{called} is damaged, or no file of results: {reason}") from None
