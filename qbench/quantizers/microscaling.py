"""Blocks of 32 elements with a shared power of two, as in the OCP microscaling formats."""

from abc import abstractmethod

import torch
from torch import Tensor

from ..components import Context, Quantizer
from ..message import Message, Stream
from .float_codes import E8M0, E8M0_BIAS, SignMagnitude
from .reading import values
from .scaling import Layout

BLOCKS = Layout("group", 32)


class Microscaling(Quantizer):
    """``x^ = X element(x / X)``, ``X = 2^(floor(log2(max |x|)) - floor(log2(largest)))`` for each block of 32.

    A block is 32 consecutive elements of the flattened tensor. X is sent as an E8M0 code, 8 bits; where it would
    leave 2^-127..2^127 it is the end of that range. Elements round to nearest even and saturate.

    Reference: OCP Microscaling Formats (MX) Specification v1.0, 2023, sections 5 and 6.3; Rouhani et al. 2023,
    "Microscaling Data Formats for Deep Learning", algorithm 1.
    """

    reference = "OCP Microscaling Formats v1.0, 2023; Rouhani et al. 2023, algorithm 1 (arXiv:2310.10537)"
    targets = ("source", "weight", "activation", "gradient")

    @property
    @abstractmethod
    def element(self) -> SignMagnitude:
        """The number format of an element."""

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        blocks = BLOCKS.split(x)
        _, exponent = torch.frexp(blocks.abs().amax(1))
        scale = (exponent - 1 - self.element.exponent + E8M0_BIAS).clamp(0, 2 * E8M0_BIAS)
        codes = self.element.encode(blocks / _power(scale)[:, None])
        return {
            "codes": Stream(BLOCKS.join(codes, x.shape), self.element.levels),
            "scale": Stream(scale, E8M0.numel()),
        }

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        blocks = BLOCKS.split(self.element.decode(values(codes, "codes")).reshape(shape))
        return BLOCKS.join(blocks * _power(values(codes, "scale"))[:, None], shape)


def _power(code: Tensor) -> Tensor:
    return E8M0.to(code.device)[code.long()]
