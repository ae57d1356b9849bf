"""Observers: how far the inputs of a layer reach, as calibration data says; what lies beyond is clipped."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import torch
from torch import Tensor

from .codec import Code
from .components import Context, Quantizer
from .measuring import Distortion, fit
from .quantizers.scaling import percentile

Observer = Literal["min-max", "moving-average", "percentile", "mse"]
PERCENTILE: Final = 99.99
MOMENTUM: Final = 0.99
_SEARCHED = 1 << 18
_COARSE, _FINE = 2.0 ** (1 / 4), 2.0 ** (1 / 16)


def min_max(batches: Sequence[Tensor]) -> tuple[float, float]:
    """The smallest and the largest element."""
    ends = [torch.aminmax(x) for x in batches]
    return min(float(end.min) for end in ends), max(float(end.max) for end in ends)


def moving_average(batches: Sequence[Tensor], momentum: float = MOMENTUM) -> tuple[float, float]:
    """Exponential moving averages of each batch's smallest and largest element, from those of the first batch on.

    ``r <- momentum r + (1 - momentum) r_batch``

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3.1; Krishnamoorthi 2018, "Quantizing deep convolutional networks
    for efficient inference", section 3.1.1.
    """
    low, high = min_max(batches[:1])
    for x in batches[1:]:
        least, most = min_max([x])
        low = momentum * low + (1 - momentum) * least
        high = momentum * high + (1 - momentum) * most
    return low, high


def magnitude_percentile(batches: Sequence[Tensor], percent: float = PERCENTILE) -> tuple[float, float]:
    """-t and t, with t the element of nearest rank that ``percent`` of the magnitudes do not exceed.

    Where t is 0 it is the largest magnitude.

    Reference: Wu, Judd, Zhang, Isaev, Micikevicius 2020, "Integer Quantization for Deep Learning Inference",
    section 4.2.
    """
    flat = torch.cat([x.reshape(-1) for x in batches])
    low, high = percentile(flat[None], symmetric=True, percent=percent)
    return float(low), float(high)


def least_squares(
    x: Tensor, extreme: float, quantizer: Quantizer, generator: Callable[[], torch.Generator]
) -> tuple[float, float]:
    """-t and t, with the t at which the quantizer, fitted on x clipped to it, codes x itself with least squared error.

    A grid of t: ``extreme 2^(-k/4)`` for k = 0 to 24, ended where the error is twice the least one, then
    ``t 2^(+-j/16)`` for j = 1 to 3 around the best, none beyond ``extreme``: t is within 2.2 % of the best.

    Args:
        x: channels first.
        extreme: the largest magnitude, of x or of all that x is a sample of.
        generator: a new one for each t, in the same state.
    """
    errors: dict[float, float] = {}
    for k in range(25):
        clip = extreme * _COARSE**-k
        errors[clip] = _error(x, clip, quantizer, generator)
        if errors[clip] > 2 * min(errors.values()):
            break
    best = min(errors, key=errors.__getitem__)
    for offset in (-3, -2, -1, 1, 2, 3):
        clip = best * _FINE**offset
        if clip <= extreme:
            errors[clip] = _error(x, clip, quantizer, generator)
    best = min(errors, key=errors.__getitem__)
    return -best, best


def _error(x: Tensor, clip: float, quantizer: Quantizer, generator: Callable[[], torch.Generator]) -> float:
    draws, code = generator(), Code(quantizer)
    codebook = fit(quantizer, x.clamp(-clip, clip), generator=draws)
    decoded = code.decode(code.encode(x, codebook, Context(draws)), codebook, x.shape)
    return Distortion.between(x, decoded).error


def observed_range(
    batches: Sequence[Tensor],
    observer: Observer,
    percent: float,
    quantizer: Quantizer,
    generator: Callable[[], torch.Generator],
    together: Callable[[Tensor], Tensor],
) -> tuple[float, float]:
    """What the observer says of these batches, [n, ...] each.

    ``together`` puts a batch's channels first. The search for the least squared error looks at the first examples,
    of about 2^18 elements.
    """
    if observer == "min-max":
        return min_max(batches)
    if observer == "moving-average":
        return moving_average(batches)
    if observer == "percentile":
        return magnitude_percentile(batches, percent)
    low, high = min_max(batches)
    examples = max(1, _SEARCHED // max(1, batches[0][0].numel()))
    return least_squares(together(_first(batches, examples)), max(high, -low), quantizer, generator)


def _first(batches: Sequence[Tensor], examples: int) -> Tensor:
    found: list[Tensor] = []
    for x in batches:
        found.append(x[: examples - sum(map(len, found))])
        if sum(map(len, found)) == examples:
            break
    return torch.cat(found)
