"""Learned step size: uniform levels whose step is trained with the weights."""

import math
from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..autograd import straight_through
from ..components import Context, Parameters, Quantizer, Trainable
from ..message import Message, Stream
from .reading import values
from .scaling import Layout, divide, least_squares, require_rows
from .surrogates import hard, scaled_gradient


class LSQParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code")
    signed: bool | Literal["auto"] = Field(
        True,
        description="levels on both sides of zero, or from zero up; auto: from zero up where nothing is negative",
    )
    granularity: Literal["tensor", "channel"] = Field("tensor", description="which elements share a step")
    initial: Literal["mean-magnitude", "mse"] = Field(
        "mean-magnitude", description="the step before it is trained: the paper's, or of least squared error"
    )

    @model_validator(mode="after")
    def _one_bit_has_two_signs(self) -> Self:
        if self.bits == 1 and self.signed is not False:
            raise ValueError("one signed bit has no positive level; use signed=false or bits of 2 to 8")
        return self


@final
class LSQ(Quantizer, Trainable):
    """``x^ = s round(clip(x / s, -Q_N, Q_P))`` with a learned step s.

    Signed: Q_N = 2^(b-1), Q_P = 2^(b-1) - 1; unsigned, for what a rectifier returns: Q_N = 0, Q_P = 2^b - 1. The
    codebook is ``step``, float32, [1] or [channels], at first ``2 mean |x| / sqrt(Q_P)``; for signed=auto also
    ``signed``, a bool of no dimensions. s is the magnitude of ``step``.

    In training, with v = x / s inside -Q_N < v < Q_P: ``dx^/dx = 1`` and ``dx^/ds = round(v) - v``; at or below -Q_N
    and at or above Q_P: 0, and -Q_N and Q_P. The gradient of s is multiplied by ``1 / sqrt(N Q_P)``, N elements
    that share the step; for activations N counts one sample, if ``context.public["samples"]`` says how many x holds.

    Reference: Esser et al. 2020, "Learned Step Size Quantization", eq. 1 to 5 and section 2.1 and 2.2.
    """

    name = "lsq"
    family = "optimized"
    reference = "Esser et al. 2020, eq. 1-5 (arXiv:1902.08153)"
    targets = ("source", "weight", "activation")
    Parameters = LSQParameters
    sweep = ({"bits": 2}, {"bits": 3}, {"bits": 4}, {"bits": 4, "initial": "mse"})

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity)

    def ends(self, codebook: Message) -> tuple[int, int]:
        """Q_N and Q_P."""
        bits, signed = self.parameters.bits, self.parameters.signed
        if signed == "auto":
            signed = bool(values(codebook, "signed"))
        return (2 ** (bits - 1), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        codebook: Message = {"signed": (x < 0).any()} if self.parameters.signed == "auto" else {}
        ends = self.ends(codebook)
        if self.parameters.initial == "mean-magnitude":
            return {"step": 2 * self.layout.means(x.abs()) / math.sqrt(ends[1]), **codebook}
        rows = self.layout.split(x)
        _, high = least_squares(rows, True, lambda _, high: _squared_error(rows, high / ends[1], ends))
        return {"step": high / ends[1], **codebook}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows, step, ends = self.layout.split(x), _step(codebook), self.ends(codebook)
        require_rows(rows, step, self.name)
        codes = self.layout.join(_rounded(rows, step, ends), x.shape)
        return {"codes": Stream(codes + ends[0], 2**self.parameters.bits)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        rows = self.layout.split(values(codes, "codes").float().reshape(shape) - self.ends(codebook)[0])
        return self.layout.join(rows * _step(codebook)[:, None], shape)

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        rows, (lowest, highest) = self.layout.split(x), self.ends(codebook)
        count = rows.shape[1] / (context.public or {}).get("samples", 1)
        step = scaled_gradient(_step(codebook), 1 / math.sqrt(count * highest))
        v = divide(rows, step)
        inside = (v > -lowest) & (v < highest)
        rounded = torch.where(inside, straight_through(v, v.round()), v.detach().clamp(-lowest, highest))
        soft = self.layout.join(rounded * step[:, None], x.shape)
        return straight_through(soft, hard(self, x, codebook, context))


def _step(codebook: Message) -> Tensor:
    # an update may carry a small step across zero, from where no gradient would bring it back
    return values(codebook, "step").abs()


def _rounded(rows: Tensor, step: Tensor, ends: tuple[int, int]) -> Tensor:
    """Codes from -Q_N to Q_P for ends (Q_N, Q_P)."""
    lowest, highest = ends
    return divide(rows, step).clamp(-lowest, highest).round()


def _squared_error(rows: Tensor, step: Tensor, ends: tuple[int, int]) -> Tensor:
    error = _rounded(rows, step, ends) * step[:, None] - rows
    squares: Tensor = torch.linalg.vecdot(error, error)
    return squares
