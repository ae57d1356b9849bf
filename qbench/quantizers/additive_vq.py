"""Additive vector quantization: a block is a sum of codewords that were learned together."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .vector_codebook import (
    CodebookDtype,
    beam_search,
    least_squares_codebooks,
    residual_codebooks,
    stored,
    summed,
    training_blocks,
)
from .vectors import blocks, unblocked


class AdditiveVQParameters(Parameters):
    stages: int = Field(2, ge=1, le=8, description="codewords that are added up")
    bits: int = Field(8, ge=1, le=8, description="bits per codeword: stages * bits / dimension per element")
    dimension: int = Field(8, ge=1, le=64, description="consecutive elements in a block")
    width: int = Field(8, ge=1, le=64, description="partial sums that the beam search keeps")
    rounds: int = Field(
        5, ge=0, le=100, description="times that all codebooks are learned anew from the codes"
    )
    codebook_dtype: CodebookDtype = Field("float16", description="how codewords are stored")


@final
class AdditiveVQ(Quantizer):
    """Every block of d consecutive elements is ``c_1[i_1] + ... + c_M[i_M]``, an index of b bits each.

    From the codebooks of ``residual-vq``, rounds of two steps: codes by beam search, then all codewords at once by
    least squares given the codes. The best round on at most 2^15 training blocks is kept. Codes as ``residual-vq``.

    Reference: Babenko & Lempitsky 2014, "Additive Quantization for Extreme Vector Compression", eq. 4 to 7.
    """

    name = "additive-vq"
    family = "vector"
    reference = "Babenko & Lempitsky 2014, eq. 4-7 (CVPR)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = AdditiveVQParameters
    sweep = (
        {"stages": 2, "bits": 8, "dimension": 8},
        {"stages": 4, "bits": 4, "dimension": 8},
        {"stages": 2, "bits": 6, "dimension": 4},
    )

    def fit(self, x: Tensor, *, context: Context) -> Message:
        p = self.parameters
        vectors = training_blocks(x, p.dimension)
        count = max(1, min(2**p.bits, len(vectors)))
        codebooks = residual_codebooks(vectors, p.stages, count, context.generator, p.codebook_dtype, p.width)
        codebooks = least_squares_codebooks(vectors, codebooks, p.width, p.rounds)
        return {"codewords": stored(codebooks, p.codebook_dtype, x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codebooks = values(codebook, "codewords").float()
        codes = beam_search(blocks(x, self.parameters.dimension), codebooks, self.parameters.width)
        return {"codes": Stream(codes, codebooks.shape[1])}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        index = values(codes, "codes").reshape(-1, self.parameters.stages)
        return unblocked(summed(index, values(codebook, "codewords").float()), shape)
