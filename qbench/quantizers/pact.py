"""Parameterized clipping: activations between zero and a learned end, equally spaced levels."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..autograd import straight_through
from ..components import Context, Parameters, Quantizer, Trainable
from ..message import Message, Stream
from .reading import values
from .scaling import divide, least_squares, percentile
from .surrogates import hard


class PACTParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code")
    initial: Literal["mse", "percentile", "max"] = Field(
        "mse", description="alpha before it is trained: of least squared error, a percentile, or the maximum"
    )
    percentile: float = Field(99.9, gt=50, le=100, description="percent below alpha, for initial=percentile")


@final
class PACT(Quantizer, Trainable):
    """``y = (|x| - |x - alpha| + alpha) / 2``, that is x clipped to [0, alpha], ``x^ = round(y / s) s``.

    ``s = alpha / (2^b - 1)``: 2^b levels from 0 to alpha, for what a rectifier returns; negative values become 0. The
    codebook is ``alpha``, float32, of no dimensions.

    In training ``dx^/dalpha`` is 1 where x >= alpha, else 0; ``dx^/dx`` is 1 where 0 <= x < alpha, else 0. The paper
    adds a decay of alpha to the loss: that is the trainer's.

    Reference: Choi et al. 2018, "PACT: Parameterized Clipping Activation", eq. 1 to 3.
    """

    name = "pact"
    family = "optimized"
    reference = "Choi et al. 2018, eq. 1-3 (arXiv:1805.06085)"
    targets = ("activation",)
    Parameters = PACTParameters
    sweep = ({"bits": 2}, {"bits": 4}, {"bits": 8})

    @property
    def steps(self) -> int:
        return int(2**self.parameters.bits - 1)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        row = x.reshape(1, -1).clamp(min=0) if x.numel() else x.new_zeros(1, 1)
        if self.parameters.initial == "mse":
            _, high = least_squares(row, True, lambda _, high: self._squared_error(row, high))
        else:
            _, high = percentile(row, True, self._percent)
        return {"alpha": high[0]}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codes = self._rounded(x.reshape(1, -1), values(codebook, "alpha").reshape(1))
        return {"codes": Stream(codes, self.steps + 1)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return values(codes, "codes").float().reshape(shape) * (values(codebook, "alpha") / self.steps)

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        alpha = values(codebook, "alpha")
        clipped = torch.where(x < 0, torch.zeros_like(x), torch.where(x < alpha, x, alpha))
        return straight_through(clipped, hard(self, x, codebook, context))

    @property
    def _percent(self) -> float:
        return float(self.parameters.percentile) if self.parameters.initial == "percentile" else 100.0

    def _rounded(self, row: Tensor, alpha: Tensor) -> Tensor:
        return divide(row, alpha / self.steps).clamp(0, self.steps).round()

    def _squared_error(self, row: Tensor, alpha: Tensor) -> Tensor:
        error = self._rounded(row, alpha) * (alpha / self.steps)[:, None] - row
        squares: Tensor = torch.linalg.vecdot(error, error)
        return squares
