"""Soft assignment to codewords that hardens while training goes on; what is stored is the nearest codeword."""

import math
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..autograd import straight_through
from ..components import Context, Parameters, Quantizer, Trainable
from ..message import Message, Stream
from .reading import values
from .surrogates import hard
from .vector_codebook import (
    k_means,
    nearest,
    training_blocks,
)
from .vectors import blocks, unblocked


class SoftToHardParameters(Parameters):
    dimension: int = Field(1, ge=1, le=8, description="consecutive elements in a block")
    bits: int = Field(4, ge=1, le=8, description="bits per block: bits / dimension per element")
    sigma_start: float = Field(
        1.0, gt=0, le=1e6, description="hardness when training begins, in units of 1 / spacing^2"
    )
    sigma_end: float = Field(
        100.0, gt=0, le=1e6, description="hardness when training ends, in units of 1 / spacing^2"
    )


@final
class SoftToHard(Quantizer, Trainable):
    """Every block z of d elements goes to the nearest of 2^b learned codewords c_j.

    In training its gradients, for z and for every codeword, are those of the soft code ``sum_j phi_j(z) c_j``,
    ``phi(z) = softmax(-sigma |z - c_j|^2)``, while the value is the hard one; the paper's forward pass is soft too,
    and both agree as sigma grows. ``sigma = sigma_start^(1 - t) sigma_end^t / spacing^2`` at ``t = context.progress``
    (the paper lets it follow the gap between soft and hard error), where ``spacing^2 = 12 v L^(-2/d)`` for L codewords
    of variance v per element: equally spaced ones lie that far apart. :meth:`assignments` gives phi, for a loss on its
    entropy.

    The codebook is ``codewords``, float32, [L, d], at first by k-means; no more than there are blocks.

    Reference: Agustsson et al. 2017, "Soft-to-Hard Vector Quantization for End-to-End Learning Compressible
    Representations", section 3.
    """

    name = "soft-to-hard"
    family = "optimized"
    reference = "Agustsson et al. 2017, section 3 (arXiv:1704.00648)"
    targets = ("source", "weight", "activation")
    Parameters = SoftToHardParameters
    sweep = ({"bits": 2}, {"bits": 4}, {"dimension": 2, "bits": 4})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        vectors = training_blocks(x, self.parameters.dimension)
        count = max(1, min(2**self.parameters.bits, len(vectors)))
        return {"codewords": k_means(vectors, count, context.generator).to(x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codewords = values(codebook, "codewords")
        return {"codes": Stream(nearest(blocks(x, self.parameters.dimension), codewords), len(codewords))}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return unblocked(values(codebook, "codewords")[values(codes, "codes").long()], shape)

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        soft = self.assignments(x, codebook, context.progress) @ values(codebook, "codewords")
        return straight_through(unblocked(soft, x.shape), hard(self, x, codebook, context))

    def assignments(self, x: Tensor, codebook: Message, progress: float) -> Tensor:
        """phi, [blocks, codewords], each row a distribution: how much a block belongs to each codeword."""
        vectors, codewords = blocks(x, self.parameters.dimension), values(codebook, "codewords")
        # |z|^2 is the same for every codeword and leaves the softmax as it is
        closeness = 2 * vectors @ codewords.T - codewords.square().sum(1)
        return torch.softmax(self.sigma(codewords, progress) * closeness, 1)

    def sigma(self, codewords: Tensor, progress: float) -> float:
        """The hardness at ``progress`` of training, 0 to 1, for codewords [L, d]."""
        start, end = math.log(self.parameters.sigma_start), math.log(self.parameters.sigma_end)
        relative = math.exp(start + progress * (end - start))
        variance = float(codewords.detach().double().var(0, correction=0).mean())
        spacing = 12 * variance * len(codewords) ** (-2 / self.parameters.dimension)
        return relative / spacing if spacing > 0 else relative
