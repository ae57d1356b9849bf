"""Straight-through gradients: the value of a hard code, the gradient of something smooth."""

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """The value of ``hard`` bit for bit with the gradient of ``soft``; both of one shape.

    ``soft + (hard - soft).detach()`` would differ from ``hard`` in the last bits.

    Reference: Bengio, Leonard, Courville, Estimating or propagating gradients through stochastic neurons, 2013.
    """
    value: Tensor = _StraightThrough.apply(soft, hard)
    return value
