"""Entropy-constrained scalar quantization: uniform thresholds, centroids, an entropy coder."""

from typing import final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scalar_codebook import ascending

_MAX_INDEX = 2047  # indices run from -2047 to 2047 at most: 4095 frequencies for the entropy coder


class EcsqParameters(Parameters):
    rate: float = Field(
        2.0, ge=0.05, le=8, description="entropy of the fitted data's codes, bits per element"
    )


@final
class Ecsq(Quantizer):
    """``index = round(x / step)``, coded at its entropy; x^ is the mean of the fitted values in the cell.

    The step is where the entropy of the fitted data's indices equals ``rate``, or the largest magnitude /
    2047 if that is more. ``x^ = (index + offset[index]) * step``, offsets in float16, 0 for a cell that was
    empty. Indices beyond the fitted ones are clipped. At high rate the squared error is 1.533 dB above the
    Shannon lower bound; for a Gaussian uniform thresholds are within .02 % of the best ones.

    Reference: Gish & Pierce 1968, "Asymptotically Efficient Quantizing"; Sullivan 1996, "Efficient Scalar
    Quantization of Exponential and Laplacian Random Variables".
    """

    name = "ecsq"
    family = "scalar"
    reference = "Gish & Pierce 1968; Sullivan 1996"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = EcsqParameters
    sweep = tuple({"rate": rate} for rate in (0.5, 1.0, 2.0, 3.0, 4.0))

    def fit(self, x: Tensor, *, context: Context) -> Message:
        ordered = ascending(x.reshape(1, -1))[0]
        step = torch.tensor(_step_of_rate(ordered, self.parameters.rate), dtype=torch.float32)
        ends = _ends(ordered, float(step))
        counts, sums = ends.diff(), pad(ordered.cumsum(0), (1, 0))[ends].diff()
        index = _occurring(counts)
        used = counts[index + _MAX_INDEX].clamp(min=1)
        offsets = sums[index + _MAX_INDEX] / (used * step.double()) - index
        offsets = torch.where(counts[index + _MAX_INDEX] > 0, offsets, 0.0).half()
        return {
            "step": step.to(x.device),
            "first": index[0].short().to(x.device),
            "offsets": offsets.to(x.device),
        }

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        levels = values(codebook, "offsets").numel()
        index = (x / values(codebook, "step")).round() - values(codebook, "first")
        return {"codes": Stream(index.clamp(0, levels - 1), levels, coder="rans")}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        code = values(codes, "codes").long()
        index = (code + values(codebook, "first")).float()
        return ((index + values(codebook, "offsets")[code].float()) * values(codebook, "step")).reshape(shape)


def _step_of_rate(ordered: Tensor, rate: float) -> float:
    """The step at which the ascending values' indices have that entropy, by bisection of its logarithm."""
    peak = float(ordered.abs().max()) if ordered.numel() else 0.0
    if peak == 0.0:
        return 1.0
    fine, coarse = peak / _MAX_INDEX, 4.0 * peak
    for _ in range(50):
        step = (fine * coarse) ** 0.5
        if _entropy(_ends(ordered, step).diff()) > rate:
            fine = step
        else:
            coarse = step
    return coarse


def _ends(ordered: Tensor, step: float) -> Tensor:
    """Where the ascending values of each index from -2047 to 2047 end, after a 0: [4096]."""
    thresholds = (torch.arange(-_MAX_INDEX, _MAX_INDEX, dtype=torch.float64) + 0.5) * step
    return pad(pad(torch.searchsorted(ordered, thresholds), (1, 0)), (0, 1), value=len(ordered))


def _occurring(counts: Tensor) -> Tensor:
    """The indices from the first to the last that occurs; 0 if none does."""
    used = counts.nonzero()[:, 0] if counts.any() else torch.tensor([_MAX_INDEX])
    return torch.arange(int(used[0]), int(used[-1]) + 1) - _MAX_INDEX


def _entropy(counts: Tensor) -> float:
    """Bits per value."""
    shares = counts[counts > 0].double() / counts.sum()
    return float(-(shares * shares.log2()).sum())
