"""IDX files of MNIST and its twins: names, shapes, whether one is whole, and how it is unpacked."""

import contextlib
import gzip
import math
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class IdxFile:
    """A file of unsigned bytes: two zeros, type 8, number of dimensions, sizes (big-endian), content.

    >>> IdxFile("labels", (60000,)).header.hex()
    '000008010000ea60'
    """

    stem: str
    shape: tuple[int, ...]

    @property
    def packed(self) -> str:
        return f"{self.stem}.gz"

    @property
    def header(self) -> bytes:
        sizes = b"".join(size.to_bytes(4, "big") for size in self.shape)
        return bytes([0, 0, 8, len(self.shape)]) + sizes

    @property
    def length(self) -> int:
        """Bytes of the unpacked file."""
        return len(self.header) + math.prod(self.shape)

    def problem(self, path: Path) -> str | None:
        """Why the unpacked file at ``path`` is not whole, or None if it is."""
        size = path.stat().st_size
        if size != self.length:
            return f"{path} has {size} bytes, {self.length} expected"
        with path.open("rb") as opened:
            header = opened.read(len(self.header))
        if header != self.header:
            return f"{path} begins with {header.hex()}, {self.header.hex()} expected"
        return None

    def unpack(self, path: Path, target: Path) -> None:
        """Write the unpacked file to ``target``, from a ``.gz`` or from a ``.zip`` with ``gzip/<stem>.gz`` in it."""
        with self._packed(path) as packed, gzip.open(packed) as content, target.open("wb") as opened:
            shutil.copyfileobj(content, opened, 2**20)

    @contextlib.contextmanager
    def _packed(self, path: Path) -> Iterator[IO[bytes]]:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(f"gzip/{self.packed}") as member:
                yield member
        else:
            with path.open("rb") as opened:
                yield opened


FILES = (
    IdxFile("train-images-idx3-ubyte", (60000, 28, 28)),
    IdxFile("train-labels-idx1-ubyte", (60000,)),
    IdxFile("t10k-images-idx3-ubyte", (10000, 28, 28)),
    IdxFile("t10k-labels-idx1-ubyte", (10000,)),
)
