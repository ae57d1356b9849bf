"""Logarithmic quantization: every level is a power of two."""

import math
from functools import lru_cache
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .float_codes import E8M0, E8M0_BIAS, SignMagnitude, halfway
from .reading import values
from .scaling import Granularity, Layout, require_rows

_SEARCHED = 8


class Log2Parameters(Parameters):
    bits: int = Field(4, ge=2, le=8, description="bits per code, the sign among them")
    rounding: Literal["log", "linear"] = Field("log", description="nearest exponent, or nearest level")
    range: Literal["max", "mse"] = Field("mse", description="how the largest level is chosen")
    granularity: Granularity = Field("channel", description="which elements share a largest level")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")


@final
class Log2(Quantizer):
    """``x^ = sign(x) 2^(p - (L - k))``, k = 1 to L = 2^(bits-1) - 1, or 0 where k = 0.

    ``k = clamp(round(log2 |x|) - p + L, 0, L)`` with rounding=log: an exponent changes at 2^(1/2) times a level.
    With rounding=linear |x| goes to the nearest of the levels and 0. A code is the sign bit above k.

    The largest level 2^p is that nearest in exponent to the largest magnitude (range=max) or the one of least
    squared error among it and the seven below (range=mse). p is stored in 8 bits, as E8M0, per tensor, channel or
    group.

    Reference: Miyashita et al. 2016, "Convolutional Neural Networks using Logarithmic Data Representation", eq. 3
    and 4.
    """

    name = "log2"
    family = "scalar"
    reference = "Miyashita et al. 2016, eq. 3-4 (arXiv:1603.01025)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = Log2Parameters
    sweep = (*({"bits": bits} for bits in (2, 3, 4)), {"bits": 4, "rounding": "linear"})

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    @property
    def element(self) -> SignMagnitude:
        """Levels and thresholds in units of the largest level."""
        return _powers(2 ** (self.parameters.bits - 1) - 1, self.parameters.rounding)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(self.layout.split(x))

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x)
        own = self._scales(rows) if self.layout.per_group else {}
        scale = _load(own or codebook)
        require_rows(rows, scale, self.name)
        codes = self.layout.join(self.element.encode(rows / scale), x.shape)
        return {"codes": Stream(codes, self.element.levels), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale = _load(codes if self.layout.per_group else codebook)
        rows = self.layout.split(self.element.decode(values(codes, "codes")).reshape(shape))
        return self.layout.join(rows * scale, shape)

    def _scales(self, rows: Tensor) -> Message:
        fraction, exponent = torch.frexp(rows.abs().amax(1))
        code = (exponent - (fraction < math.sqrt(0.5)).int() + E8M0_BIAS).clamp(0, 2 * E8M0_BIAS)
        if self.parameters.range == "mse":
            code = self._least_error(rows, code)
        return {"scale": Stream(code, E8M0.numel())}

    def _least_error(self, rows: Tensor, code: Tensor) -> Tensor:
        candidates = torch.stack([(code - below).clamp(min=0) for below in range(_SEARCHED)])
        errors = torch.stack([self._squared_error(rows, candidate) for candidate in candidates])
        return candidates.gather(0, errors.argmin(0)[None])[0]

    def _squared_error(self, rows: Tensor, code: Tensor) -> Tensor:
        scale = _power(code)
        error = self.element.decode(self.element.encode(rows / scale)) * scale - rows
        squares: Tensor = torch.linalg.vecdot(error, error)
        return squares


def _load(scales: Message) -> Tensor:
    return _power(values(scales, "scale"))


def _power(code: Tensor) -> Tensor:
    """The largest level of each row, [rows, 1]."""
    return E8M0.to(code.device)[code.long()][:, None]


@lru_cache
def _powers(count: int, rounding: Literal["log", "linear"]) -> SignMagnitude:
    """Zero and the powers of two from 2^(1 - count) to 1, and the thresholds between them."""
    magnitudes = torch.tensor([0.0, *(math.ldexp(1.0, k - count) for k in range(1, count + 1))])
    if rounding == "linear":
        return SignMagnitude(magnitudes, halfway(magnitudes))
    return SignMagnitude(magnitudes, magnitudes[1:] * math.sqrt(0.5))
