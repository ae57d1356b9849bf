"""Files of publishers: several addresses, one md5, a name only once they are whole."""

import contextlib
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from ..errors import DataError

SOCKET_TIMEOUT = 10.0  # seconds to connect, and without a byte
LOCK_TIMEOUT = 600.0  # seconds to wait for another process that fetches into the same folder


@dataclass(frozen=True)
class Download:
    """A file that its publisher keeps at ``mirrors`` (addresses of folders, closed by a slash).

    The md5 decides whether a file is whole; ``size`` in bytes is for messages and plans.
    """

    name: str
    md5: str
    size: int
    mirrors: tuple[str, ...]

    def problem(self, path: Path) -> str | None:
        """Why the file at ``path`` is not whole, or None if it is."""
        from torchvision.datasets.utils import calculate_md5

        found = calculate_md5(path)
        if found == self.md5:
            return None
        size = path.stat().st_size
        if size != self.size:
            return f"{path} has {size} bytes, {self.size} expected"
        return f"{path} has md5 {found}, {self.md5} expected"

    def fetch(self, folder: Path) -> Path:
        """Put the file into ``folder`` from the first mirror that has it; a process killed meanwhile leaves a part.

        Raises:
            ConnectionError: no mirror has it; says what each of them did.
        """
        failures = []
        for mirror in self.mirrors:
            failure = self._from_mirror(mirror, folder)
            if failure is None:
                return folder / self.name
            failures.append(f"{mirror}: {failure}")
        raise ConnectionError(f"{self.name} from {'; '.join(failures)}")

    def _from_mirror(self, mirror: str, folder: Path) -> str | None:
        from torchvision.datasets.utils import download_url

        part = folder / f"{self.name}.part"
        try:
            with _quiet(), _socket_timeout(SOCKET_TIMEOUT):
                download_url(mirror + self.name, folder, part.name, self.md5)
            part.replace(folder / self.name)
        except (OSError, RuntimeError, HTTPException, ValueError) as error:
            size = part.stat().st_size if part.exists() else 0
            return f"{one_line(error)} ({size} of {self.size} bytes)"
        finally:
            part.unlink(missing_ok=True)
        return None


@contextlib.contextmanager
def fetching(name: str, folder: Path, by_hand: str) -> Iterator[None]:
    """Make a folder and lock it, while the files of the data set ``name`` are brought there.

    Raises:
        DataError: in place of any OSError inside; ends in what a user can do by hand.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT):
            yield
    except OSError as error:
        raise DataError(f"cannot fetch {name}: {one_line(error)}; {by_hand}") from error


def one_line(error: Exception) -> str:
    """What an exception says, on one line."""
    text = str(error).removeprefix("<urlopen error ").removesuffix(">")
    return " ".join(text.split()).rstrip(".") or type(error).__name__


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow torchvision's progress bars."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
