"""Data sets of the MNIST family: four IDX files, read and fetched through torchvision's classes.

The files lie where torchvision keeps them, ``<root>/<folder>/raw/``, packed (``*.gz``) or unpacked. A packed
file is whole when its md5 is the one torchvision states, an unpacked one when header and length are right.
Reading never writes there: torchvision gets a temporary folder of links, with packed files unpacked into it.
"""

import contextlib
import io
import socket
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import torch
from filelock import FileLock
from torch import Tensor

from ..components import ImageData, Images
from ..errors import DataError
from ..places import DATA_VARIABLE
from .idx import FILES, IdxFile

SOCKET_TIMEOUT = 10.0  # seconds to connect, and without a byte
LOCK_TIMEOUT = 600.0  # seconds to wait for another process that fetches into the same folder
CLASSES = 10


class TorchvisionMnist(Images):
    """Base of MNIST and its twins: 60,000 and 10,000 pictures of [1, 28, 28] in ten classes.

    Class attributes:
        folder: torchvision's folder below the root.
        packed_bytes: sizes of the packed files, in the order of ``FILES``.
    """

    folder: ClassVar[str]
    packed_bytes: ClassVar[tuple[int, int, int, int]]

    @abstractmethod
    def source(self) -> Any:
        """torchvision's class, imported when asked for: it states mirrors and md5s and reads the files."""

    def missing(self, root: Path) -> str | None:
        try:
            for file in FILES:
                self._find(root, file)
        except DataError as error:
            return str(error)
        return None

    def load(self, root: Path) -> ImageData:
        try:
            with tempfile.TemporaryDirectory(prefix="qbench-") as view:
                self._link(root, Path(view))
                train, test = (self.source()(view, train=part) for part in (True, False))
        except (OSError, EOFError, ValueError, RuntimeError) as error:
            hint = "packed files need 60 MB in the temporary folder, which TMPDIR moves"
            raise DataError(f"{self.name}: cannot read {self._raw(root)}: {_line(error)}; {hint}") from error
        self._check(root, train.data, train.targets, test.data, test.targets)
        images = train.data.unsqueeze(1), test.data.unsqueeze(1)
        return ImageData(images[0], train.targets, images[1], test.targets, classes=CLASSES)

    def fetch(self, root: Path) -> None:
        raw = self._raw(root)
        try:
            raw.mkdir(parents=True, exist_ok=True)
            with FileLock(raw / ".lock", timeout=LOCK_TIMEOUT), _quiet(), _socket_timeout(SOCKET_TIMEOUT):
                for file in FILES:
                    self._fetch_file(root, file)
        except OSError as error:
            raise DataError(f"cannot fetch {self.name}: {_line(error)}; {self._by_hand(root)}") from error

    def _raw(self, root: Path) -> Path:
        return root.absolute() / self.folder / "raw"

    def _by_hand(self, root: Path) -> str:
        return (
            f"put its four files into {self._raw(root)}, packed or unpacked, "
            f"or set {DATA_VARIABLE} to a folder that holds {self.folder}/raw"
        )

    def _find(self, root: Path, file: IdxFile) -> Path:
        """The path of a whole file, unpacked or packed.

        Raises:
            DataError: there is none; says what is wrong with what there is, and what to do.
        """
        unpacked, packed = self._raw(root) / file.stem, self._raw(root) / file.packed
        problems = []
        try:
            for path, check in ((unpacked, file.problem), (packed, partial(self._packed_problem, file))):
                if path.is_file():
                    problem = check(path)
                    if problem is None:
                        return path
                    problems.append(problem)
        except OSError as error:
            problems.append(_line(error))
        why = "; ".join(problems) or f"{packed} is not there, nor is it unpacked"
        fetch = f"run without --offline to fetch {self.download_bytes / 1e6:.1f} MB"
        raise DataError(f"{self.name}: {why}; {fetch}, or {self._by_hand(root)}")

    def _md5(self, file: IdxFile) -> str:
        return str(dict(self.source().resources)[file.packed])

    def _packed_problem(self, file: IdxFile, path: Path) -> str | None:
        from torchvision.datasets.utils import calculate_md5

        expected, found = self._md5(file), calculate_md5(path)
        if found == expected:
            return None
        size, found_size = self.packed_bytes[FILES.index(file)], path.stat().st_size
        if found_size != size:
            return f"{path} has {found_size} bytes, {size} expected"
        return f"{path} has md5 {found}, {expected} expected"

    def _link(self, root: Path, view: Path) -> None:
        from torchvision.datasets.utils import extract_archive

        raw = self._raw(view)
        raw.mkdir(parents=True)
        for file in FILES:
            path = self._find(root, file)
            if path.name == file.packed:
                extract_archive(path, raw)
            else:
                (raw / file.stem).symlink_to(path)

    def _check(self, root: Path, *tensors: Tensor) -> None:
        for file, tensor in zip(FILES, tensors, strict=True):
            path = self._raw(root) / file.stem
            found, largest = tuple(tensor.shape), int(tensor.max())
            if found != file.shape:
                raise DataError(f"{self.name}: {path} holds {found} numbers, {file.shape} expected")
            if tensor.dtype == torch.int64 and largest >= CLASSES:
                raise DataError(f"{self.name}: {path} has the label {largest}, 0 to {CLASSES - 1} expected")

    def _fetch_file(self, root: Path, file: IdxFile) -> None:
        """Fetch a file unless it is there, from the first mirror that has it. It gets its name once whole."""
        with contextlib.suppress(DataError):
            self._find(root, file)
            return
        failures = []
        for mirror in self.source().mirrors:
            failure = self._download(mirror + file.packed, self._raw(root), file)
            if failure is None:
                return
            failures.append(f"{mirror}: {failure}")
        tried = "; ".join(failures)
        raise DataError(f"cannot fetch {self.name}: {file.packed} from {tried}; {self._by_hand(root)}")

    def _download(self, url: str, raw: Path, file: IdxFile) -> str | None:
        from torchvision.datasets.utils import download_url

        part = raw / f"{file.packed}.part"
        try:
            download_url(url, raw, part.name, self._md5(file))
            part.replace(raw / file.packed)
        except (OSError, RuntimeError, HTTPException, ValueError) as error:
            size = part.stat().st_size if part.exists() else 0
            return f"{_line(error)} ({size} of {self.packed_bytes[FILES.index(file)]} bytes)"
        finally:
            part.unlink(missing_ok=True)
        return None


def _line(error: Exception) -> str:
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
