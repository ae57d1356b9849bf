"""k-means in one dimension with a weight for every value: the loss's own second-order estimate of its error."""

from typing import final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from ..components import Context, Parameters, Quantizer
from ..errors import InputError
from ..message import Message, Stream
from .reading import values
from .scalar_codebook import BINS, BINS_OF_MANY, companded, look_up, nearest, optimal_means

_NEGLIGIBLE = 2.0**-40


class KMeansHessianParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code, where levels is not given")
    levels: int | None = Field(None, ge=2, le=256, description="number of levels, any; overrides bits")


@final
class KMeansHessian(Quantizer):
    """Every value goes to the nearest of k levels of least ``sum of h (x - x^)^2``, one codebook for a tensor.

    h is the importance of each element, such as the diagonal of the loss's Hessian. The optimum is found as by
    ``kmeans``. Without an importance, or where all of it is zero, every element counts the same.

    Reference: Choi, El-Khamy & Lee 2017, "Towards the Limit of Network Quantization", eq. 5 and 6.
    """

    name = "kmeans-hessian"
    family = "optimized"
    reference = "Choi, El-Khamy & Lee 2017, eq. 5-6 (arXiv:1612.01543)"
    targets = ("weight",)
    needs = frozenset({"importance"})
    Parameters = KMeansHessianParameters
    sweep = ({"bits": 2}, {"bits": 3}, {"bits": 4}, {"levels": 5})

    @property
    def count(self) -> int:
        return int(self.parameters.levels or 2**self.parameters.bits)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        weights = _weights(x, context.importance)
        return {"levels": weighted_optimal(x, weights, self.count).float().to(x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codes = nearest(x.reshape(1, -1), values(codebook, "levels")[None])
        return {"codes": Stream(codes, self.count)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return look_up(values(codes, "codes")[None], values(codebook, "levels")[None]).reshape(shape)


def _weights(x: Tensor, importance: Tensor | None) -> Tensor:
    if importance is None:
        return torch.ones_like(x)
    if importance.shape != x.shape:
        raise InputError(
            f"kmeans-hessian: the importance has shape {tuple(importance.shape)}, the tensor {tuple(x.shape)}; "
            "give one weight per element, channel axis first"
        )
    if not bool(torch.isfinite(importance).all() & (importance >= 0).all()):
        raise InputError(
            "kmeans-hessian: the importance holds negative or non-finite weights; all must be >= 0"
        )
    return importance if bool(importance.any()) else torch.ones_like(x)


def weighted_optimal(x: Tensor, weights: Tensor, count: int) -> Tensor:
    """The ``count`` levels of least weighted squared error for ``x``, ascending, [count], float64, on the CPU.

    Weights are non-negative, of the shape of x; below 2^-40 of their sum they count as 0. Exact where at
    most 4096 distinct values have a weight; beyond that exact on 1024 bins, then improved by Lloyd's iteration.
    """
    ordered, order = x.reshape(-1).cpu().double().sort(stable=True)
    mass = weights.reshape(-1).cpu().double()[order]
    if ordered.numel() == 0:
        return ordered.new_zeros(count)
    mass = mass / mass.max()
    inverse = torch.unique_consecutive(ordered, return_inverse=True)[1]
    used = torch.bincount(inverse, mass) > _NEGLIGIBLE * mass.sum()
    kept = used[inverse]
    ordered, mass = ordered[kept], mass[kept]
    if int(used.sum()) <= BINS:
        return _levels(
            *_collected(ordered, mass, torch.unique_consecutive(ordered, return_inverse=True)[1]), count
        )
    bins = nearest(ordered[None], companded(_equal_shares(ordered, mass)[None], BINS_OF_MANY))[0]
    return _lloyd(ordered, mass, _levels(*_collected(ordered, mass, bins), count))


def _levels(points: Tensor, weights: Tensor, count: int) -> Tensor:
    return torch.from_numpy(np.asarray(optimal_means(points.numpy(), weights.numpy(), count)))


def _collected(ordered: Tensor, mass: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and weight of each bin that has any."""
    weights = torch.bincount(bins, mass)
    used = weights > 0
    return (torch.bincount(bins, mass * ordered)[used] / weights[used]), weights[used]


def _equal_shares(ordered: Tensor, mass: Tensor) -> Tensor:
    """As many values of equal weight as there are ascending ones, distributed as those with their weights."""
    share = mass.cumsum(0)
    wanted = (torch.arange(len(ordered)) + 0.5) * (share[-1] / len(ordered))
    return ordered[torch.searchsorted(share, wanted).clamp(max=len(ordered) - 1)]


def _lloyd(ordered: Tensor, mass: Tensor, levels: Tensor) -> Tensor:
    """200 of Lloyd's iterations with weights. A cell without weight keeps its level."""
    sums, shares = (pad(total.cumsum(0), (1, 0)) for total in (mass * ordered, mass))
    for _ in range(200):
        inner = torch.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        ends = pad(pad(inner, (1, 0)), (0, 1), value=len(ordered))
        share = shares[ends].diff()
        levels = torch.where(share > 0, sums[ends].diff() / share.clamp(min=1e-300), levels)
    return levels
