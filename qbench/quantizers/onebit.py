"""1-bit SGD: the sign of each value, and the means of what is positive and negative."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import Granularity, Layout, ScaleDtype, load_scale, store_scale


class OneBitParameters(Parameters):
    granularity: Granularity = Field("channel", description="which elements share two levels")
    group_size: int = Field(512, ge=1, le=2**20, description="elements per group, for granularity=group")
    scale_dtype: ScaleDtype = Field("float32", description="how a level is stored")


@final
class OneBit(Quantizer):
    """``x^ = mean of all x >= 0`` where x >= 0, else ``mean of all x < 0``; two levels per channel, group or tensor.

    They are the levels of least squared error for a threshold at zero, decided for each message. For a Gaussian they
    are +-sqrt(2/pi) times its deviation, with the error 1 - 2/pi of Lloyd and Max. The paper has two for each column
    of a gradient matrix; its error feedback is the channel's.

    Reference: Seide et al. 2014, "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed
    Training of Speech DNNs", section 3.
    """

    name = "onebit"
    family = "binary"
    reference = "Seide et al. 2014, section 3 (Interspeech)"
    targets = ("source", "gradient")
    Parameters = OneBitParameters
    sweep = (
        {},
        {"granularity": "group"},
        {"granularity": "group", "group_size": 64, "scale_dtype": "float16"},
    )

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        positive = x >= 0
        return {
            "signs": Stream(positive, 2),
            "above": self._mean_magnitude(x, positive),
            "below": self._mean_magnitude(x, ~positive),
        }

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        above, below = (load_scale(values(codes, name))[:, None] for name in ("above", "below"))
        signs = self.layout.split(values(codes, "signs").reshape(shape))
        return self.layout.join(torch.where(signs > 0, above, -below), shape)

    def _mean_magnitude(self, x: Tensor, of: Tensor) -> Tensor:
        """Per row, over the elements in ``of``; 0 where there are none."""
        share = self.layout.means(of.float())
        mean = self.layout.means(x.abs() * of) / torch.where(share > 0, share, 1.0)
        return store_scale(mean, self.parameters.scale_dtype)
