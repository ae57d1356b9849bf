"""QSGD: magnitudes in units of the bucket's norm, rounded at random, coded by Elias."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Quantizer
from ..message import Coder, Message
from .buckets import Bucketed
from .reading import values
from .scaling import Layout, divide
from .sparse import read_signed, write_signed
from .stochastic_rounding import round_at_random


class QSGDParameters(Bucketed):
    levels: int = Field(7, ge=1, le=2**15, description="levels s of a magnitude above zero")
    bucket_size: int | None = Field(
        512, ge=1, le=2**30, description="consecutive elements that share a norm; none: the whole tensor"
    )
    norm: Literal["l2", "max"] = Field("l2", description="what magnitudes are divided by")
    coder: Coder = Field("elias", description="how levels and signs are coded")


@final
class QSGD(Quantizer):
    """``x^ = ||v|| sign(x) q / s``, with ``q = s |x| / ||v||`` rounded up or down at random; v is the bucket of x.

    E[x^] = x. With p the fractional part of ``s |x| / ||v||`` the squared error of a bucket has the mean
    ``(||v|| / s)^2 sum p (1 - p)``; for norm=l2 that is at most ``min(n / s^2, sqrt(n) / s) ||v||^2``, and at most
    ``s (s + sqrt(n))`` of the q differ from zero on average.

    The norm is a float32. Signed levels are one stream of 2 s + 1 symbols (fixed, rans), or (elias) gaps between
    nonzeros, signs and magnitudes as in the paper's Code_s; a bitmap of the nonzeros replaces the gaps where it is
    shorter. Codewords are Elias delta where the paper takes Elias omega.

    Reference: Alistarh et al. 2017, "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding",
    section 3, lemma 3.1 and theorem 3.2; norm=max is its variant for experiments.
    """

    name = "qsgd"
    family = "stochastic"
    reference = "Alistarh et al. 2017, section 3 (arXiv:1610.02132)"
    targets = ("source", "gradient")
    Parameters = QSGDParameters
    sweep = (
        {"levels": 3, "bucket_size": 128},
        {"levels": 1, "bucket_size": 128},
        {"levels": 7, "norm": "max", "coder": "rans"},
        {"levels": 127, "norm": "max", "coder": "rans"},
    )
    unbiased = True

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        layout, s = self.parameters.layout(x.numel()), self.parameters.levels
        rows = layout.split(x)
        norm = self._norm(rows, x.numel())
        exact = (divide(rows, norm) * s).clamp(-s, s)
        signed = layout.join(round_at_random(exact, context.generator), x.shape).reshape(-1).int()
        return {"norm": norm, **write_signed(signed, s, self.parameters.coder)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        layout: Layout = self.parameters.layout(shape.numel())
        s = self.parameters.levels
        rows = layout.split(read_signed(codes, shape.numel(), s).reshape(shape))
        return layout.join(rows * (values(codes, "norm") / s)[:, None], shape)

    def _norm(self, rows: Tensor, count: int) -> Tensor:
        """[rows], float32. The Euclidean one in units of the largest magnitude, whose square does not underflow."""
        largest = rows.abs().amax(1)
        if self.parameters.norm == "max":
            return largest
        relative = divide(rows, largest)
        relative.view(-1)[count:] = 0.0  # repetitions that fill a bucket do not count
        norm: Tensor = largest * torch.linalg.vector_norm(relative, dim=1)
        return norm
