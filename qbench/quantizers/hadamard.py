"""A wrapper that rotates a tensor at random before another quantizer codes it."""

from dataclasses import replace
from typing import Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..codec import Code
from ..components import Context, Parameters, Quantizer, Wrapper
from ..errors import InputError
from ..message import Message
from .e8p import E8P
from .reading import values
from .rotation import block_sizes, rotate, rotate_back
from .uniform import Uniform

_LARGEST = 2.0**96
_SEEDS = 2**31 - 2


def _midrise(bits: int) -> Uniform:
    return Uniform(bits=bits, scheme="midrise", granularity="channel", range="mse")


class HadamardParameters(Parameters):
    inner: Quantizer = Field(default_factory=lambda: _midrise(4), description="what codes the rotated tensor")
    sides: Literal["input", "both"] = Field(
        "input", description="what is rotated: the input features of each row, or the output features as well"
    )


@final
class Hadamard(Wrapper):
    """``x^ = Q(x R) R^T``, or ``S^T Q(S x R) R^T`` for sides=both: R and S random rotations, Q the inner quantizer.

    x is taken as [out, in], in all of its dimensions but the first; fewer than two dimensions are one row. R is a
    diagonal of hashed signs, then a Hadamard transform for each power of two that adds up to the number of
    features (784 is 512 + 256 + 16): a row's few large elements spread over their block, and its elements become
    close to Gaussian. The shape stays, and so does every squared error. A last block of few features is mixed
    little. The seed of the signs is drawn by ``fit`` and is 4 bytes of the codebook.

    The rotated tensor gets a power of two of its own, since its largest magnitude is another. The inner quantizer
    finds ``R^T gram R`` and the loss of what is rotated back; for an importance the diagonal of the rotated one,
    its mean over each block. Elements beyond 2^96 are clipped.

    Raises:
        InputError: a gram that is not [in, in].

    Reference: Tseng, Chee, Sun, Kuleshov & De Sa 2024, "QuIP#: Even Better LLM Quantization with Hadamard
    Incoherence and Lattice Codebooks", section 3; one-sided: Ashkboos et al. 2024, "QuaRot".
    """

    name = "hadamard"
    reference = "Tseng et al. 2024, QuIP#, section 3 (arXiv:2402.04396)"
    targets = ("source", "weight", "gradient")
    Parameters = HadamardParameters
    sweep = (
        {"inner": _midrise(2)},
        {"inner": _midrise(3)},
        {"inner": _midrise(4)},
        {"inner": E8P(bits=2), "sides": "both"},
    )

    def fit(self, x: Tensor, *, context: Context) -> Message:
        generator = context.generator
        seed = torch.randint(_SEEDS, (), generator=generator, device=generator.device).to(torch.int32)
        turned = self._turned(x, int(seed))
        return {"seed": seed, **Code(self.inner).fit(turned, self._around(x, context, int(seed)))}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        seed = int(values(codebook, "seed"))
        return Code(self.inner).encode(self._turned(x, seed), codebook, self._around(x, context, seed))

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return self._turned_back(
            Code(self.inner).decode(codes, codebook, shape), int(values(codebook, "seed"))
        )

    def _turned(self, x: Tensor, seed: int) -> Tensor:
        rows = rotate(_rows(x).clamp(-_LARGEST, _LARGEST), seed)
        if self.parameters.sides == "both":
            rows = rotate(rows.T, seed + 1).T
        return rows.reshape(x.shape)

    def _turned_back(self, y: Tensor, seed: int) -> Tensor:
        rows = _rows(y)
        if self.parameters.sides == "both":
            rows = rotate_back(rows.T, seed + 1).T
        return rotate_back(rows, seed).reshape(y.shape)

    def _around(self, x: Tensor, context: Context, seed: int) -> Context:
        """What surrounds the rotated tensor."""
        gram, loss, importance = context.gram, context.loss, context.importance
        if gram is not None:
            gram = _turned_gram(gram, _rows(x).shape[1], seed)
        if importance is not None:
            rows = _block_means(_rows(importance))
            both = self.parameters.sides == "both"
            importance = (_block_means(rows.T).T if both else rows).reshape(x.shape)
        turned_back = None if loss is None else lambda y: loss(_TurnBack.apply(y, self, seed))
        return replace(context, gram=gram, importance=importance, loss=turned_back)


class _TurnBack(torch.autograd.Function):
    """Rotating back, with the gradient of a linear map: its transpose, which is the rotation."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, hadamard: Hadamard, seed: int) -> Tensor:
        ctx.hadamard, ctx.seed = hadamard, seed
        return hadamard._turned_back(y, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.hadamard._turned(gradients[0], ctx.seed), None, None


def _rows(x: Tensor) -> Tensor:
    """``x`` as [out, in]."""
    if x.numel() == 0:
        return x.reshape(0, 1)
    return x.reshape(x.shape[0] if x.dim() >= 2 else 1, -1)


def _turned_gram(gram: Tensor, features: int, seed: int) -> Tensor:
    if gram.shape != (features, features):
        raise InputError(
            f"hadamard: the gram has shape {tuple(gram.shape)}; a tensor of {features} input features needs "
            f"[{features}, {features}]"
        )
    turned = rotate(rotate(gram, seed).T, seed)
    return (turned + turned.T) / 2


def _block_means(rows: Tensor) -> Tensor:
    """Every element replaced by the mean of its block of the rotation: the squares of a Hadamard matrix are equal."""
    if rows.numel() == 0:
        return rows
    parts = torch.split(rows, block_sizes(rows.shape[1]), dim=1)
    return torch.cat([part.mean(1, keepdim=True).expand_as(part) for part in parts], dim=1)
