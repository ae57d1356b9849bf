"""The Laplacian source."""

import math

import torch
from torch import Tensor

from ..components import Source
from .limits import shannon_lower_bound
from .uniform import symmetric_uniform

ENTROPY_BITS = 0.5 + math.log2(math.e)


class Laplacian(Source):
    """Independent values of density exp(-sqrt(2) |x|) / sqrt(2); h = log2(sqrt(2) e), D(R) >= (e / pi) 4^-R.

    Drawn by inverting the distribution function: x = -sign(u) log(1 - |u|) / sqrt(2), u uniform on (-1, 1).

    Reference: C. E. Shannon 1959, the lower bound.
    """

    name = "laplacian"
    reference = "Shannon 1959 (lower bound)"
    limit = "Shannon lower bound"

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        u = symmetric_uniform(count, generator)
        return (torch.log1p(-u.abs()) * u.sign() * -math.sqrt(0.5)).float()

    def distortion_limit(self, rate: float) -> float:
        return shannon_lower_bound(ENTROPY_BITS, rate)
