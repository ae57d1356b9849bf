"""Eight-bit floats with one scale per tensor or channel."""

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .float_codes import SignMagnitude
from .reading import values
from .scaling import Layout, divide, require_rows


class Fp8Parameters(Parameters):
    granularity: Literal["tensor", "channel"] = Field("channel", description="which elements share a scale")


class Fp8(Quantizer):
    """``x^ = scale element(x / scale)`` with ``scale = max |x| / largest``, float32, one per row of the layout."""

    targets = ("source", "weight", "activation", "gradient")
    Parameters = Fp8Parameters
    sweep = ({"granularity": "tensor"}, {"granularity": "channel"})

    @property
    @abstractmethod
    def element(self) -> SignMagnitude:
        """The number format."""

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": self.layout.split(x).abs().amax(1) / self.element.largest}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows, scale = self.layout.split(x), values(codebook, "scale")
        require_rows(rows, scale, self.name)
        codes = self.element.encode(divide(rows, scale))
        return {"codes": Stream(self.layout.join(codes, x.shape), self.element.levels)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        rows = self.layout.split(self.element.decode(values(codes, "codes")).reshape(shape))
        return self.layout.join(rows * values(codebook, "scale")[:, None], shape)
