"""The scale of least error on a sample, for codes whose error has many local minima in it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .scaling import root_mean_square


def fitted_scale(x: Tensor, search: Callable[[Tensor, float], float]) -> Tensor:
    """What ``search`` finds for x and its root mean square, float32; 0 where x holds zeros only."""
    scale = root_mean_square(x)
    return scale.new_tensor(search(x, float(scale))) if scale > 0 else scale


def best_scale(errors: Callable[[Tensor], Tensor], least: float, largest: float) -> float:
    """The scale s of least ``errors(s)`` in [least, 2^(1/4) largest], to 2^(1/32).

    ``errors`` takes scales [k], float32, on the CPU, and gives an error for each. A grid over the whole range in
    steps of 2^(1/4), then one in steps of 2^(1/16) around its best; ties go to the smaller scale.
    """
    steps = math.ceil(4 * math.log2(largest / least)) + 1
    coarse = _best(errors, [least * 2 ** (k / 4) for k in range(steps)])
    return _best(errors, [coarse * 2 ** (k / 16) for k in range(-3, 4)])


def _best(errors: Callable[[Tensor], Tensor], scales: list[float]) -> float:
    return scales[int(errors(torch.tensor(scales, dtype=torch.float32)).argmin())]
