"""DoReFa: low bit widths for weights, activations and gradients, each quantized by equally spaced levels of [0, 1]."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..autograd import straight_through
from ..components import Context, Parameters, Quantizer, Trainable
from ..message import Message, Stream
from .reading import values
from .scaling import Granularity, Layout, divide, load_scale, minmax, require_rows, store_scale
from .surrogates import hard


class DoReFaParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code")
    scale: Literal["least-squares", "unit"] = Field(
        "least-squares",
        description="what the levels of [-1, 1] are multiplied by: least squared error, or nothing",
    )


@final
class DoReFa(Quantizer, Trainable):
    """Weights: ``x^ = s (2 quantize_b(r) - 1)`` with ``r = tanh(x) / (2 max |tanh(x)|) + 1/2``.

    ``quantize_b(r) = round((2^b - 1) r) / (2^b - 1)``. The paper's levels span [-1, 1] whatever the weights are, since
    batch normalization follows: s = 1, scale=unit. As a code of x that would be of no use, so s is the factor of
    least squared error, ``<x, l> / <l, l>`` for levels l; at 1 bit, where l = sign(x), that is the paper's own
    E|x|. s travels with the codes, float32; there is no codebook, nothing to learn but x. tanh acts on x in the core's
    units, where max |x| lies in [0.5, 1).

    In training rounding has the gradient 1 and s none: what flows is the gradient of ``s tanh(x) / max |tanh(x)|``, and
    at 1 bit that of x itself.

    Reference: Zhou et al. 2016, "DoReFa-Net", eq. 5, and section 2.3, eq. 8 and 9.
    """

    name = "dorefa"
    family = "optimized"
    reference = "Zhou et al. 2016, eq. 5, 8, 9 (arXiv:1606.06160)"
    targets = ("source", "weight")
    Parameters = DoReFaParameters
    sweep = ({"bits": 1}, {"bits": 2}, {"bits": 4})

    @property
    def steps(self) -> int:
        return int(2**self.parameters.bits - 1)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codes = _rounded((_squashed(x) + 1) / 2, self.steps)
        levels = (2 * codes - self.steps) / self.steps
        return {"codes": Stream(codes, self.steps + 1), "scale": self._scale(x, levels)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        levels = (2 * values(codes, "codes").float().reshape(shape) - self.steps) / self.steps
        return levels * values(codes, "scale")

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        with torch.no_grad():
            codes = self.encode(x.detach(), codebook, context=context)
            value = self.decode(codes, codebook, x.shape)
        soft = x if self.parameters.bits == 1 else _squashed(x) * values(codes, "scale")
        return straight_through(soft, value)

    def _scale(self, x: Tensor, levels: Tensor) -> Tensor:
        if self.parameters.scale == "unit" or x.numel() == 0:
            return x.new_ones(())
        scale = (x.double() * levels).sum() / levels.double().square().sum()
        return scale.clamp(max=torch.finfo(torch.float32).max).float()


class DoReFaActivationParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code")


@final
class DoReFaActivation(Quantizer, Trainable):
    """Activations: ``x^ = quantize_b(clip(x, 0, 1))``, 2^b levels from 0 to 1; negative values become 0.

    The range [0, 1] is in the core's units: it ends at the power of two above the largest magnitude that was fitted.
    There is no codebook. In training ``dx^/dx`` is 1 where 0 <= x <= 1, else 0.

    Reference: Zhou et al. 2016, "DoReFa-Net", eq. 5 and section 2.4.
    """

    name = "dorefa-activation"
    family = "optimized"
    reference = "Zhou et al. 2016, eq. 5 and section 2.4 (arXiv:1606.06160)"
    targets = ("activation",)
    Parameters = DoReFaActivationParameters
    sweep = ({"bits": 2}, {"bits": 4}, {"bits": 8})

    @property
    def steps(self) -> int:
        return int(2**self.parameters.bits - 1)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"codes": Stream(_rounded(x.clamp(0, 1), self.steps), self.steps + 1)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return values(codes, "codes").float().reshape(shape) / self.steps

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        clipped = torch.where((x >= 0) & (x <= 1), x, x.detach().clamp(0, 1))
        return straight_through(clipped, hard(self, x, codebook, context))


class DoReFaGradientParameters(Parameters):
    bits: int = Field(4, ge=2, le=8, description="bits per code; one bit would hold the signs of noise")
    granularity: Granularity = Field("channel", description="which elements share a maximum")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")


@final
class DoReFaGradient(Quantizer):
    """Gradients: ``x^ = 2 m (quantize_b(x / (2 m) + 1/2 + noise) - 1/2)`` with ``m = max |x|``.

    The noise is uniform between +- 1 / (2 (2^b - 1)), half a step, so E[x^] = x inside [-m, m]. The levels run from -m
    to m, without zero. The paper has an m for each sample of a batch: channel, where samples are the first axis. m is
    float16; of tensor and channel fitted, of groups sent with the codes. It is used on gradients, and none flows
    through it.

    Reference: Zhou et al. 2016, "DoReFa-Net", eq. 12.
    """

    name = "dorefa-gradient"
    family = "stochastic"
    reference = "Zhou et al. 2016, eq. 12 (arXiv:1606.06160)"
    targets = ("gradient",)
    Parameters = DoReFaGradientParameters
    sweep = ({"bits": 2}, {"bits": 4}, {"bits": 6})
    unbiased = True

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    @property
    def steps(self) -> int:
        return int(2**self.parameters.bits - 1)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else _largest(self.layout.split(x))

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows = self.layout.split(x)
        own = _largest(rows) if self.layout.per_group else {}
        largest = load_scale(values(own or codebook, "max"))
        require_rows(rows, largest, self.name)
        noise = (
            torch.rand(rows.shape, generator=context.generator, device=x.device, dtype=torch.float32) - 0.5
        )
        codes = _rounded(divide(rows, 2 * largest) + 0.5 + noise / self.steps, self.steps)
        return {"codes": Stream(self.layout.join(codes, x.shape), self.steps + 1), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        largest = load_scale(values(codes if self.layout.per_group else codebook, "max"))
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        return self.layout.join((2 * rows - self.steps) / self.steps * largest[:, None], shape)


def _rounded(r: Tensor, steps: int) -> Tensor:
    """``steps`` times quantize_b(r), an integer from 0 to ``steps``; halves go up, so that sign(0) is 1."""
    return (r * steps + 0.5).floor().clamp(0, steps)


def _squashed(x: Tensor) -> Tensor:
    """tanh(x) over its largest magnitude; zeros stay zeros."""
    squashed = x.tanh().reshape(1, -1)
    largest = squashed.abs().amax(1) if x.numel() else squashed.new_zeros(1)
    return divide(squashed, largest).reshape(x.shape)


def _largest(rows: Tensor) -> Message:
    return {"max": store_scale(minmax(rows, symmetric=True)[1], "float16")}
