"""Data sets in four IDX files, which torchvision keeps in ``<root>/<folder>/raw/`` and reads.

An unpacked file is whole when header and length are right, a packed one when its md5 is the one torchvision
states. torchvision gets a temporary folder of links, with packed files unpacked into it.
"""

import functools
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ..components import Examples
from ..errors import DataError
from ..places import DATA_VARIABLE
from .downloads import Download
from .idx import IdxFile
from .torchvision_images import TorchvisionImages

CLASSES = 10


class TorchvisionIdx(TorchvisionImages):
    """Base of MNIST and its relatives: pictures of [1, 28, 28] in ten classes.

    Class attributes:
        folder: torchvision's folder below the root.
        files: pictures and labels for training, then for testing.
    """

    folder: ClassVar[str]
    files: ClassVar[tuple[IdxFile, ...]]
    remedy = "packed files need room in the temporary folder, which TMPDIR moves"

    @abstractmethod
    def packed(self, file: IdxFile) -> Download:
        """What a file lies packed in, in the same folder."""

    @abstractmethod
    def part(self, view: Path, train: bool) -> tuple[Tensor, Tensor]:
        """Pictures [n, 28, 28], upright, and labels, read by torchvision from a folder of unpacked files."""

    def place(self, root: Path) -> Path:
        return root.absolute() / self.folder / "raw"

    def by_hand(self, root: Path) -> str:
        return (
            f"put its four files into {self.place(root)}, packed or unpacked, "
            f"or set {DATA_VARIABLE} to a folder that holds {self.folder}/raw"
        )

    def check(self, root: Path) -> None:
        self.find(root, *self.files)

    def find(self, root: Path, *files: IdxFile) -> list[Path]:
        """The paths of whole files, unpacked or packed.

        Raises:
            DataError: one of them is not there; says what is wrong with what there is, and what to do.
        """
        packed_problem = functools.cache(lambda packed: packed.problem(self.place(root) / packed.name))
        return [self._find(root, file, packed_problem) for file in files]

    def _find(self, root: Path, file: IdxFile, packed_problem: Callable[[Download], str | None]) -> Path:
        download = self.packed(file)
        unpacked, packed = self.place(root) / file.stem, self.place(root) / download.name
        return self.first_whole(
            root, (unpacked, lambda: file.problem(unpacked)), (packed, lambda: packed_problem(download))
        )

    def read(self, root: Path) -> Examples:
        with tempfile.TemporaryDirectory(prefix="qbench-") as view:
            self._link(root, Path(view))
            train, test = (self.part(Path(view), train) for train in (True, False))
        self._verify(root, *train, *test)
        return Examples(train[0].unsqueeze(1), train[1], test[0].unsqueeze(1), test[1], classes=CLASSES)

    def _link(self, root: Path, view: Path) -> None:
        raw = self.place(view)
        raw.mkdir(parents=True)
        for file, path in zip(self.files, self.find(root, *self.files), strict=True):
            if path.name == file.stem:
                (raw / file.stem).symlink_to(path)
            else:
                file.unpack(path, raw / file.stem)

    def _verify(self, root: Path, *tensors: Tensor) -> None:
        for file, tensor in zip(self.files, tensors, strict=True):
            path = self.place(root) / file.stem
            found, largest = tuple(tensor.shape), int(tensor.max())
            if found != file.shape:
                raise DataError(f"{self.name}: {path} holds {found} numbers, {file.shape} expected")
            if tensor.dtype == torch.int64 and largest >= CLASSES:
                raise DataError(f"{self.name}: {path} has the label {largest}, 0 to {CLASSES - 1} expected")
