"""signSGD: the sign of each value, with or without the mean magnitude."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Quantizer
from ..message import Message, Stream
from .buckets import Bucketed
from .reading import values
from .scaling import Layout


class SignSGDParameters(Bucketed):
    scale: Literal["mean", "unit"] = Field(
        "mean", description="what a sign is multiplied by: the mean magnitude, or nothing"
    )


@final
class SignSGD(Quantizer):
    """``x^ = a sign(x)``, sign(0) = 1, one bit per element.

    - mean: ``a = mean |x|`` of the bucket, a float32 decided for each message. The squared error is
      ``mean x^2 - a^2``, 1 - 2/pi for a Gaussian. With the channel's error feedback it is EF-signSGD.
    - unit: a = 1 in units of the core's power of two, the least above the largest magnitude: signs and no scale, as
      signSGD sends them. x^ has the direction of the signs and a length that is no estimate of x. Zeros become ones.

    The cosine of x and x^ is that of x and its signs, sqrt(2/pi) for a large Gaussian. The majority vote of several
    workers is the sign of the sum of what decodes with scale=unit.

    Reference: Bernstein et al. 2018, "signSGD: Compressed Optimisation for Non-Convex Problems", algorithm 1; mean:
    Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", algorithm 1.
    """

    name = "signsgd"
    family = "binary"
    reference = (
        "Bernstein et al. 2018, algorithm 1 (arXiv:1802.04434); Karimireddy et al. 2019 (arXiv:1901.09847)"
    )
    targets = ("source", "gradient")
    Parameters = SignSGDParameters
    sweep = ({}, {"bucket_size": 512})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        signs = Stream(x >= 0, 2)
        if self.parameters.scale == "unit":
            return {"signs": signs}
        return {"signs": signs, "scale": self.parameters.layout(x.numel()).means(x.abs())}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        signs = 2.0 * values(codes, "signs").float().reshape(shape) - 1.0
        if self.parameters.scale == "unit":
            return signs
        layout: Layout = self.parameters.layout(shape.numel())
        return layout.join(layout.split(signs) * values(codes, "scale")[:, None], shape)
