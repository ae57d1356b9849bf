"""One DuckDB file: it appears whole, is written in short transactions, and is read from private copies.

DuckDB lets one process write and refuses readers meanwhile, so nobody here keeps the file open: a writer
opens it, appends, commits and closes; a reader copies it while no writer is in it and queries the copy for as
long as it likes. No connection loads extensions or reaches any other file, and none can be told to.

DuckDB reads where everything is in a file before it locks the file, so one that waits for a writer to end may
go by what that writer has replaced since, and write over it. Hence writers take turns by a lock of their own,
on the empty file ``<registry>.lock``, which stays; it is free again when its holder dies. Readers need no
permission to make one: a connection is used only if the file is still as it was before it was opened.
"""

import contextlib
import errno
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import duckdb
from duckdb import DuckDBPyConnection
from filelock import FileLock, Timeout

from .errors import RegistryError
from .migrations import MIGRATIONS, migrate, schema_version

WAIT = 30.0
# What a DuckDB that was killed may leave beside the file; the next one to open the file needs it.
LOGS = (".wal", ".wal.checkpoint", ".wal.recovery")
NO_EXTENSIONS: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
CLOSED: dict[str, Any] = {"enable_external_access": False}
# Files are written so that every DuckDB from 1.4 on opens them.
WRITING = CLOSED | {"storage_compatibility_version": "v1.4.0"}
# A file that changes whenever it is opened is changed by opening it: its log is played back.
TRIES = 4

_jitter = random.SystemRandom()
_locks: dict[Path, threading.RLock] = {}
_locks_lock = threading.Lock()


class BusyError(RegistryError):
    """Somebody else held the file for as long as the caller was ready to wait."""


@final
class RegistryFile:
    """The file at ``path``, which need not exist yet."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self._copy: DuckDBPyConnection | None = None
        self._copied: object = None

    def reader(self, wait: float = WAIT) -> DuckDBPyConnection:
        """A connection to a private copy of the file as it is now; the copy is shared until the file changes.

        Raises:
            RegistryError: no such file, not a registry, a newer one, damaged, or busy for ``wait`` seconds.
        """
        with alone(self.path, wait):
            self._require_file()
            state = _state(self.path)
            if self._copy is None or self._copied != state:
                self._copy, self._copied = self.copy(wait), state
            return self._copy.cursor()

    def copy(
        self, wait: float = WAIT, allowed: Path | None = None, memory: str | None = None
    ) -> DuckDBPyConnection:
        """A connection to a new private copy, which may besides write to the file or into the folder ``allowed``.

        It takes about ``memory``, such as ``"1GB"``; by default four fifths of the machine's.

        Raises:
            RegistryError: as :meth:`reader`.
        """
        with alone(self.path, wait):
            self._require_file()
            return self._take_copy(wait, allowed, memory)

    @contextlib.contextmanager
    def transaction(self, wait: float = WAIT) -> Iterator[DuckDBPyConnection]:
        """A writing connection in a transaction, committed at the end of the block, undone by an exception.

        Raises:
            BusyError: the file was held by others for ``wait`` seconds.
            RegistryError: the file cannot be created, opened or written; what was in it before still is.
        """
        self._require_place()
        with alone(self.path, wait), _turn(self.path, wait):
            with explained(self.path):
                if not self.path.exists():
                    self._create()
            self._require_file()
            connection = _connect(self.path, wait, config=WRITING)
            try:
                version = _version(self.path, connection)
                with explained(self.path):
                    connection.begin()
                    migrate(connection, version)
                    yield connection
                    connection.commit()
            finally:
                with contextlib.suppress(duckdb.Error):
                    connection.close()

    def _require_place(self) -> None:
        with explained(self.path):
            if self.path.is_dir():
                raise RegistryError(f"registry {self.path} is a folder; name a file in it")
            if not (folder := self.path.parent).is_dir():
                raise RegistryError(
                    f"cannot create registry {self.path}: there is no folder {folder}; make it first"
                )

    def _require_file(self) -> None:
        with explained(self.path):
            if self.path.is_dir():
                raise RegistryError(f"registry {self.path} is a folder; name a file in it")
            if not self.path.exists():
                raise RegistryError(
                    f"no registry at {self.path}: run `qbench run` to make one, "
                    "or name another with --registry or $QBENCH_REGISTRY"
                )

    def _create(self) -> None:
        """Build the file beside its place and move it there, so that nobody ever sees a part of it."""
        prefix = f".{self.path.name}."
        with (
            explained(self.path),
            tempfile.TemporaryDirectory(prefix=prefix, dir=self.path.parent) as building,
        ):
            new = Path(building) / "new.duckdb"
            _upgrade(new, 0)
            _place(new, self.path)

    def _take_copy(self, wait: float, allowed: Path | None, memory: str | None) -> DuckDBPyConnection:
        problem = ""
        for folder in _scratch_folders():
            try:
                with (
                    tempfile.TemporaryDirectory(prefix="qbench-", dir=folder) as private,
                    # Anew for each folder: a copy that failed has given up the lock, see _open_copy.
                    contextlib.closing(_connect(self.path, wait, read_only=True, config=CLOSED)) as holder,
                ):
                    version = _version(self.path, holder)
                    return _open_copy(self.path, Path(private) / "copy.duckdb", version, allowed, memory)
            except OSError as error:
                problem = f"{folder}: {error.strerror}"
        raise RegistryError(
            f"cannot copy registry {self.path} to read it ({problem}); set TMPDIR to another folder"
        )


def restrict(connection: DuckDBPyConnection, allowed: Path) -> None:
    """Let the connection reach the file ``allowed``, or what is in the folder of that name, and no other, for good."""
    if allowed.is_dir():
        connection.execute("SET allowed_directories = [$1]", [str(allowed)])
        connection.execute("SET temp_directory = $1", [f"{allowed}/spilled"])
    else:
        connection.execute("SET allowed_paths = [$1]", [str(allowed)])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _open_copy(
    source: Path, copy: Path, version: int, allowed: Path | None, memory: str | None
) -> DuckDBPyConnection:
    # The file last: closing our own descriptor of it gives up this process's lock on it (POSIX).
    for suffix in (*LOGS, ""):
        if Path(f"{source}{suffix}").exists():
            shutil.copyfile(f"{source}{suffix}", f"{copy}{suffix}")
    if version < len(MIGRATIONS):
        _upgrade(copy, version)
    # An open file outlives its name: the copy leaves the disk with its last reader.
    limit = {} if memory is None else {"memory_limit": memory}
    connection = _connect(copy, 0, read_only=True, config=limit | (CLOSED if allowed is None else {}))
    if allowed is not None:
        restrict(connection, allowed)
    return connection


def _upgrade(path: Path, version: int) -> None:
    with contextlib.closing(duckdb.connect(str(path), config=NO_EXTENSIONS | WRITING)) as connection:
        connection.begin()
        migrate(connection, version)
        connection.commit()


def _version(path: Path, connection: DuckDBPyConnection) -> int:
    with explained(path):
        try:
            return schema_version(connection)
        except RegistryError as error:
            raise RegistryError(f"registry {path} {error}") from None


def _place(new: Path, path: Path) -> None:
    """Give a finished file its name, unless somebody was faster."""
    try:
        os.link(new, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not path.exists():
            os.rename(new, path)


def _scratch_folders() -> list[str]:
    memory = "/dev/shm"
    return [tempfile.gettempdir(), *([memory] if os.path.isdir(memory) else [])]


def _state(path: Path) -> object:
    """Changes when the file or a log of it does."""
    found = []
    for name in (path, *(Path(f"{path}{suffix}") for suffix in LOGS)):
        with contextlib.suppress(FileNotFoundError):
            status = name.stat()
            found.append((str(name), status.st_ino, status.st_mtime_ns, status.st_size))
    return found


@contextlib.contextmanager
def alone(path: Path, wait: float) -> Iterator[None]:
    """One thread of this process at a time: DuckDB's lock on a file only keeps other processes out."""
    with _locks_lock:
        lock = _locks.setdefault(path.resolve(), threading.RLock())
    if not lock.acquire(timeout=max(wait, 0.001)):
        raise BusyError(_busy(path, wait))
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _turn(path: Path, wait: float) -> Iterator[None]:
    """One writer among all processes, from before DuckDB first looks into the file until it has closed it."""
    lock = FileLock(f"{path.resolve()}.lock")
    try:
        lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise BusyError(_busy(path, wait)) from None
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise RegistryError(_unwritable(path) if denied else _explain(path, error)) from None
    try:
        yield
    finally:
        lock.release()


