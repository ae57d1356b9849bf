"""Sparsification: the largest magnitudes and where they stand."""

from typing import Literal, final, get_args

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message
from .reading import values
from .sparse import Coding, read_positions, write_positions


class TopKParameters(Parameters):
    fraction: float = Field(0.01, gt=0, le=1, description="share of the elements that is kept, at least one")
    value_dtype: Literal["float16", "float32"] = Field("float32", description="how a kept value is stored")
    positions: Coding | Literal["shortest"] = Field("shortest", description="how positions are coded")


@final
class TopK(Quantizer):
    """Keeps the ``k = max(1, round(fraction * n))`` largest magnitudes; the rest is zero.

    Among equal magnitudes the first positions win. Positions travel at a fixed length each, as a bitmap, or as the
    gaps between them, coded by Elias or by rANS; ``shortest`` takes what needs the fewest bytes. k of n positions are
    ``log2 C(n, k)`` bits of information, about n h(k / n) with h the binary entropy.

    Reference: Aji & Heafield 2017, "Sparse Communication for Distributed Gradient Descent", section 3.
    """

    name = "topk"
    family = "optimized"
    reference = "Aji & Heafield 2017, section 3 (arXiv:1704.05021)"
    targets = ("source", "weight", "gradient")
    Parameters = TopKParameters
    sweep = (*({"fraction": f} for f in (0.001, 0.01, 0.1)), {"fraction": 0.1, "value_dtype": "float16"})
    version = 2

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        flat, coding = x.reshape(-1), self.parameters.positions
        kept = self._largest(flat.abs())
        codings = get_args(Coding) if coding == "shortest" else (coding,)
        return {"values": self._stored(flat[kept]), **write_positions(kept, flat.numel(), codings)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        stored = values(codes, "values").float()
        kept = read_positions(codes, shape.numel())
        return stored.new_zeros(shape.numel()).index_put((kept,), stored).reshape(shape)

    def _largest(self, magnitudes: Tensor) -> Tensor:
        """Their positions, ascending."""
        if magnitudes.numel() == 0:
            return torch.zeros(0, dtype=torch.long, device=magnitudes.device)
        count = max(1, round(self.parameters.fraction * magnitudes.numel()))
        threshold = magnitudes.topk(count).values[-1]
        above = magnitudes > threshold
        ties = (magnitudes == threshold).nonzero()[: count - int(above.sum()), 0]
        above[ties] = True
        return above.nonzero()[:, 0]

    def _stored(self, kept: Tensor) -> Tensor:
        if self.parameters.value_dtype == "float32":
            return kept
        limit = torch.finfo(torch.float16).max
        return kept.clamp(-limit, limit).half()
