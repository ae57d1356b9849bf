"""A wrapper that codes differences to what both ends of a stream predict."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Differential, Parameters, Quantizer, Wrapper
from ..message import Message
from .signsgd import SignSGD
from .topk import TopK

_DECAY = {"last": 1.0, "average": 0.9}


class PredictiveParameters(Parameters):
    inner: Quantizer = Field(
        default_factory=lambda: TopK(fraction=0.01), description="what codes differences"
    )
    predictor: Literal["last", "average"] = Field(
        "last", description="the last reconstruction, or a moving average of all of them"
    )
    decay: float | None = Field(
        None,
        ge=0,
        le=1,
        description="factor of the last reconstruction (1), or of the average before it (0.9)",
    )


@final
class Predictive(Wrapper, Differential):
    """``x^_t = z_t + Q(x_t - z_t)``: Q the inner quantizer, z_t what both ends predict from x^_1 to x^_(t-1), z_1 = 0.

    - last: ``z_(t+1) = decay x^_t``, decay 1 unless given.
    - average: ``z_(t+1) = decay z_t + (1 - decay) x^_t``, decay 0.9 unless given.

    Predictions live in the stream, at the sender and at the receiver (:mod:`qbench.channel`), and cost no bits. A
    tensor that is coded alone is the first of its stream, and is coded as ``inner`` codes it.

    Of a first-order autoregression of correlation rho, last with decay=rho leaves differences of variance
    ``(1 - rho^2) sigma^2 + rho^2 D`` at distortion D. Where Q has distortion e times the variance of what it codes, the
    gain over Q alone is ``(1 - e rho^2) / (1 - rho^2)``. Last gains where correlation exceeds 1/2 (decay=1, small e);
    below that it loses. With topk and last it is EF21, which needs no error feedback; with an unbiased Q and average it
    is DIANA.

    Reference: Jayant & Noll 1984, "Digital Coding of Waveforms", section 6.3 (DPCM); Richtarik, Sokolov & Fatkhullin
    2021, "EF21", algorithm 2; Mishchenko et al. 2019, "Distributed Learning with Compressed Gradient Differences",
    algorithm 1.
    """

    name = "predictive"
    reference = "Jayant & Noll 1984, section 6.3; Richtarik, Sokolov & Fatkhullin 2021 (arXiv:2106.05203)"
    targets = ("gradient",)
    Parameters = PredictiveParameters
    sweep = (
        {"inner": TopK(fraction=0.01)},
        {"inner": SignSGD()},
        {"inner": SignSGD(), "predictor": "average"},
    )

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return self.inner.fit(x, context=context)

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return self.inner.encode(x, codebook, context=context)

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return self.inner.decode(codes, codebook, shape)

    def predict(self, prediction: Tensor, reconstruction: Tensor) -> Tensor:
        given, predictor = self.parameters.decay, self.parameters.predictor
        decay = _DECAY[predictor] if given is None else float(given)
        if predictor == "last":
            return reconstruction * decay
        return prediction * decay + reconstruction * (1 - decay)
