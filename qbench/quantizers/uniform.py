"""Uniform quantization: equally spaced levels, the affine map x ~ scale * (code - zero_point)."""

from collections.abc import Callable
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Quantizer
from ..errors import InputError
from ..message import Message, Stream
from .affine import AffineGrid, AffineParameters, range_of
from .learned_range import learned_range
from .reading import values
from .scaling import Layout, Range, percentile, require_rows


class UniformParameters(AffineParameters):
    range: Range = Field("minmax", description="how the range is chosen")
    percentile: float = Field(99.9, gt=50, le=100, description="percent inside, for range=percentile")


@final
class Uniform(Quantizer):
    """Rounding to 2^b equally spaced levels.

    ``code = clamp(round(x / scale + zero_point), 0, 2^b - 1)``, ``x^ = scale * (code - zero_point)``, on a
    range [low, high] with low <= 0 <= high, and low = -high unless asymmetric:

    - symmetric: scale = (high - low) / (2^b - 2), zero_point = 2^(b-1): zero is a level; needs b >= 2.
    - asymmetric: scale = (high - low) / (2^b - 1), zero_point = round(-low / scale), stored in b bits.
    - midrise: scale = (high - low) / 2^b, zero_point = (2^b - 1) / 2: levels +-(k + 1/2) scale.

    ``range`` takes the extremes, a percentile, the ends of least squared error, or ends learned by gradient
    descent (``learned``): on the layer's loss where the context has one, else on the squared error, weighted by
    the importance where there is one. A learned range is never worse than the extremes by what it was learned
    on. Scales per tensor or channel are fitted, scales per group decided while encoding. What lies outside the
    range is clipped.

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", eq. 1; midrise with the best step: Max 1960, "Quantizing for Minimum
    Distortion", table II; learned clipping: Shao et al. 2023, "OmniQuant", eq. 2-3.
    """

    name = "uniform"
    family = "scalar"
    reference = "Jacob et al. 2018, eq. 1 (arXiv:1712.05877); Max 1960, table II"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = UniformParameters
    sweep = (
        *({"bits": b, "scheme": "midrise", "granularity": "channel", "range": "mse"} for b in range(1, 9)),
        *({"bits": b, "scheme": "asymmetric", "granularity": "group"} for b in (2, 3, 4, 8)),
    )

    @property
    def layout(self) -> Layout:
        layout: Layout = self.parameters.layout
        return layout

    @property
    def grid(self) -> AffineGrid:
        grid: AffineGrid = self.parameters.grid
        return grid

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(x, context)

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x)
        own = self._scales(x, context) if self.layout.per_group else {}
        scale, zero_point = self.grid.read(own or codebook)
        require_rows(rows, scale, self.name)
        codes = self.layout.join(self.grid.codes(rows, scale, zero_point), x.shape)
        return {"codes": Stream(codes, self.grid.levels), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale, zero_point = self.grid.read(codes if self.layout.per_group else codebook)
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        return self.layout.join(self.grid.points(rows, scale, zero_point), shape)

    def _scales(self, x: Tensor, context: Context) -> Message:
        return self.grid.message(*self.grid.spanning(*self._range(x, context)))

    def _range(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        rows, choice = self.layout.split(x), self.parameters.range
        if choice == "percentile":
            return percentile(rows, self.grid.symmetric, self.parameters.percentile)
        if choice == "learned" and x.numel():
            return learned_range(rows, self.grid, self._loss(x, context))
        return range_of(rows, self.grid, "mse" if choice == "mse" else "minmax")

    def _loss(self, x: Tensor, context: Context) -> Callable[[Tensor], Tensor]:
        """What a range is learned on, a function of reconstructed rows: one value, or one for each row."""
        loss, importance = context.loss, context.importance
        if loss is not None:
            return lambda rows: loss(self.layout.join(rows, x.shape))
        target = self.layout.split(x)
        if importance is None:
            return lambda rows: (rows - target).square().sum(1)
        if importance.shape != x.shape:
            raise InputError(
                f"{self.name}: the importance has shape {tuple(importance.shape)}, the tensor {tuple(x.shape)}; "
                "give one weight per element, channel axis first"
            )
        weights = self.layout.split(importance)
        return lambda rows: (weights * (rows - target).square()).sum(1)
