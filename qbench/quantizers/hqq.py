"""HQQ: a zero point for each group that makes the p-norm of the error small, p < 1, without any data."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import Layout, divide, load_scale, store_scale

_LARGEST_RATIO = 1024  # of a group's magnitudes to its step: a float16 zero point up to there is right to 1/2
_LARGEST_ZERO_POINT = 2048.0
_LARGEST = 2.0**32  # far beyond what the largest scale reaches; squares must not overflow


class HqqParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group")
    p: float = Field(0.7, gt=0, le=1, description="the norm of the error")
    beta: float = Field(
        10.0, gt=0, le=1e6, description="first weight of the splitting, for x of unit variance"
    )
    kappa: float = Field(1.01, ge=1, le=2, description="growth of beta in a step")
    iterations: int = Field(20, ge=0, le=10_000, description="at most so many steps")


@final
class Hqq(Quantizer):
    """Half-quadratic quantization, ``min over z of |x - scale (Q(x) - z)|_p^p``, p < 1: outliers cost little.

    ``Q(x) = clamp(round(x / scale + z), 0, 2^b - 1)`` with ``scale = (max - min) / (2^b - 1)`` of a group and,
    at first, ``z = -min / scale``. With x^ the reconstruction, repeat

    - ``e = shrink(x - x^)``, ``shrink(u) = sign(u) max(0, |u| - |u|^(p-1) / beta)``,
    - ``z = mean(Q(x) - (x - e) / scale)`` over the group; beta grows by the factor kappa,

    until the mean ``|x - x^|`` over all groups no longer falls, or ``iterations`` is reached. beta counts in
    units of x's root mean square, so that a tensor's scale does not matter.

    A group is ``group_size`` consecutive elements; scale and zero point are stored in float16, 32 bits a group,
    and the codes are those of nearest rounding under what is stored. Where all of a group lies far from zero,
    the scale is at least ``max |x| / 1024``, for the zero point's sake.

    Reference: Badri & Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models", the two
    sub-problems of its solver and their closed forms.
    """

    name = "hqq"
    family = "optimized"
    reference = "Badri & Shaji 2023, Half-Quadratic Quantization (mobiusml.github.io/hqq_blog)"
    targets = ("source", "weight")
    Parameters = HqqParameters
    sweep = tuple({"bits": b} for b in (2, 3, 4, 8))

    @property
    def levels(self) -> int:
        return int(2**self.parameters.bits)

    @property
    def layout(self) -> Layout:
        return Layout("group", self.parameters.group_size)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x).clamp(-_LARGEST, _LARGEST)
        low, high = rows.amin(1), rows.amax(1)
        least = torch.maximum(high, -low) / _LARGEST_RATIO
        stored = store_scale(torch.maximum((high - low) / (self.levels - 1), least), "float16")
        scale = load_scale(stored)
        zero_point = self._zero_point(rows, scale, divide(-low[:, None], scale)[:, 0])
        zero_point = zero_point.clamp(-_LARGEST_ZERO_POINT, _LARGEST_ZERO_POINT).half()
        codes = self._codes(rows, scale, zero_point.float())
        return {
            "codes": Stream(self.layout.join(codes, x.shape), self.levels),
            "scale": stored,
            "zero_point": zero_point,
        }

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        scale, zero_point = load_scale(values(codes, "scale")), values(codes, "zero_point").float()
        return self.layout.join((rows - zero_point[:, None]) * scale[:, None], shape)

    def _codes(self, rows: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        return divide(rows, scale).add_(zero_point[:, None]).round_().clamp_(0, self.levels - 1)

    def _zero_point(self, rows: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """The zero point of each group [groups], by half-quadratic splitting from a first one."""
        least, beta = torch.tensor(torch.inf), self.parameters.beta
        unit = rows.square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        for _ in range(self.parameters.iterations):
            codes = self._codes(rows, scale, zero_point)
            error = rows - (codes - zero_point[:, None]) * scale[:, None]
            outliers = shrink(error / unit, self.parameters.p, beta) * unit
            zero_point = (codes - divide(rows - outliers, scale)).mean(1)
            beta *= self.parameters.kappa
            if not (found := error.abs().mean()) < least:
                break
            least = found
        return zero_point


def shrink(u: Tensor, p: float, beta: float) -> Tensor:
    """``sign(u) max(0, |u| - |u|^(p-1) / beta)``, the generalized soft threshold; for p = 1 the soft one."""
    size = u.abs()
    return (size - size.pow(p - 1) / beta).clamp(min=0) * u.sign()
