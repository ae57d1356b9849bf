"""Mu-law companding: equal steps in the logarithm, as telephones have done since 1972."""

import math

import torch
from pydantic import Field
from torch import Tensor

import qbench
from qbench import Context, Message, Stream


class MuLawParameters(qbench.Parameters):
    bits: int = Field(8, ge=1, le=16)
    mu: float = Field(255.0, gt=0)


class MuLaw(qbench.Quantizer):
    """2^bits equal cells of y = sign(x) ln(1 + mu |x| / peak) / ln(1 + mu), each decoded to its midpoint."""

    name = "mu-law"
    reference = "ITU-T G.711, 1972"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = MuLawParameters
    sweep = ({"bits": 4}, {"bits": 8})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"peak": x.abs().max() if x.numel() else x.new_zeros(())}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        mu, levels = self.parameters.mu, 2**self.parameters.bits
        y = x.sign() * torch.log1p(mu * x.abs() / codebook["peak"].clamp(min=1e-30)) / math.log1p(mu)
        return {"codes": Stream(((y + 1) * levels / 2).floor().clamp(0, levels - 1), levels)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        mu, levels = self.parameters.mu, 2**self.parameters.bits
        y = (codes["codes"].values.float() + 0.5) * 2 / levels - 1
        return (y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu * codebook["peak"]).reshape(shape)


@qbench.hookimpl
def qbench_quantizers() -> list[type[qbench.Quantizer]]:
    return [MuLaw]
