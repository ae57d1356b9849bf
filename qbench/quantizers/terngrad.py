"""TernGrad: zero, or the sign times the largest magnitude, at random."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Quantizer
from ..message import Coder, Message
from .buckets import Bucketed
from .reading import values
from .scaling import Layout, divide
from .sparse import read_signed, write_signed
from .stochastic_rounding import round_at_random


class TernGradParameters(Bucketed):
    clip: float | None = Field(
        None, gt=0, le=1000, description="clip at so many root mean squares first; none: clip nothing"
    )
    coder: Coder = Field("fixed", description="how signs and zeros are coded")


@final
class TernGrad(Quantizer):
    """``x^ = a sign(x) b`` with ``P(b = 1) = |x| / a``, else b = 0, and ``a = max |x|``, a float32.

    E[x^] = x, with a squared error of mean ``sum |x| (a - |x|)``. Three levels pack at 1.6 bits.

    clip=c first moves magnitudes above c times the root mean square there (the deviation of a gradient of zero mean;
    the paper takes c = 2.5): a is smaller, so is the variance, and what was clipped comes back too small on average.
    Only without it is the code unbiased. ``bucket_size`` as in QSGD; the paper has one a for each layer.

    Reference: Wen et al. 2017, "TernGrad: Ternary Gradients to Reduce Communication in Distributed Deep Learning",
    eq. 1-3, and what it says on gradient clipping.
    """

    name = "terngrad"
    family = "stochastic"
    reference = "Wen et al. 2017, eq. 1-3 (arXiv:1705.07878)"
    targets = ("source", "gradient")
    Parameters = TernGradParameters
    sweep = (
        {},
        {"coder": "rans"},
        {"bucket_size": 4096, "coder": "elias"},
        {"bucket_size": 512, "coder": "rans"},
    )
    unbiased = {"clip": None}

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        layout = self.parameters.layout(x.numel())
        scale = self._scale(x, layout)
        exact = divide(layout.split(x), scale).clamp(-1, 1)
        signed = layout.join(round_at_random(exact, context.generator), x.shape).reshape(-1).int()
        return {"scale": scale, **write_signed(signed, 1, self.parameters.coder)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        layout: Layout = self.parameters.layout(shape.numel())
        rows = layout.split(read_signed(codes, shape.numel(), 1).reshape(shape))
        return layout.join(rows * values(codes, "scale")[:, None], shape)

    def _scale(self, x: Tensor, layout: Layout) -> Tensor:
        largest = layout.split(x).abs().amax(1)
        if self.parameters.clip is None:
            return largest
        return torch.minimum(largest, self.parameters.clip * layout.means(x.square()).sqrt())
