"""The Gaussian source."""

import torch
from torch import Tensor

from ..components import Source


class Gaussian(Source):
    """Independent N(0, 1) values; D(R) = 4^-R exactly.

    Reference: C. E. Shannon 1959; T. Cover and J. Thomas, Elements of Information Theory, 2006, th. 10.3.2.
    """

    name = "gaussian"
    reference = "Shannon 1959; Cover & Thomas 2006, theorem 10.3.2"
    limit = "rate-distortion function"

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        # float32 draws come from 24 random bits and end at 5.8; these reach 8.5.
        draws = torch.randn(count, generator=generator, device=generator.device, dtype=torch.float64)
        return draws.float()

    def distortion_limit(self, rate: float) -> float:
        return float(4.0**-rate)
