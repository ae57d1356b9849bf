"""Uniform quantization: equally spaced levels, the affine map x ~ scale * (code - zero_point)."""

from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import (
    Granularity,
    Layout,
    Range,
    ScaleDtype,
    divide,
    least_squares,
    load_scale,
    minmax,
    percentile,
    require_rows,
    store_scale,
)

# Of 2^b levels so many steps fewer lie between the ends of the range.
_UNUSED_STEPS = {"symmetric": 2, "asymmetric": 1, "midrise": 0}


class UniformParameters(Parameters):
    bits: int = Field(4, ge=1, le=16, description="bits per code")
    scheme: Literal["symmetric", "asymmetric", "midrise"] = Field(
        "symmetric", description="where the levels lie about zero"
    )
    granularity: Granularity = Field("group", description="which elements share a scale")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")
    range: Range = Field("minmax", description="how the range is chosen")
    percentile: float = Field(99.9, gt=50, le=100, description="percent inside, for range=percentile")
    scale_dtype: ScaleDtype = Field("float16", description="how a scale is stored")

    @model_validator(mode="after")
    def _one_bit_has_two_signs(self) -> Self:
        if self.bits == 1 and self.scheme == "symmetric":
            raise ValueError("one symmetric bit has no positive level; use scheme=midrise or bits of 2 to 16")
        return self


@final
class Uniform(Quantizer):
    """Rounding to 2^b equally spaced levels.

    ``code = clamp(round(x / scale + zero_point), 0, 2^b - 1)``, ``x^ = scale * (code - zero_point)``, on a
    range [low, high] with low <= 0 <= high, and low = -high unless asymmetric:

    - symmetric: scale = (high - low) / (2^b - 2), zero_point = 2^(b-1): zero is a level; needs b >= 2.
    - asymmetric: scale = (high - low) / (2^b - 1), zero_point = round(-low / scale), stored in b bits.
    - midrise: scale = (high - low) / 2^b, zero_point = (2^b - 1) / 2: levels +-(k + 1/2) scale.

    ``range`` takes the extremes, a percentile, or the ends of least squared error. Scales per tensor or
    channel are fitted, scales per group decided while encoding. What lies outside the range is clipped.

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", eq. 1; midrise with the best step: Max 1960, "Quantizing for Minimum
    Distortion", table II.
    """

    name = "uniform"
    reference = "Jacob et al. 2018, eq. 1 (arXiv:1712.05877); Max 1960, table II"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = UniformParameters
    sweep = (
        *({"bits": b, "scheme": "midrise", "granularity": "channel", "range": "mse"} for b in range(1, 9)),
        *({"bits": b, "scheme": "asymmetric", "granularity": "group"} for b in (2, 3, 4, 8)),
    )

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    @property
    def levels(self) -> int:
        return int(2**self.parameters.bits)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(self.layout.split(x))

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x)
        own = self._scales(rows) if self.layout.per_group else {}
        scale, zero_point = self._affine(own or codebook)
        require_rows(rows, scale, self.name)
        codes = self.layout.join(self._codes(rows, scale, zero_point), x.shape)
        return {"codes": Stream(codes, self.levels), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale, zero_point = self._affine(codes if self.layout.per_group else codebook)
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        return self.layout.join((rows - zero_point[:, None]) * scale[:, None], shape)

    def _scales(self, rows: Tensor) -> Message:
        scale, zero_point = self._grid(*self._range(rows))
        if self.parameters.scheme == "asymmetric":
            return {"scale": scale, "zero_point": Stream(zero_point, self.levels)}
        return {"scale": scale}

    def _range(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        symmetric = self.parameters.scheme != "asymmetric"
        if self.parameters.range == "mse":
            return least_squares(rows, symmetric, lambda low, high: self._squared_error(rows, low, high))
        if self.parameters.range == "percentile":
            return percentile(rows, symmetric, self.parameters.percentile)
        return minmax(rows, symmetric)

    def _grid(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        steps = self.levels - _UNUSED_STEPS[self.parameters.scheme]
        scale = store_scale((high - low) / steps, self.parameters.scale_dtype)
        if self.parameters.scheme == "asymmetric":
            return scale, divide(-low[:, None], load_scale(scale))[:, 0].round().clamp(0, self.levels - 1)
        return scale, self._fixed_zero_point(low)

    def _fixed_zero_point(self, like: Tensor) -> Tensor:
        middle = self.levels if self.parameters.scheme == "symmetric" else self.levels - 1
        return torch.full_like(like, middle / 2)

    def _affine(self, scales: Message) -> tuple[Tensor, Tensor]:
        scale = load_scale(values(scales, "scale"))
        if self.parameters.scheme == "asymmetric":
            return scale, values(scales, "zero_point").float()
        return scale, self._fixed_zero_point(scale)

    def _codes(self, rows: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        return divide(rows, scale).add_(zero_point[:, None]).round_().clamp_(0, self.levels - 1)

    def _squared_error(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        stored, zero_point = self._grid(low, high)
        scale = load_scale(stored)
        codes = self._codes(rows, scale, zero_point)
        error = codes.sub_(zero_point[:, None]).mul_(scale[:, None]).sub_(rows)
        squares: Tensor = torch.linalg.vecdot(error, error)
        return squares
