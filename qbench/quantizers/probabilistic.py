"""Probabilistic quantization: a level is drawn from p(level | x)."""

from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import Granularity, Layout, divide, load_scale, minmax, require_rows, store_scale
from .stochastic_rounding import round_at_random


class ProbabilisticParameters(Parameters):
    scheme: Literal["random-rounding", "two-level"] = Field(
        "random-rounding", description="the two nearest of 2^bits levels, or the two ends of the range"
    )
    bits: int | None = Field(None, ge=1, le=16, description="bits per code; none: 3, of two levels 1")
    range: Literal["minmax", "symmetric"] = Field(
        "minmax", description="the extremes, or -max |x| and max |x|"
    )
    granularity: Granularity = Field("group", description="which elements share a range")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")

    @model_validator(mode="after")
    def _two_levels_are_one_bit(self) -> Self:
        if self.scheme == "two-level" and self.bits not in (None, 1):
            raise ValueError("scheme=two-level takes one bit; leave bits out or use scheme=random-rounding")
        return self


@final
class Probabilistic(Quantizer):
    """x becomes one of k = 2^bits levels ``low + i step``, ``step = (high - low) / (k - 1)``, drawn from p(level | x).

    - random-rounding: of the two levels around x the upper one with probability ``(x - lower) / step``, else the
      lower one. ``E (x^ - x)^2 = (upper - x)(x - lower)``, step^2 / 6 where x is uniform.
    - two-level: k = 2, ``P(high) = (x - low) / (high - low)``, ``E (x^ - x)^2 = (high - x)(x - low)``. With
      range=symmetric that is the hard sigmoid of x over its largest magnitude.

    E[x^] = x inside the range, which contains zero; what exceeds a fitted range is clipped. Zero is no level in
    general: ``stochastic-rounding`` has one.

    Reference: Suresh et al. 2017, "Distributed Mean Estimation with Limited Communication", sections 2.1 (two levels)
    and 2.2 (k levels); range=symmetric: Courbariaux et al. 2015, "BinaryConnect", eq. 2.
    """

    name = "probabilistic"
    family = "stochastic"
    reference = "Suresh et al. 2017, sections 2.1-2.2 (arXiv:1611.00429); Courbariaux et al. 2015, eq. 2"
    targets = ("source", "weight", "gradient")
    Parameters = ProbabilisticParameters
    sweep = (
        {"scheme": "two-level", "group_size": 16},
        *({"scheme": "random-rounding", "bits": b} for b in (2, 4, 8)),
    )
    unbiased = True

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    @property
    def levels(self) -> int:
        default = 1 if self.parameters.scheme == "two-level" else 3
        return int(2 ** (self.parameters.bits or default))

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._range(self.layout.split(x))

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x)
        own = self._range(rows) if self.layout.per_group else {}
        low, step = self._grid(own or codebook)
        require_rows(rows, low, self.name)
        exact = divide(rows - low[:, None], step).clamp(0, self.levels - 1)
        codes = round_at_random(exact, context.generator)
        return {"codes": Stream(self.layout.join(codes, x.shape), self.levels), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        low, step = self._grid(codes if self.layout.per_group else codebook)
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        return self.layout.join(low[:, None] + rows * step[:, None], shape)

    def _range(self, rows: Tensor) -> Message:
        low, high = minmax(rows, symmetric=self.parameters.range == "symmetric")
        if self.parameters.range == "symmetric":
            return {"high": store_scale(high, "float16")}
        return {"low": store_scale(-low, "float16"), "high": store_scale(high, "float16")}

    def _grid(self, ends: Message) -> tuple[Tensor, Tensor]:
        """The lowest level and the step of each row, [rows] each."""
        high = load_scale(values(ends, "high"))
        low = -high if self.parameters.range == "symmetric" else -load_scale(values(ends, "low"))
        return low, (high - low) / (self.levels - 1)
