"""The digits of EMNIST, through torchvision."""

from pathlib import Path
from typing import Any

from torch import Tensor

from .downloads import Download
from .idx import IdxFile
from .torchvision_idx import TorchvisionIdx

SPLIT = "digits"
ARCHIVE = "gzip.zip"


class EmnistDigits(TorchvisionIdx):
    """280,000 handwritten digits of 28x28 pixels, 240,000 of them for training, as many of each class.

    The publisher's one archive (``EMNIST/raw/gzip.zip``) holds every split; of a fetched one only the four files of
    the digits are kept, unpacked. They hold each picture column by column, and torchvision leaves it so; here
    pictures are turned upright, like MNIST's.

    Reference: G. Cohen, S. Afshar, J. Tapson and A. van Schaik, EMNIST: extending MNIST to handwritten letters,
    2017.
    """

    name = "emnist-digits"
    reference = "Cohen et al. 2017"
    folder = "EMNIST"
    files = (
        IdxFile("emnist-digits-train-images-idx3-ubyte", (240000, 28, 28)),
        IdxFile("emnist-digits-train-labels-idx1-ubyte", (240000,)),
        IdxFile("emnist-digits-test-images-idx3-ubyte", (40000, 28, 28)),
        IdxFile("emnist-digits-test-labels-idx1-ubyte", (40000,)),
    )
    download_bytes = 561_753_746

    def source(self) -> Any:
        from torchvision.datasets import EMNIST

        return EMNIST

    def packed(self, file: IdxFile) -> Download:
        theirs = self.source()
        return Download(ARCHIVE, theirs.md5, self.download_bytes, (theirs.url.removesuffix(ARCHIVE),))

    def part(self, view: Path, train: bool) -> tuple[Tensor, Tensor]:
        theirs = self.source()(view, split=SPLIT, train=train)
        return theirs.data.transpose(1, 2).contiguous(), theirs.targets

    def bring(self, root: Path) -> None:
        if self.missing(root) is None:
            return
        place = self.place(root)
        archive = self.packed(self.files[0]).fetch(place)
        for file in self.files:
            part = place / f"{file.stem}.part"
            try:
                file.unpack(archive, part)
                part.replace(place / file.stem)
            finally:
                part.unlink(missing_ok=True)
        archive.unlink()
