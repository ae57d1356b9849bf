"""The four IDX files of MNIST and its twins: names, shapes, and whether an unpacked one is whole."""

import math
from dataclasses import dataclass
from pathlib import Path


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


FILES = (
    IdxFile("train-images-idx3-ubyte", (60000, 28, 28)),
    IdxFile("train-labels-idx1-ubyte", (60000,)),
    IdxFile("t10k-images-idx3-ubyte", (10000, 28, 28)),
    IdxFile("t10k-labels-idx1-ubyte", (10000,)),
)
