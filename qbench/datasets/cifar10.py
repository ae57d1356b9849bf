"""CIFAR-10, through torchvision.

Its batches are pickles. A batch is read only when its md5 is the one torchvision states, and by a reader that
makes dictionaries, lists, strings, numbers and arrays of bytes and refuses whatever else a pickle may name.
"""

import hashlib
import io
import pickle
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..components import Examples
from ..places import DATA_VARIABLE
from .downloads import Download
from .torchvision_images import TorchvisionImages

CLASSES = 10
SHAPE = (3, 32, 32)


class Cifar10(TorchvisionImages):
    """60,000 colour pictures of 32x32 pixels in ten classes of equal size, 50,000 of them for training.

    The files lie in ``cifar-10-batches-py/`` below the root, or packed in ``cifar-10-python.tar.gz`` beside it.

    Reference: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """

    name = "cifar10"
    reference = "Krizhevsky 2009"
    download_bytes = 170_498_071
    remedy = "move it away and fetch it again"

    def source(self) -> Any:
        from torchvision.datasets import CIFAR10

        return CIFAR10

    def place(self, root: Path) -> Path:
        return root.absolute() / str(self.source().base_folder)

    def by_hand(self, root: Path) -> str:
        archive, folder = self._archive().name, self.place(root).name
        return (
            f"put {archive} into {root.absolute()}, packed or unpacked, "
            f"or set {DATA_VARIABLE} to a folder that holds {archive} or {folder}"
        )

    def check(self, root: Path) -> None:
        self._find(root)

    def bring(self, root: Path) -> None:
        if self.missing(root) is None:
            return
        place = self.place(root)
        archive = self._archive().fetch(root.absolute())
        for name, content in _members(archive, [*self._md5s(), self.source().meta["filename"]]):
            part = place / f"{name}.part"
            part.write_bytes(content)
            part.replace(place / name)
        archive.unlink()

    def read(self, root: Path) -> Examples:
        found, md5s = self._find(root), self._md5s()
        unpacked = ((name, (self.place(root) / name).read_bytes()) for name in md5s)
        files = _members(found, md5s) if found.name == self._archive().name else unpacked
        batches = {name: _batch(name, content, md5s[name]) for name, content in files}
        train, test = (
            [batches[name] for name, _ in part]
            for part in (self.source().train_list, self.source().test_list)
        )
        return Examples(*_joined(train), *_joined(test), classes=CLASSES)

    def _archive(self) -> Download:
        theirs = self.source()
        mirror = theirs.url.removesuffix(theirs.filename)
        return Download(theirs.filename, theirs.tgz_md5, self.download_bytes, (mirror,))

    def _md5s(self) -> dict[str, str]:
        """By batch, those for training first."""
        return dict([*self.source().train_list, *self.source().test_list])

    def _find(self, root: Path) -> Path:
        """The first batch where all lie there unpacked and whole, else the whole archive."""
        archive, folder = self._archive(), self.place(root)
        packed, first = root.absolute() / archive.name, folder / next(iter(self._md5s()))
        return self.first_whole(
            root,
            (first, lambda: next(filter(None, self._problems(folder)), None)),
            (packed, lambda: archive.problem(packed)),
        )

    def _problems(self, folder: Path) -> Iterator[str]:
        for name, md5 in self._md5s().items():
            path = folder / name
            if not path.is_file():
                yield f"{path} is not there"
            elif (problem := _md5_problem(str(path), path.read_bytes(), md5)) is not None:
                yield problem


def _md5_problem(name: str, content: bytes, md5: str) -> str | None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return None if found == md5 else f"{name} ({len(content)} bytes) has md5 {found}, {md5} expected"


def _members(archive: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The files of these names in an archive, in its order; whatever else it holds is passed over."""
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if name in names else None
            if content is not None:
                yield name, content.read()


def _batch(name: str, content: bytes, md5: str) -> tuple[Tensor, Tensor]:
    """Pictures [n, 3, 32, 32] and labels [n] of a batch."""
    problem = _md5_problem(name, content, md5)
    if problem is not None:
        raise ValueError(problem)
    batch = Reader(io.BytesIO(content), encoding="latin1").load()
    images = torch.from_numpy(batch["data"]).reshape(-1, *SHAPE)
    return images, torch.tensor(batch["labels"])


def _joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


class Reader(pickle.Unpickler):
    """Reads arrays of bytes. Nothing that a pickle names is imported: three names of numpy's mean what stands here."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in ARRAY_PARTS:
            return ARRAY_PARTS[name]
        raise pickle.UnpicklingError(f"a batch names {module}.{name}, which no array of bytes needs")


def _array(*_: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An empty array; the pickle then sets its shape and content."""
    return np.empty(0, np.uint8)


def _dtype(name: str, *_: Any) -> np.dtype[np.uint8]:
    if name != "u1":
        raise pickle.UnpicklingError(f"a batch holds an array of type {name!r}, 'u1' expected")
    return np.dtype(name, False, True)


ARRAY_PARTS = {"_reconstruct": _array, "ndarray": np.ndarray, "dtype": _dtype}
