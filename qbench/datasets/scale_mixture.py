"""A source with rare large values: a mixture of a narrow and a wide Gaussian."""

import functools
import math

import torch
from torch import Tensor

from ..components import Source
from .limits import shannon_lower_bound

WIDE_SHARE = 0.01
NARROW = 0.1
DEVIATION = math.sqrt((1 - WIDE_SHARE) * NARROW**2 + WIDE_SHARE)


class ScaleMixture(Source):
    """Independent values of 0.99 N(0, 0.1^2) + 0.01 N(0, 1), divided by its deviation sqrt(0.0199).

    The kurtosis is 3 (0.99 * 0.1^4 + 0.01) / 0.0199^2 = 76.5. D(R) >= the Shannon lower bound, its entropy by
    numerical integration.

    Reference: C. E. Shannon 1959, the lower bound.
    """

    name = "scale-mixture"
    reference = "Shannon 1959 (lower bound)"
    limit = "Shannon lower bound"

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        device, double = generator.device, torch.float64
        wide = torch.rand(count, generator=generator, device=device, dtype=double) < WIDE_SHARE
        normal = torch.randn(count, generator=generator, device=device, dtype=double)
        return (torch.where(wide, normal, NARROW * normal) / DEVIATION).float()

    def distortion_limit(self, rate: float) -> float:
        return shannon_lower_bound(entropy_bits(), rate)


@functools.cache
def entropy_bits() -> float:
    """The differential entropy of the source in bits, to 1e-10."""
    from scipy.integrate import quad  # costs a second to import, and only this limit needs it

    half, _ = quad(_surprise, 0, 40, points=(0.1, 0.3, 0.6, 1, 3, 10), epsabs=1e-11, epsrel=1e-11, limit=200)
    return float(2 * half / math.log(2) - math.log2(DEVIATION))


def _surprise(y: float) -> float:
    """-p log p in nats, p the density before the division."""
    narrow = (1 - WIDE_SHARE) / NARROW * math.exp(-((y / NARROW) ** 2) / 2)
    density = (narrow + WIDE_SHARE * math.exp(-(y**2) / 2)) / math.sqrt(2 * math.pi)
    return -density * math.log(density) if density else 0.0
