"""Ternarization: zero, or the sign times one magnitude."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scaling import Granularity, Layout, load_scale, require_rows, store_scale

# The best three levels of a Gaussian of unit variance: the mean magnitude above half of it.
_GAUSSIAN_SCALE = 1.2240
_TWN_FACTOR = 0.7


class TernaryParameters(Parameters):
    threshold: Literal["twn", "gaussian", "optimal"] = Field(
        "optimal",
        description="what becomes zero: by Li & Liu's rule, for a Gaussian, or of least squared error",
    )
    granularity: Granularity = Field("channel", description="which elements share a scale")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group, for granularity=group")


@final
class Ternary(Quantizer):
    """``x^ = alpha sign(x)`` where ``|x| > t``, else 0. Three levels pack at 1.6 bits.

    - twn: ``t = 0.7 mean |x|`` of the row being coded, alpha the mean magnitude above it (that of the row fitted).
    - gaussian: alpha = 1.2240 RMS, ``t = alpha / 2 = .6120 RMS``, the best of a Gaussian of zero mean.
    - optimal: over all k the alpha = mean of the k largest magnitudes with the largest ``k alpha^2``, which is the
      squared error that is saved; ``t = alpha / 2``.

    Gaussian mean squared error .19017 (gaussian, optimal) and .19162 (twn).

    Reference: Li & Liu 2016, "Ternary Weight Networks", eq. 5 and 6.
    """

    name = "ternary"
    family = "binary"
    reference = "Li & Liu 2016, eq. 5-6 (arXiv:1605.04711)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = TernaryParameters
    sweep = (
        {"threshold": "twn"},
        {"threshold": "gaussian"},
        {"threshold": "optimal"},
        {"threshold": "optimal", "granularity": "group"},
    )

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity, self.parameters.group_size)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(x)

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        own = self._scales(x) if self.layout.per_group else {}
        rows, scale = self.layout.split(x), load_scale(values(own or codebook, "scale"))
        require_rows(rows, scale, self.name)
        threshold = self._twn_threshold(x) if self.parameters.threshold == "twn" else scale / 2
        codes = (rows > threshold[:, None]).to(torch.uint8) + (rows >= -threshold[:, None]).to(torch.uint8)
        return {"codes": Stream(self.layout.join(codes, x.shape), 3), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale = load_scale(values(codes if self.layout.per_group else codebook, "scale"))
        rows = self.layout.split(values(codes, "codes").float().reshape(shape) - 1.0)
        return self.layout.join(rows * scale[:, None], shape)

    def _scales(self, x: Tensor) -> Message:
        return {"scale": store_scale(self._alpha(x), "float16")}

    def _alpha(self, x: Tensor) -> Tensor:
        if self.parameters.threshold == "gaussian":
            return _GAUSSIAN_SCALE * self.layout.means(x.square()).sqrt()
        magnitudes = self.layout.split(x).abs()
        magnitudes.view(-1)[x.numel() :] = 0.0  # repetitions that fill a group do not count
        if self.parameters.threshold == "optimal":
            return optimal_scale(magnitudes)
        above = magnitudes > self._twn_threshold(x)[:, None]
        return (magnitudes * above).sum(1) / above.sum(1).clamp(min=1)

    def _twn_threshold(self, x: Tensor) -> Tensor:
        return _TWN_FACTOR * self.layout.means(x.abs())


def optimal_scale(magnitudes: Tensor) -> Tensor:
    """The mean of the k largest of each row, [rows], for the k with the largest (sum of them)^2 / k."""
    largest = magnitudes.sort(1, descending=True).values
    sums = largest.cumsum(1, dtype=torch.float64)
    counts = torch.arange(1, sums.shape[1] + 1, dtype=torch.float64, device=sums.device)
    best = (sums.square() / counts).argmax(1, keepdim=True)
    return (sums.gather(1, best)[:, 0] / counts[best[:, 0]]).float()
