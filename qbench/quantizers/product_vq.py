"""Product vector quantization: short blocks, each coded by one index into a learned codebook."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .vector_codebook import (
    TRAINING_VECTORS,
    CodebookDtype,
    k_means,
    nearest,
    stored,
    training_blocks,
)
from .vectors import blocks, unblocked


class ProductVQParameters(Parameters):
    dimension: int = Field(8, ge=1, le=64, description="consecutive elements in a block")
    bits: int = Field(8, ge=1, le=12, description="bits per block: bits / dimension per element")
    subspaces: int = Field(1, ge=1, le=64, description="codebooks that consecutive blocks take in turn")
    codebook_dtype: CodebookDtype = Field("float16", description="how codewords are stored")


@final
class ProductVQ(Quantizer):
    """Every block of d consecutive elements goes to the nearest of 2^b codewords.

    With m subspaces, block j uses codebook j mod m: a vector of m d elements is coded by the product of m
    codebooks. Codebooks are learned by k-means from at most 2^17 blocks in all, and hold no more codewords than
    there are blocks. Blocks run along the flattened tensor; zeros fill the last one.

    Reference: Jegou, Douze & Schmid 2011, "Product Quantization for Nearest Neighbor Search", eq. 8.
    """

    name = "product-vq"
    family = "vector"
    reference = "Jegou, Douze & Schmid 2011, eq. 8 (IEEE TPAMI 33)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = ProductVQParameters
    sweep = (
        {"dimension": 8, "bits": 8},
        {"dimension": 4, "bits": 8},
        {"dimension": 2, "bits": 6},
        {"dimension": 2, "bits": 8},
    )

    def fit(self, x: Tensor, *, context: Context) -> Message:
        m = self.parameters.subspaces
        vectors = training_blocks(x, self.parameters.dimension)
        count = max(1, min(2**self.parameters.bits, -(-len(vectors) // m)))
        limit = TRAINING_VECTORS // m
        codebooks = [k_means(vectors[s::m], count, context.generator, limit) for s in range(m)]
        return {"codewords": stored(torch.stack(codebooks), self.parameters.codebook_dtype, x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        vectors, codebooks = blocks(x, self.parameters.dimension), values(codebook, "codewords").float()
        codes = torch.zeros(len(vectors), dtype=torch.long, device=x.device)
        for s, codewords in enumerate(codebooks):
            codes[s :: len(codebooks)] = nearest(vectors[s :: len(codebooks)], codewords)
        return {"codes": Stream(codes, codebooks.shape[1])}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        index, codebooks = values(codes, "codes").long(), values(codebook, "codewords").float()
        turn = torch.arange(len(index), device=index.device) % len(codebooks)
        return unblocked(codebooks[turn, index], shape)
