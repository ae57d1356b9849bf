"""A tensor as vectors of consecutive elements, and a sample of them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def blocks(x: Tensor, dimension: int) -> Tensor:
    """``dimension`` consecutive elements of the flattened tensor a row, [ceil(n / d), d]; zeros fill the last."""
    padded: Tensor = F.pad(x.reshape(-1), (0, -x.numel() % dimension))
    return padded.reshape(-1, dimension)


def unblocked(vectors: Tensor, shape: torch.Size) -> Tensor:
    """The tensor of ``shape`` whose :func:`blocks` these are."""
    return vectors.reshape(-1)[: shape.numel()].reshape(shape)


def strided(rows: Tensor, limit: int) -> Tensor:
    """At most ``limit`` of the rows, equally spaced."""
    if len(rows) <= limit:
        return rows
    return rows[torch.arange(limit, device=rows.device) * len(rows) // limit]
