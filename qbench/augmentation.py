"""Random crops and flips of a whole batch of pictures, on the device they lie on."""

import torch
from torch import Tensor
from torch.nn import functional


def augmented(pictures: Tensor, generator: torch.Generator, *, crop: int = 0, flip: bool = False) -> Tensor:
    """Each picture with ``crop`` zeros added a side and cut back to its size anywhere, and mirrored every other time.

    All (2 crop + 1)^2 places, and both sides of the mirror, are equally likely; each picture draws its own.

    Args:
        pictures: [n, channels, height, width], of any dtype.
        generator: on the pictures' device.
        crop: most pixels that a picture moves, in each direction.
        flip: whether left and right are exchanged with probability 1/2.

    Returns:
        [n, channels, height, width] of the same dtype, channels last in memory.

    Reference: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.
    """
    count, _, height, width = pictures.shape
    device = pictures.device
    top, left = torch.randint(2 * crop + 1, (2, count, 1), generator=generator, device=device)
    rows = torch.arange(height, device=device) + top
    columns = torch.arange(width, device=device) + left
    if flip:
        mirrored = torch.randint(2, (count, 1), generator=generator, device=device).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = functional.pad(pictures, [crop] * 4).permute(0, 2, 3, 1)
    own = torch.arange(count, device=device)[:, None, None]
    return padded[own, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
