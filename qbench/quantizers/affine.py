"""The affine grid, equally spaced levels ``scale * (code - zero_point)``, and the choice of its range."""

from dataclasses import dataclass
from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Parameters
from ..message import Message, Stream
from .reading import values
from .scaling import (
    Granularity,
    Layout,
    ScaleDtype,
    divide,
    least_squares,
    load_scale,
    minmax,
    store_scale,
)

Scheme = Literal["symmetric", "asymmetric", "midrise"]

# Of 2^b levels so many steps fewer lie between the ends of the range.
_UNUSED_STEPS = {"symmetric": 2, "asymmetric": 1, "midrise": 0}


class AffineParameters(Parameters):
    """What every quantizer on an affine grid is told about it."""

    bits: int = Field(4, ge=1, le=16, description="bits per code")
    scheme: Scheme = Field("symmetric", description="where the levels lie about zero")
    granularity: Granularity = Field("group", description="which elements share a scale")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")
    scale_dtype: ScaleDtype = Field("float16", description="how a scale is stored")

    @model_validator(mode="after")
    def _one_bit_has_two_signs(self) -> Self:
        if self.bits == 1 and self.scheme == "symmetric":
            raise ValueError("one symmetric bit has no positive level; use scheme=midrise or bits of 2 to 16")
        return self

    @property
    def layout(self) -> Layout:
        return Layout(self.granularity, self.group_size)

    @property
    def grid(self) -> "AffineGrid":
        return AffineGrid(self.bits, self.scheme, self.scale_dtype)


@final
@dataclass(frozen=True)
class AffineGrid:
    """2^b levels for each row: ``code = clamp(round(x / scale + zero_point), 0, 2^b - 1)``.

    On a range [low, high] with low <= 0 <= high, and low = -high unless asymmetric:

    - symmetric: scale = (high - low) / (2^b - 2), zero_point = 2^(b-1): zero is a level; needs b >= 2.
    - asymmetric: scale = (high - low) / (2^b - 1), zero_point = round(-low / scale), stored in b bits.
    - midrise: scale = (high - low) / 2^b, zero_point = (2^b - 1) / 2: levels +-(k + 1/2) scale.

    Scales and zero points are [rows], what they are applied to is [rows, row length].
    """

    bits: int
    scheme: Scheme
    scale_dtype: ScaleDtype

    @property
    def levels(self) -> int:
        return int(2**self.bits)

    @property
    def steps(self) -> int:
        """Steps between the ends of the range."""
        return self.levels - _UNUSED_STEPS[self.scheme]

    @property
    def symmetric(self) -> bool:
        """Whether the range is."""
        return self.scheme != "asymmetric"

    def spanning(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The scale, as it is stored, and the zero point of each range."""
        scale = store_scale((high - low) / self.steps, self.scale_dtype)
        if self.symmetric:
            return scale, self._fixed_zero_point(low)
        return scale, divide(-low[:, None], load_scale(scale))[:, 0].round().clamp(0, self.levels - 1)

    def message(self, scale: Tensor, zero_point: Tensor) -> Message:
        """What the decoder is told of a grid."""
        if self.symmetric:
            return {"scale": scale}
        return {"scale": scale, "zero_point": Stream(zero_point, self.levels)}

    def read(self, message: Message) -> tuple[Tensor, Tensor]:
        """Scale and zero point, float32, from :meth:`message`."""
        scale = load_scale(values(message, "scale"))
        if self.symmetric:
            return scale, self._fixed_zero_point(scale)
        return scale, values(message, "zero_point").float()

    def codes(self, rows: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The code of the nearest level."""
        return divide(rows, scale).add_(zero_point[:, None]).round_().clamp_(0, self.levels - 1)

    def points(self, codes: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """What codes stand for."""
        return (codes - zero_point[:, None]) * scale[:, None]

    def squared_error(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Of rounding to the nearest level on these ranges, [rows]."""
        stored, zero_point = self.spanning(low, high)
        scale = load_scale(stored)
        codes = self.codes(rows, scale, zero_point)
        error = codes.sub_(zero_point[:, None]).mul_(scale[:, None]).sub_(rows)
        squares: Tensor = torch.linalg.vecdot(error, error)
        return squares

    def _fixed_zero_point(self, like: Tensor) -> Tensor:
        middle = self.levels if self.scheme == "symmetric" else self.levels - 1
        return torch.full_like(like, middle / 2)


def range_of(rows: Tensor, grid: AffineGrid, choice: Literal["minmax", "mse"]) -> tuple[Tensor, Tensor]:
    """The ends (low, high) of each row: its extremes, or the ends of least squared error."""
    if choice == "minmax":
        return minmax(rows, grid.symmetric)
    return least_squares(rows, grid.symmetric, lambda low, high: grid.squared_error(rows, low, high))
