"""k-means in one dimension, where the optimum can be found: any number of levels."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scalar_codebook import look_up, nearest, optimal


class KMeansParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code, where levels is not given")
    levels: int | None = Field(None, ge=2, le=256, description="number of levels, any; overrides bits")


@final
class KMeans(Quantizer):
    """Every value goes to the nearest of k levels of least mean squared error, one codebook for a tensor.

    In one dimension clusters are intervals, so dynamic programming finds the optimum that k-means searches. A
    count that is no power of two packs into radix words: 5 levels take 2.333 bits.

    Reference: Han et al. 2016, "Deep Compression", eq. 2; Wu 1991, "Optimal Quantization by Matrix
    Searching".
    """

    name = "kmeans"
    family = "scalar"
    reference = "Han et al. 2016, eq. 2 (arXiv:1510.00149); Wu 1991, Journal of Algorithms 12"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = KMeansParameters
    sweep = (*({"bits": b} for b in (1, 2, 3, 4, 8)), {"levels": 3}, {"levels": 5})

    @property
    def count(self) -> int:
        return int(self.parameters.levels or 2**self.parameters.bits)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"levels": optimal(x, self.count).float().to(x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codes = nearest(x.reshape(1, -1), values(codebook, "levels")[None])
        return {"codes": Stream(codes, self.count)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return look_up(values(codes, "codes")[None], values(codebook, "levels")[None]).reshape(shape)
