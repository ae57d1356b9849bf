"""A user's own pictures."""

import os
import re
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..components import Examples, Images, Parameters, UserData
from ..errors import DataError
from ..places import CACHE_VARIABLE, DATA_VARIABLE, cache_root
from ..schema import digest
from .downloads import one_line
from .picture_files import PARTS, PictureFiles
from .pictures import decoded, decoder


class ImageFolderParameters(Parameters):
    """``path`` is read from the data root unless it is absolute; with ``size`` 0 pictures stay as they are."""

    path: str = Field("imagefolder", min_length=1)
    size: int = Field(0, ge=0, le=1024)
    channels: Literal[1, 3] = 3


class ImageFolder(Images, UserData):
    """Pictures in ``path/train/<class>/`` and ``path/test/<class>/``, at any depth; classes in the order of names.

    Every file is a picture that Pillow reads, of 8 bits a channel, turned as its EXIF orientation says; hidden files
    and what file browsers leave (Thumbs.db, desktop.ini) are passed over. With ``size`` a picture is scaled
    (bilinear, antialiased) until its shorter side has that many pixels and cut to the square in its middle; without,
    all must be of one size. A single channel is 0.299 R + 0.587 G + 0.114 B.

    Pictures are decoded once and kept in the cache under the hash of their content and the decoder's version.
    """

    name = "imagefolder"
    Parameters = ImageFolderParameters

    def missing(self, root: Path) -> str | None:
        try:
            self._files(root)
        except DataError as error:
            return str(error)
        return None

    def fetch(self, root: Path) -> None:
        self._files(root)

    def content(self, root: Path) -> str:
        """sha256 that names pictures and labels; files are read anew only when a name, a size or a time changes.

        Raises:
            DataError: they are not there or cannot be read.
        """
        files = self._files(root)
        try:
            with _lock():
                content = _remembered(files) or files.content()
                _remember(files, content)
        except OSError as error:
            raise self._failed(error) from error
        return content

    def load(self, root: Path) -> Examples:
        files = self._files(root)
        try:
            with _lock():
                images = self._cached(files) or self._decode(files)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error
        except OSError as error:
            raise self._failed(error) from error
        labels = [torch.tensor([label for _, label in samples]) for samples in files.parts]
        return Examples(images["train"], labels[0], images["test"], labels[1], classes=len(files.classes))

    def _files(self, root: Path) -> PictureFiles:
        try:
            return PictureFiles.below(root.absolute() / Path(self.parameters.path).expanduser())
        except (DataError, RuntimeError) as error:  # of expanduser: no such user
            remedy = (
                f"path={self.parameters.path} is read from {root.absolute()}, which {DATA_VARIABLE} moves"
            )
            wanted = "it holds train/ and test/, each with a folder of pictures per class"
            raise DataError(f"{self.name}: {error}; {remedy}: {wanted}") from error

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"{self.name}: {one_line(error)} (decoded pictures are kept in {_folder()}, which {CACHE_VARIABLE} moves)"
        )

    def _path(self, content: str) -> Path:
        key = [content, self.parameters.size, self.parameters.channels, decoder()]
        return _folder() / f"{digest(key)[:32]}.safetensors"

    def _cached(self, files: PictureFiles) -> dict[str, Tensor] | None:
        content = _remembered(files)
        if content is None or not self._path(content).is_file():
            return None
        try:
            images = load_file(self._path(content))
        except SafetensorError:
            return None
        counts = [len(samples) for samples in files.parts]
        return images if [len(images.get(part, ())) for part in PARTS] == counts else None

    def _decode(self, files: PictureFiles) -> dict[str, Tensor]:
        images, content = decoded(files, self.parameters.size, self.parameters.channels)
        path = self._path(content)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            save_file(images, part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _remember(files, content)
        return images


def _folder() -> Path:
    return cache_root() / "imagefolder"


def _lock() -> FileLock:
    """One process decodes while others that want the same wait for it."""
    _folder().mkdir(parents=True, exist_ok=True)
    return FileLock(_folder() / ".lock")


def _remembered(files: PictureFiles) -> str | None:
    """The content's hash, where files of these names, sizes and times were read before."""
    path = _folder() / f"{files.listing}.sha256"
    content = path.read_text(errors="replace") if path.is_file() else ""
    return content if re.fullmatch("[0-9a-f]{64}", content) else None


def _remember(files: PictureFiles, content: str) -> None:
    path = _folder() / f"{files.listing}.sha256"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(content)
    part.replace(path)
