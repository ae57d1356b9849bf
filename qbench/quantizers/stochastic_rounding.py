"""Stochastic rounding: to one of the two neighbouring levels, so that the mean is the value itself."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import Granularity, Layout, divide, load_scale, minmax, require_rows, store_scale


class StochasticRoundingParameters(Parameters):
    bits: int = Field(4, ge=2, le=16, description="bits per code; one bit would have no level at zero")
    granularity: Granularity = Field("group", description="which elements share a scale")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")


@final
class StochasticRounding(Quantizer):
    """``x / scale`` becomes floor(x / scale) + 1 with probability its fractional part, else floor(x / scale).

    E[x^] = x inside [-a, a], a = max |x|, with variance ``scale^2 p (1 - p)``, p the fractional part. Levels
    are the 2^b - 1 multiples of ``scale = a / (2^(b-1) - 1)`` in that range; zero is one, so zeros stay
    zeros. What exceeds the range of a fitted scale is clipped.

    Reference: Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", section 3.
    """

    name = "stochastic-rounding"
    family = "stochastic"
    reference = "Gupta et al. 2015, section 3 (arXiv:1502.02551)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = StochasticRoundingParameters
    sweep = tuple({"bits": b} for b in (2, 3, 4, 8))
    unbiased = True

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    @property
    def steps(self) -> int:
        """Steps from zero to the end of the range."""
        return int(2 ** (self.parameters.bits - 1) - 1)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(self.layout.split(x))

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x)
        own = self._scales(rows) if self.layout.per_group else {}
        scale = load_scale(values(own or codebook, "scale"))
        require_rows(rows, scale, self.name)
        exact = divide(rows, scale).clamp(-self.steps, self.steps)
        codes = round_at_random(exact, context.generator) + self.steps
        return {"codes": Stream(self.layout.join(codes, x.shape), 2 * self.steps + 1), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale = load_scale(values(codes if self.layout.per_group else codebook, "scale"))
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        return self.layout.join((rows - self.steps) * scale[:, None], shape)

    def _scales(self, rows: Tensor) -> Message:
        _, high = minmax(rows, symmetric=True)
        return {"scale": store_scale(high / self.steps, "float16")}


def round_at_random(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each value rounded up with probability its fractional part, else down: the mean is the value itself."""
    below = x.floor()
    draw = torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32)
    return below + (draw < x - below)
