"""Networks with a layer that nothing depends on, with one layer, and of text; and a quantizer that swells."""

import torch
from torch import Tensor, nn

from qbench.components import Component, Context, Examples, Model, Parameters, Quantizer
from qbench.message import Message, Stream
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.quantizers.adaround import Adaround
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.kmeans_hessian import KMeansHessian
from qbench.quantizers.nf4 import Nf4
from qbench.quantizers.uniform import Uniform


class Deaf(Model):
    """Three layers; nothing comes of the second one's output."""

    name = "deaf"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return DeafNetwork(classes)


class DeafNetwork(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        hidden = self.first(pictures.flatten(1)).relu()
        logits: Tensor = self.last(hidden + 0 * self.second(hidden))
        return logits


class Single(Model):
    """One layer."""

    name = "single"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


class Speller(Model):
    """Characters from the one before, through 16 numbers."""

    name = "speller"
    inputs = "text"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Embedding(classes, 16), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, classes))


class SwellingParameters(Parameters):
    bits: int = 4


class Swelling(Quantizer):
    """Rounding; a tensor whose layer's inputs are not those met first takes 40 bytes more."""

    name = "swelling"
    targets = ("weight",)
    needs = frozenset({"gram"})
    Parameters = SwellingParameters
    met: dict[torch.Size, Tensor] = {}

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        half = 2 ** (self.parameters.bits - 1) - 1
        codes = Stream((x.clamp(-1, 1) * half).round() + half, 2 * half + 1)
        assert context.gram is not None
        same = torch.equal(self.met.setdefault(x.shape, context.gram), context.gram)
        return {"codes": codes, "padding": torch.zeros(0 if same else 40, dtype=torch.uint8)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        half = 2 ** (self.parameters.bits - 1) - 1
        stream = codes["codes"]
        assert isinstance(stream, Stream)
        return (stream.values.float() - half).reshape(shape) / half


COMPONENTS: tuple[type[Component], ...] = (
    *(Mlp, Deaf, Single, Speller, Adam),
    *(Uniform, Gptq, Adaround, KMeansHessian, EntropyCoded, Nf4, Swelling),
)


def text() -> Examples:
    """Of 8 characters; after k comes 3k + 1 mod 8, one time in four another."""
    generator = torch.Generator().manual_seed(0)
    lines = torch.randint(8, (672, 13), generator=generator)
    for at in range(1, 13):
        kept = torch.rand(672, generator=generator) < 0.75
        lines[:, at] = torch.where(kept, (3 * lines[:, at - 1] + 1) % 8, lines[:, at])
    inputs, labels = lines[:, :-1].to(torch.uint8), lines[:, 1:].contiguous()
    return Examples(inputs[:640], labels[:640], inputs[640:], labels[640:], classes=8)
