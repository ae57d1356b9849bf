"""Binarization: the sign of each value times the mean magnitude."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import Granularity, Layout, load_scale, require_rows, store_scale


class BinaryParameters(Parameters):
    granularity: Granularity = Field("channel", description="which elements share a scale")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")


@final
class Binary(Quantizer):
    """``x^ = alpha sign(x)`` with ``alpha = mean |x|``, the alpha of least squared error; sign(0) = 1.

    The squared error is ``mean x^2 - alpha^2``, 1 - 2/pi = .36338 for a Gaussian of unit variance.

    Reference: Rastegari et al. 2016, "XNOR-Net", eq. 6.
    """

    name = "binary"
    family = "binary"
    reference = "Rastegari et al. 2016, eq. 6 (arXiv:1603.05279)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = BinaryParameters
    sweep = ({"granularity": "tensor"}, {"granularity": "channel"}, {"granularity": "group"})

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(x)

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        own = self._scales(x) if self.layout.per_group else {}
        require_rows(self.layout.split(x), values(own or codebook, "scale"), self.name)
        return {"codes": Stream(x >= 0, 2), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale = load_scale(values(codes if self.layout.per_group else codebook, "scale"))
        signs = self.layout.split(2.0 * values(codes, "codes").reshape(shape) - 1.0)
        return self.layout.join(signs * scale[:, None], shape)

    def _scales(self, x: Tensor) -> Message:
        return {"scale": store_scale(self.layout.means(x.abs()), "float16")}
