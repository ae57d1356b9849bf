"""Residual vector quantization: a block is a sum of codewords, each of which codes what the ones before left."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .vector_codebook import (
    CodebookDtype,
    beam_search,
    residual_codebooks,
    summed,
    training_blocks,
)
from .vectors import blocks, unblocked


class ResidualVQParameters(Parameters):
    stages: int = Field(2, ge=1, le=16, description="codewords that are added up")
    bits: int = Field(8, ge=1, le=12, description="bits per stage: stages * bits / dimension per element")
    dimension: int = Field(8, ge=1, le=64, description="consecutive elements in a block")
    search: Literal["greedy", "beam"] = Field("beam", description="how the encoder looks for the sum")
    width: int = Field(8, ge=1, le=64, description="partial sums that are kept, for search=beam")
    codebook_dtype: CodebookDtype = Field("float16", description="how codewords are stored")


@final
class ResidualVQ(Quantizer):
    """Every block of d consecutive elements is ``c_1[i_1] + ... + c_M[i_M]``, an index of b bits each.

    Codebook m is learned by k-means (from at most 2^17 vectors) from what the earlier ones leave: the residuals of
    all paths the encoder keeps. It holds no more codewords than there are blocks. The encoder takes the nearest
    codeword stage by stage, or keeps the ``width`` best partial sums; the beam never ends worse than the greedy
    choice. Blocks run along the flattened tensor; zeros fill the last one.

    Reference: Juang & Gray 1982, "Multiple Stage Vector Quantization for Speech Coding"; Chen, Guan & Wang
    2010, "Approximate Nearest Neighbor Search by Residual Vector Quantization", section 3.
    """

    name = "residual-vq"
    family = "vector"
    reference = "Juang & Gray 1982, ICASSP; Chen, Guan & Wang 2010, section 3 (Sensors 10)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = ResidualVQParameters
    sweep = (
        {"stages": 2, "bits": 8, "dimension": 8, "search": "greedy"},
        {"stages": 2, "bits": 8, "dimension": 8},
        {"stages": 4, "bits": 4, "dimension": 8},
        {"stages": 2, "bits": 8, "dimension": 4},
    )

    def fit(self, x: Tensor, *, context: Context) -> Message:
        p = self.parameters
        vectors = training_blocks(x, p.dimension)
        count = max(1, min(2**p.bits, len(vectors)))
        codebooks = residual_codebooks(
            vectors, p.stages, count, context.generator, p.codebook_dtype, self._width
        )
        return {"codewords": codebooks.to(x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codebooks = values(codebook, "codewords").float()
        codes = beam_search(blocks(x, self.parameters.dimension), codebooks, self._width)
        return {"codes": Stream(codes, codebooks.shape[1])}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        index = values(codes, "codes").reshape(-1, self.parameters.stages)
        return unblocked(summed(index, values(codebook, "codewords").float()), shape)

    @property
    def _width(self) -> int:
        return int(self.parameters.width) if self.parameters.search == "beam" else 1
