"""Data sets of the MNIST family: four IDX files, each packed by itself (``*.gz``)."""

import contextlib
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ..errors import DataError
from .downloads import Download
from .idx import FILES, IdxFile
from .torchvision_idx import TorchvisionIdx


class TorchvisionMnist(TorchvisionIdx):
    """Base of MNIST and its twins: 60,000 and 10,000 pictures of [1, 28, 28] in ten classes.

    Class attributes:
        packed_bytes: sizes of the packed files, in the order of ``FILES``.
    """

    files = FILES
    packed_bytes: ClassVar[tuple[int, int, int, int]]

    def packed(self, file: IdxFile) -> Download:
        theirs = self.source()
        md5, size = dict(theirs.resources)[file.packed], self.packed_bytes[self.files.index(file)]
        return Download(file.packed, md5, size, tuple(theirs.mirrors))

    def part(self, view: Path, train: bool) -> tuple[Tensor, Tensor]:
        theirs = self.source()(view, train=train)
        return theirs.data, theirs.targets

    def bring(self, root: Path) -> None:
        for file in self.files:
            with contextlib.suppress(DataError):
                self.find(root, file)
                continue
            self.packed(file).fetch(self.place(root))
