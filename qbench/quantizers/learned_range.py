"""Learned clipping: the ends of a range by gradient descent through the rounding."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..autograd import straight_through
from .affine import AffineGrid
from .scaling import divide, load_scale, minmax

_STARTS = [2.0**-k for k in range(8)]  # from the extremes alone, an outlier holds the range where it is
_LARGEST_START = 4.0  # as a logit; beyond it a sigmoid hardly moves
_STEPS = 100
_RATE = 0.1


def learned_range(rows: Tensor, grid: AffineGrid, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Ends (low, high) [rows] of each row of ``rows`` [rows, row length], learned on ``loss``.

    ``low = sigmoid(u) min(row), high = sigmoid(v) max(row)``, u = v where the range is symmetric. The better
    of 8 common strengths, 1 down to 2^-7, starts 100 steps of Adam with the gradient of rounding taken as 1.
    ``loss`` takes reconstructed rows and gives one loss for each row, or one for all. Of all ranges met, the
    extremes among them, the best one is kept: row by row where the losses are.

    Reference: Shao et al. 2023, "OmniQuant", eq. 2-3 (arXiv:2308.13137), which starts from sigmoid(4).
    """
    low, high = minmax(rows, grid.symmetric)
    best = torch.ones(1 if grid.symmetric else 2, rows.shape[0], device=rows.device)

    def loss_at(strength: Tensor) -> Tensor:
        return loss(reconstruction(rows, low * strength[0], high * strength[-1], grid))

    least = unit = loss_at(best).detach()

    def consider(strength: Tensor, found: Tensor) -> None:
        nonlocal best, least
        best, least = torch.where(found < least, strength, best), torch.fmin(found, least)

    for start in _STARTS:
        consider(strength := torch.full_like(best, start), loss_at(strength).detach())
    unit = unit.abs().clamp(min=torch.finfo(unit.dtype).tiny)
    logits = best.logit().clamp(max=_LARGEST_START).requires_grad_()
    adam = torch.optim.Adam([logits], lr=_RATE, eps=1e-12)
    for _ in range(_STEPS):
        with torch.enable_grad():
            found = loss_at(strength := logits.sigmoid())
            (logits.grad,) = torch.autograd.grad((found / unit).sum(), [logits])
        consider(strength.detach(), found.detach())
        adam.step()
    return low * best[0], high * best[-1]


def reconstruction(rows: Tensor, low: Tensor, high: Tensor, grid: AffineGrid) -> Tensor:
    """What the decoder makes of ``rows`` on these ranges, bit for bit, with a gradient for the ends."""
    stored, zero_point = grid.spanning(low.detach(), high.detach())
    scale = straight_through((high - low) / grid.steps, load_scale(stored))
    if not grid.symmetric:
        zero_point = straight_through(divide(-low[:, None], scale)[:, 0], zero_point)
    position = divide(rows, scale) + zero_point[:, None]
    codes = straight_through(position, position.detach().round()).clamp(0, grid.levels - 1)
    return grid.points(codes, scale, zero_point)
