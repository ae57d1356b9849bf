"""Picture files as arrays of bytes."""

import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from .downloads import one_line
from .picture_files import PARTS, ContentHash, PictureFiles, some

# Of Pillow's formats, some that start no other program.
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
MODES = {1: "L", 3: "RGB"}

Picture = NDArray[np.uint8]


def decoder() -> str:
    """The version of what decodes; JPEG leaves the last bit of a pixel to it."""
    import PIL
    from PIL import features

    return f"pillow {PIL.__version__} jpeg {features.version('jpg')}"


def picture(content: bytes, size: int, channels: int) -> Picture:
    """A picture [channels, height, width], upright; of size x size where ``size`` is not 0.

    Raises:
        Exception: whatever Pillow says of a file that it cannot read.
        ValueError: its channels have more than 8 bits.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of mode {opened.mode}, 8 bits a channel expected")
        image = ImageOps.exif_transpose(opened).convert(MODES[channels])
    if size:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def decoded(files: PictureFiles, size: int, channels: int) -> tuple[dict[str, Tensor], str]:
    """Pictures [n, channels, height, width] by part, and the hash of the files' content.

    Raises:
        DataError: files that are no pictures, or pictures of several sizes; names the first few.
    """
    state, problems, pictures = ContentHash(), list[str](), dict[str, list[Picture]]()
    with warnings.catch_warnings(action="ignore"):  # Pillow warns of oddities that it reads all the same
        for part, (name, samples) in enumerate(zip(PARTS, files.parts, strict=True)):
            pictures[name] = []
            for path, label in samples:
                try:
                    content = Path(path).read_bytes()
                    state.add(part, label, content)
                    pictures[name].append(picture(content, size, channels))
                except Exception as error:  # decoders raise what they like
                    problems.append(f"{path} ({one_line(error)})")
    if problems:
        raise DataError(
            f"{len(problems)} files are no pictures that can be read: {some(problems)}; move them away"
        )
    _require_one_size(pictures, files)
    return {name: torch.from_numpy(np.stack(part)) for name, part in pictures.items()}, state.hexdigest()


def _require_one_size(pictures: dict[str, list[Picture]], files: PictureFiles) -> None:
    samples = [sample for part in files.parts for sample in part]
    all_pictures = [picture for part in pictures.values() for picture in part]
    found = [(picture.shape[1:], path) for picture, (path, _) in zip(all_pictures, samples, strict=True)]
    counts = Counter(size for size, _ in found).most_common()
    if len(counts) > 1:
        common = counts[0][0]
        odd = [f"{path} {h}x{w}" for (h, w), path in found if (h, w) != common]
        raise DataError(
            f"pictures have {len(counts)} sizes: {counts[0][1]} are {common[0]}x{common[1]}, not so {some(odd)}; "
            f"say size={min(common)} to bring all to one"
        )