def _connect(
    path: Path, wait: float, *, config: dict[str, Any], read_only: bool = False
) -> DuckDBPyConnection:
    give_up, opened = time.monotonic() + wait, 0
    while True:
        before = _state(path)
        try:
            connection = duckdb.connect(str(path), read_only=read_only, config=NO_EXTENSIONS | config)
            settle(connection, closed="enable_external_access" in config)
        except duckdb.Error as error:
            opened += not _is_lock(error)
            if not _is_lock(error) and (opened == TRIES or _state(path) == before):
                raise RegistryError(_explain(path, error)) from None
        else:
            opened += 1
            if opened == TRIES or _state(path) == before:
                return connection
            connection.close()
        if time.monotonic() >= give_up:
            raise BusyError(_busy(path, wait))
        time.sleep(_jitter.uniform(0.005, 0.03))


def settle(connection: DuckDBPyConnection, *, closed: bool) -> None:
    """Write nothing to stdout, whatever takes long; cursors inherit that. A closed connection stays as it is."""
    connection.execute("SET enable_progress_bar = false")
    if closed:
        connection.execute("SET lock_configuration = true")


def _is_lock(error: duckdb.Error) -> bool:
    text = str(error)
    return "Could not set lock" in text or "different configuration than existing connections" in text


def _busy(path: Path, wait: float) -> str:
    return (
        f"registry {path} was held by another process, or by another connection in this one, "
        f"for {wait:.0f} s; close that one, or name another registry"
    )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the database and of the disk in one line that names the file."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise RegistryError(_explain(path, error)) from None


def _unwritable(path: Path) -> str:
    return (
        f"cannot write registry {path}: no permission for the folder {path.resolve().parent} or a file of the registry "
        "in it; make both writable, or name a registry elsewhere with --registry"
    )


def _explain(path: Path, error: Exception) -> str:
    reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
    lower = reason.lower()
    if "not a valid duckdb" in lower:
        return f"registry {path} is not a DuckDB file; move it away or name another with --registry"
    if "permission denied" in lower or "read-only file system" in lower:
        return f"no permission for {path}; make it readable and writable, or name another file"
    if "no space left" in lower or "disk quota" in lower:
        return f"the disk of {path} is full; what was written before is safe. Free some space and run again"
    return f"{path}: {reason}"
