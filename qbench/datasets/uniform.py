"""The uniform source."""

import math

import torch
from torch import Tensor

from ..components import Source
from .limits import shannon_lower_bound

ENTROPY_BITS = math.log2(2 * math.sqrt(3))


class Uniform(Source):
    """Independent values, uniform on (-sqrt(3), sqrt(3)); h = log2(2 sqrt(3)), D(R) >= 6 / (pi e) * 4^-R.

    Reference: C. E. Shannon 1959, the lower bound.
    """

    name = "uniform"
    reference = "Shannon 1959 (lower bound)"
    limit = "Shannon lower bound"

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return (math.sqrt(3) * symmetric_uniform(count, generator)).float()

    def distortion_limit(self, rate: float) -> float:
        return shannon_lower_bound(ENTROPY_BITS, rate)


def symmetric_uniform(count: int, generator: torch.Generator) -> Tensor:
    """``count`` float64 values, uniform on the odd multiples of 2^-52 inside (-1, 1).

    The grid is exact in float64, symmetric, and holds neither 0 nor an end: log(1 - |u|) is finite.
    """
    k = torch.randint(2**52, (count,), generator=generator, device=generator.device)
    return (2 * k + (1 - 2**52)).double() * 2.0**-52
