"""What trainable quantizers share: the hard value out of any graph, scaled gradients, codebooks to be learned."""

import torch
from torch import Tensor

from ..components import Context, Quantizer
from ..message import Message
from ..straight_through import straight_through


def hard(quantizer: Quantizer, x: Tensor, codebook: Message, context: Context) -> Tensor:
    """``decode(encode(x))``, to which no gradient belongs."""
    with torch.no_grad():
        codes = quantizer.encode(x.detach(), codebook, context=context)
        return quantizer.decode(codes, codebook, x.shape)


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` itself, its gradient times ``factor``."""
    return straight_through(factor * x, x)


def learnable(codebook: Message) -> Message:
    """The same codebook with every float tensor, at any depth, a leaf that requires a gradient."""
    learned: Message = {}
    for name, value in codebook.items():
        if isinstance(value, dict):
            learned[name] = learnable(value)
        elif isinstance(value, Tensor) and value.is_floating_point():
            learned[name] = value.detach().clone().requires_grad_()
        else:
            learned[name] = value
    return learned
