"""Binary weights in forward and backward, real weights in the update: the sign, or a coin that the weight loads."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..autograd import straight_through
from ..components import Constrained, Context, Parameters, Quantizer, Trainable
from ..message import Message, Stream
from .reading import values
from .scaling import divide


class BinaryConnectParameters(Parameters):
    rounding: Literal["deterministic", "stochastic"] = Field(
        "deterministic", description="the sign, or +1 with the probability that the hard sigmoid gives"
    )
    scale: Literal["mean", "max", "unit"] = Field(
        "mean", description="what +-1 is multiplied by: the mean magnitude, the largest, or nothing"
    )


@final
class BinaryConnect(Quantizer, Trainable, Constrained):
    """``x^ = s b``, b = +1 or -1; deterministic: b = sign(x), sign(0) = 1; stochastic: +1 with probability p.

    ``p = clip((x / s + 1) / 2, 0, 1)``, the hard sigmoid, so E[x^] = x where |x| <= s: everywhere for scale=max. The
    paper has s = 1, since batch normalization follows: scale=unit, in the core's units, where max |x| lies in
    [0.5, 1). As a code that is far from x, so s is fitted unless told otherwise; the mean magnitude is the sign's s of
    least squared error. The codebook is ``scale``, float32, of no dimensions; none for scale=unit.

    In training the gradient passes as it is, ``dx^/dx = 1``, and ``dx^/ds = b``. After each update the real weights
    are clipped to [-s, s], beyond which they would grow and change nothing.

    Reference: Courbariaux, Bengio & David 2015, "BinaryConnect: Training Deep Neural Networks with Binary
    Weights during Propagations", eq. 1 to 3 and algorithm 1.
    """

    name = "binaryconnect"
    family = "binary"
    reference = "Courbariaux, Bengio & David 2015, eq. 1-3 (arXiv:1511.00363)"
    targets = ("source", "weight")
    Parameters = BinaryConnectParameters
    sweep = ({"rounding": "deterministic"}, {"rounding": "stochastic"})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        if self.parameters.scale == "unit":
            return {}
        magnitudes = x.abs() if x.numel() else x.new_zeros(1)
        return {"scale": magnitudes.mean() if self.parameters.scale == "mean" else magnitudes.max()}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        if self.parameters.rounding == "deterministic":
            return {"codes": Stream(x >= 0, 2)}
        relative = divide(x.reshape(1, -1), self._scale(codebook, x.device).reshape(1))
        draw = torch.rand(relative.shape, generator=context.generator, device=x.device, dtype=torch.float32)
        return {"codes": Stream(draw < (relative + 1) / 2, 2)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        signs = _signs(codes).reshape(shape)
        return signs * self._scale(codebook, signs.device)

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        with torch.no_grad():
            codes = self.encode(x.detach(), codebook, context=context)
            value = self.decode(codes, codebook, x.shape)
        scale = self._scale(codebook, x.device)
        return straight_through(x + _signs(codes).reshape(x.shape) * (scale - scale.detach()), value)

    def project(self, x: Tensor, codebook: Message) -> Tensor:
        scale = self._scale(codebook, x.device).detach().abs()
        return torch.minimum(torch.maximum(x, -scale), scale)

    def _scale(self, codebook: Message, device: torch.device) -> Tensor:
        return torch.ones((), device=device) if self.parameters.scale == "unit" else values(codebook, "scale")


def _signs(codes: Message) -> Tensor:
    return 2.0 * values(codes, "codes") - 1.0
