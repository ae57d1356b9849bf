"""A small character Transformer."""

from typing import Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..components import Model, Parameters
from .attention import Attention, require_whole_heads

DEVIATION = 0.02


class GptParameters(Parameters):
    width: int = Field(128, ge=1, le=65536, description="features of a character")
    depth: int = Field(4, ge=1, le=256, description="decoder blocks")
    heads: int = Field(4, ge=1, le=256, description="heads of an attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features that is dropped")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        require_whole_heads(self.width, self.heads)
        return self


@final
class Gpt(Model):
    """A Transformer decoder: embeddings of characters and of positions, ``depth`` blocks, a LayerNorm, a linear layer.

    A block is causal attention and a hidden layer of 4 width GELU units (exact, by erf), each after a LayerNorm and
    added to its input. Weights and embeddings start normal with deviation 0.02, those of a layer that is added to its
    input with 0.02 / sqrt(2 depth), biases at zero. Input and output embedding are two tensors, unlike GPT's: the last
    layer is a linear layer like any other, and the embeddings, which no quantizer reaches, stay as they are trained.

    Reference: Vaswani et al., "Attention is all you need", 2017; Radford et al., "Improving language understanding by
    generative pre-training", 2018; LayerNorm before each part and the initialization: Radford et al., "Language models
    are unsupervised multitask learners", 2019, section 2.3.
    """

    name = "gpt"
    reference = "Radford et al., Language models are unsupervised multitask learners, 2019, section 2.3"
    inputs = "text"

    Parameters = GptParameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        values = self.parameters
        return _Decoder(shape[0], classes, values.width, values.depth, values.heads, values.dropout)


@final
class _Decoder(nn.Module):
    """From numbers of characters [n, positions], of which there are at most ``length``, to logits."""

    def __init__(self, length: int, classes: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(_Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self._initialize(depth)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embedding(characters) + self.positions[: characters.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(self.dropout(x))))
        return logits

    def _initialize(self, depth: int) -> None:
        nn.init.normal_(self.positions, std=DEVIATION)
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Embedding | nn.Linear):
                added = name.endswith((".attention.output", ".projection"))
                nn.init.normal_(layer.weight, std=DEVIATION / (2 * depth) ** 0.5 if added else DEVIATION)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)


@final
class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=True)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 4 * width)
        self.activation = nn.GELU()
        self.projection = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[n, positions, width], and so is the result."""
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, y, y)[0])
        hidden = self.activation(self.hidden(self.hidden_norm(x)))
        added: Tensor = self.dropout(self.projection(hidden))
        return x + added
