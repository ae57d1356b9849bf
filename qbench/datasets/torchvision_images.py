"""Data sets that torchvision knows: its classes state addresses and md5s, and its folders are where files lie."""

import zlib
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from tarfile import TarError
from typing import Any, ClassVar
from zipfile import BadZipFile

from ..components import Examples, Images
from ..errors import DataError
from .downloads import fetching, one_line

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    zlib.error,
    BadZipFile,
    TarError,
    UnpicklingError,
)


class TorchvisionImages(Images):
    """Base of data sets in torchvision's files, packed or unpacked. Looking and loading write nothing there.

    Class attributes:
        remedy: what helps where reading fails, for the message.
    """

    remedy: ClassVar[str]

    @abstractmethod
    def source(self) -> Any:
        """torchvision's class, imported when asked for."""

    @abstractmethod
    def place(self, root: Path) -> Path:
        """The absolute path of the folder that files are brought to."""

    @abstractmethod
    def by_hand(self, root: Path) -> str:
        """What a user without a network does, in words that follow a semicolon."""

    @abstractmethod
    def check(self, root: Path) -> None:
        """Look whether every file is there and whole.

        Raises:
            DataError: one of them is not; says which, and what to do.
        """

    @abstractmethod
    def bring(self, root: Path) -> None:
        """Download what :meth:`check` misses into :meth:`place`, which is there and locked.

        Raises:
            OSError: no address has it, or the disk is full.
        """

    @abstractmethod
    def read(self, root: Path) -> Examples:
        """Read everything; raises ``UNREADABLE`` or DataError."""

    def first_whole(self, root: Path, *candidates: tuple[Path, Callable[[], str | None]]) -> Path:
        """The first of some files that is there and whole; each comes with what says why it is not.

        Raises:
            DataError: none is; says what is wrong with what there is, and what to do.
        """
        problems = []
        try:
            for path, check in candidates:
                if path.is_file():
                    problem = check()
                    if problem is None:
                        return path
                    problems.append(problem)
        except OSError as error:
            problems.append(one_line(error))
        why = "; ".join(problems) or f"{candidates[-1][0]} is not there, nor is it unpacked"
        fetch = f"run without --offline to fetch {self.download_bytes / 1e6:.1f} MB"
        raise DataError(f"{self.name}: {why}; {fetch}, or {self.by_hand(root)}")

    def missing(self, root: Path) -> str | None:
        try:
            self.check(root)
        except DataError as error:
            return str(error)
        return None

    def fetch(self, root: Path) -> None:
        with fetching(self.name, self.place(root), self.by_hand(root)):
            self.bring(root)

    def load(self, root: Path) -> Examples:
        try:
            return self.read(root)
        except UNREADABLE as error:
            why = f"cannot read {self.place(root)}: {one_line(error)}"
            raise DataError(f"{self.name}: {why}; {self.remedy}") from error
