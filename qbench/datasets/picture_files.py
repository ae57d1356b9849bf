"""A user's folder of pictures: which files belong to which class, and what names their content."""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..schema import digest
from .downloads import one_line

PARTS = ("train", "test")
IGNORED = ("Thumbs.db", "desktop.ini")  # what file browsers leave; likewise names that begin with a dot


@dataclass(frozen=True)
class PictureFiles:
    """The files of a folder ``<part>/<class>/...``, sorted.

    Attributes:
        classes: sorted names; a label is a place in them.
        parts: for training and for testing, paths with their labels.
        listing: hash of every file's path, label, size and times.
    """

    classes: list[str]
    parts: list[list[tuple[str, int]]]
    listing: str

    @classmethod
    def below(cls, folder: Path) -> "PictureFiles":
        """Look at names, sizes and times; no file is opened.

        Raises:
            DataError: no such folders, classes that differ between the parts, a class with no pictures.
        """
        try:
            classes = _classes(folder)
            parts = [_samples(folder / part, classes) for part in PARTS]
            listing = digest([(ascii(path), label, *_times(path)) for part in parts for path, label in part])
        except OSError as error:
            raise DataError(f"cannot list {folder}: {one_line(error)}") from error
        return cls(classes, parts, listing)

    def content(self) -> str:
        """sha256 over part, label and content of each file in order: what the pictures are, wherever they lie."""
        state = ContentHash()
        for part, samples in enumerate(self.parts):
            for path, label in samples:
                state.add(part, label, Path(path).read_bytes())
        return state.hexdigest()


class ContentHash:
    """Grows picture by picture; names count only through the order that they give."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def add(self, part: int, label: int, content: bytes) -> None:
        self._state.update(f"{part} {label} {hashlib.sha256(content).hexdigest()}\n".encode())

    def hexdigest(self) -> str:
        return self._state.hexdigest()


def _classes(folder: Path) -> list[str]:
    for part in PARTS:
        if not (folder / part).is_dir():
            raise DataError(f"{folder / part} is not there")
    train, test = (
        sorted(entry.name for entry in os.scandir(folder / part) if _visible(entry.name) and entry.is_dir())
        for part in PARTS
    )
    for ours, theirs, part in ((train, test, "train"), (test, train, "test")):
        alone = [name for name in ours if name not in theirs]
        if alone:
            raise DataError(
                f"{folder}: classes in {part}/ alone: {some(alone)}; both parts need the same classes"
            )
    if len(train) < 2:
        raise DataError(f"{folder / 'train'} has {len(train)} class folders, at least 2 expected")
    return train


def _samples(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    from torchvision.datasets.folder import make_dataset

    start = len(str(folder)) + 1
    samples: list[tuple[str, int]] = make_dataset(
        str(folder),
        {name: label for label, name in enumerate(classes)},
        is_valid_file=lambda path: all(map(_visible, path[start:].split(os.sep))),
        allow_empty=True,
    )
    empty = sorted(set(range(len(classes))) - {label for _, label in samples})
    if empty:
        raise DataError(f"{folder}: no pictures of {some([classes[label] for label in empty])}")
    return samples


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in IGNORED


def _times(path: str) -> tuple[int, int, int]:
    """Size and times in ns; ctime as well, for a copying tool can set the other."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no file; move it away")
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def some(names: Sequence[str]) -> str:
    """The first three, in characters that any text may hold, and how many more there are."""
    first = ", ".join(names[:3]).encode(errors="replace").decode()
    return first + (f" and {len(names) - 3} more" if len(names) > 3 else "")
