"""What trainable quantizers share: the hard value out of any graph, scaled gradients, codebooks to be learned."""

from collections.abc import Iterator
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from ..autograd import straight_through
from ..components import Context, Quantizer
from ..errors import InputError
from ..message import Message, Stream


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
    copies = (
        tensor.detach().clone().requires_grad_() if tensor.is_floating_point() else tensor
        for tensor in _tensors(codebook)
    )
    return _holding(codebook, copies)


@final
class LearnedCodebook(nn.Module):
    """A codebook whose float tensors are parameters and whose other tensors are buffers: all are saved and loaded."""

    def __init__(self, fitted: Message) -> None:
        super().__init__()
        self._like = fitted
        for number, tensor in enumerate(_tensors(fitted)):
            if tensor.is_floating_point():
                self.register_parameter(f"tensor{number}", nn.Parameter(tensor.detach().clone()))
            else:
                self.register_buffer(f"tensor{number}", tensor.clone())

    def message(self) -> Message:
        """The codebook; its tensors are the parameters and buffers themselves."""
        return _holding(self._like, iter(self._own()))

    def assign(self, fitted: Message) -> None:
        """Take the values of another codebook.

        Raises:
            InputError: its tensors have other shapes; nothing was changed then.
        """
        own, values = self._own(), list(_tensors(fitted))
        if [tensor.shape for tensor in own] != [tensor.shape for tensor in values]:
            shapes = [[list(tensor.shape) for tensor in tensors] for tensors in (own, values)]
            raise InputError(
                f"a learned codebook has tensors of shapes {shapes[0]}; the new fit has {shapes[1]}. Use "
                "larger batches, or a quantizer whose codebook does not grow with the data"
            )
        with torch.no_grad():
            for tensor, value in zip(own, values, strict=True):
                tensor.copy_(value)

    def _own(self) -> list[Tensor]:
        return [getattr(self, f"tensor{number}") for number, _ in enumerate(_tensors(self._like))]


def _tensors(message: Message) -> Iterator[Tensor]:
    """All numbers of a message, in order."""
    for value in message.values():
        if isinstance(value, dict):
            yield from _tensors(value)
        else:
            yield value.values if isinstance(value, Stream) else value


def _holding(message: Message, tensors: Iterator[Tensor]) -> Message:
    """The same message with other numbers."""
    found: Message = {}
    for name, value in message.items():
        if isinstance(value, dict):
            found[name] = _holding(value, tensors)
        elif isinstance(value, Stream):
            number = next(tensors)
            found[name] = value if number is value.values else replace(value, values=number)
        else:
            found[name] = next(tensors)
    return found
