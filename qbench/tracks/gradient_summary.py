"""From figures of layers and steps to one number with an interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from scipy import stats
from torch import Tensor

from ..gradient_dynamics import Ratio
from ..schema import Measurement, derived_seed

DRAWS = 400
_TAILS = (0.025, 0.975)


def same(x: Tensor) -> Tensor:
    return x


def root(x: Tensor) -> Tensor:
    return x.sqrt()


def decibel(x: Tensor) -> Tensor:
    """10 log10."""
    return 10 * x.log10()


@final
@dataclass(frozen=True)
class Figure:
    """A figure of every layer, in parts that add over steps: transform(sum numerator / sum denominator).

    ``numerator`` and ``denominator`` are float64 [layers, steps]; a step that tells nothing of a layer has 0 in both.
    ``counted``: a step counts for (1 in both) or against (0 over 1), and nothing in between.
    """

    numerator: Tensor
    denominator: Tensor
    transform: Callable[[Tensor], Tensor] = same
    counted: bool = False

    @classmethod
    def of_ratios(
        cls, ratios: Sequence[Ratio], transform: Callable[[Tensor], Tensor] = same, *, counted: bool = False
    ) -> "Figure":
        """One of each layer; shorter ones lack their last steps."""
        numerator, denominator = (
            torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True)
            for part in zip(*ratios, strict=True)
        )
        return cls(numerator, denominator, transform, counted)

    @classmethod
    def of_values(cls, values: Tensor) -> "Figure":
        """Means over steps of values [layers, steps]; those that are not finite are left out."""
        known = values.isfinite()
        return cls(torch.where(known, values, 0.0).double(), known.double())

    @property
    def steps(self) -> int:
        return self.numerator.shape[1]

    def of_layers(self, steps: Tensor | None = None) -> Tensor:
        """The figure of each layer over all steps, [layers], or over those numbered, [..., n] -> [layers, ...]."""
        numerator, denominator = (
            part.sum(-1) if steps is None else part[:, steps].sum(-1)
            for part in (self.numerator, self.denominator)
        )
        return self.transform(numerator / denominator)


def measured(name: str, figure: Figure, weights: Tensor, unit: str, seed: int) -> dict[str, Measurement]:
    """The weighted median over layers, and the ends of its 95 % interval as ``name.low`` and ``name.high``.

    The interval: the middle 95 % of 400 circular block bootstraps over n steps, blocks of b = round(sqrt(n)), each end
    moved away from the value by the factor ``t(.975, n - b) / 1.96 sqrt(n / (n - b))``, by which the bootstrap of the
    mean of few independent steps is too narrow; none for one step. Of a figure that counts steps it is that of Clopper
    and Pearson for the median layer, 2.5 % beyond either end.

    Samples are the layers' values. Layers that have no finite one are left out: ``name.left_out`` is their number, of n
    layers, where there are any, and all there is where every layer is left out.

    Reference: Politis & Romano 1992, "A circular block-resampling procedure for stationary data"; Clopper & Pearson
    1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    if not figure.steps:
        return {}
    values = figure.of_layers()
    missing = int((~values.isfinite()).sum())
    found = {f"{name}.left_out": Measurement(value=missing, unit="1", n=len(values))} if missing else {}
    if missing == len(values):
        return found
    value = float(weighted_median(values[:, None], weights)[0])
    samples = [] if missing else values.tolist()
    found[name] = Measurement(value=value, unit=unit, samples=samples, n=figure.steps)
    ends = _of_count(figure, value) if figure.counted else _of_steps(figure, weights, value, seed)
    for end, bound in zip(("low", "high"), ends, strict=False):
        found[f"{name}.{end}"] = Measurement(value=bound, unit=unit, n=figure.steps)
    return found


def _of_steps(figure: Figure, weights: Tensor, value: float, seed: int) -> list[float]:
    """Both ends of the bootstrap's interval; nothing for one step, or where half of the draws have no figure."""
    n = figure.steps
    draws = weighted_median(
        figure.of_layers(resampled_steps(n, DRAWS, derived_seed("bootstrap", seed))), weights
    )
    draws = draws[draws.isfinite()]
    if n == 1 or len(draws) <= DRAWS / 2:
        return []
    wider = float(stats.t.ppf(_TAILS[1], n - _block(n)) / stats.norm.ppf(_TAILS[1])) * math.sqrt(
        n / (n - _block(n))
    )
    return [value + wider * (float(torch.quantile(draws, share)) - value) for share in _TAILS]


def _of_count(figure: Figure, value: float) -> list[float]:
    """Both ends, of the layer with this share that has fewest steps."""
    n = float(figure.denominator.sum(1)[figure.of_layers() == value].min())
    low, high = (
        stats.beta.ppf(share, k, n + 1 - k)
        for share, k in zip(_TAILS, (value * n, value * n + 1), strict=True)
    )
    return [0.0 if value == 0 else float(low), 1.0 if value == 1 else float(high)]


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Of values [layers, n], the least that at least half of the weight [layers] does not exceed: [n].

    Values that are not finite have no weight; NaN where none is finite.
    """
    known = values.isfinite()
    ordered, order = torch.where(known, values, math.inf).sort(0)
    shares = torch.where(known, weights.double()[:, None], 0.0).gather(0, order).cumsum(0)
    place = (shares < shares[-1] / 2).sum(0, keepdim=True).clamp_max(len(values) - 1)
    found = ordered.gather(0, place)[0]
    return torch.where(known.any(0), found, math.nan)


def resampled_steps(steps: int, draws: int, seed: int) -> Tensor:
    """Numbers of steps, [draws, steps]: blocks of round(sqrt(steps)) that start anywhere on the circle of steps."""
    length = _block(steps)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(steps, (draws, -(-steps // length), 1), generator=generator)
    return ((starts + torch.arange(length)) % steps).flatten(1)[:, :steps]


def _block(steps: int) -> int:
    return round(math.sqrt(steps))


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, evenly spaced.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    """
    chosen = min(count, most)
    return [i * count // chosen for i in range(chosen)]
