"""Multi-head attention of layers that quantizers reach."""

import math
from typing import final

import torch
from torch import Tensor, nn


@final
class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V in each of ``heads`` heads of d = width / heads features, then a linear layer.

    Takes the place of ``torch.nn.MultiheadAttention`` with ``batch_first``, which keeps its projections in one
    parameter outside any layer: here query, key, value and output are ``nn.Linear``. Products and softmax are
    written out, so that they add in one order on every device. Weights start Xavier-uniform, biases at zero.

    With ``causal`` a position looks at itself and at earlier ones alone: the scores of later ones are minus infinity,
    so that their weights are exactly 0.

    Reference: Vaswani et al., "Attention is all you need", 2017, equation 1 and sections 3.2.2 and 3.2.3.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.output = (_projection(width) for _ in range(4))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False
    ) -> tuple[Tensor, None]:
        """[n, positions, width] each; the attention weights are never returned."""
        q, k, v = (self._split(x) for x in (self.query(query), self.key(key), self.value(value)))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if self.causal:
            scores = scores.masked_fill(_later(scores), -math.inf)
        mixed = torch.softmax(scores, -1) @ v
        return self.output(mixed.transpose(1, 2).flatten(2)), None

    def _split(self, x: Tensor) -> Tensor:
        """[n, heads, positions, d]."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def require_whole_heads(width: int, heads: int) -> None:
    """Refuse a width that heads cannot share; a ValueError, as validators of parameters raise."""
    if width % heads:
        raise ValueError(f"width={width} is no multiple of heads={heads}; change one")


def _later(scores: Tensor) -> Tensor:
    """Which keys come after each query, [queries, keys]; no buffer, which would count as stored."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)


def _projection(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
