"""Figures of a window of training with their intervals: what gradients and updates are, and how they move."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from ..gradient_capture import Capture, Pair, Record
from ..gradient_dynamics import (
    Ratio,
    autocorrelation,
    average_gain,
    cosine,
    drift_kept,
    gram,
    increment_gain,
    last_step_gain,
    lipschitz,
    lipschitz_kept,
    relative_increment,
)
from ..gradient_figures import FIGURES, figures, marginal_figures
from ..gradient_sampling import Site
from ..schema import Measurement, derived_seed
from .gradient_summary import Figure, decibel, measured, root, same, spread, weighted_median

FEWEST_COORDINATES = 4096
_LAGS = 16
_POOLED = 2**16
_DYNAMICS: Mapping[str, tuple[Callable[[Tensor], Ratio], Callable[[Tensor], Tensor]]] = {
    "cosine": (cosine, same),
    "autocorrelation": (partial(autocorrelation, lag=1), same),
    "relative_increment": (relative_increment, root),
    "gain_last_db": (last_step_gain, decibel),
    "gain_average_db": (average_gain, decibel),
    "gain_increment_db": (increment_gain, decibel),
}


@final
@dataclass(frozen=True)
class Layers:
    """The layers that figures are of, by their place among the capture's sites."""

    numbers: list[int]
    sites: list[Site]

    @classmethod
    def of(cls, sites: Sequence[Site], most: int) -> "Layers":
        """Those of 4096 coordinates or more, all if none has as many; at most ``most``, spread over the depth."""
        large = [i for i, site in enumerate(sites) if site.size >= FEWEST_COORDINATES] or [*range(len(sites))]
        numbers = [large[i] for i in spread(len(large), most)]
        return cls(numbers, [sites[i] for i in numbers])

    @property
    def weights(self) -> Tensor:
        return torch.tensor([site.size for site in self.sites], dtype=torch.float64)

    def among(self, items: Sequence[Tensor]) -> list[Tensor]:
        return [items[i] for i in self.numbers]


def window_figures(capture: Capture, record: Record, layers: Layers, seed: int) -> dict[str, Measurement]:
    """All figures of a window that has been trained through; a name starts with the window's.

    What follows a coordinate from step to step is of weights alone: that of an output is another picture each time.
    """
    name, snapshots = record.window.name, record.snapshots
    return {
        **_marginals(name, [layers.among(one.gradients) for one in snapshots], layers, seed),
        **_pooled(name, [one.gradients for one in snapshots], capture.sites, seed),
        **pair_figures(name, record.pairs, layers, seed, (record.window.start + record.window.stop) / 2),
        **(_followed(capture, record, layers, seed) if capture.gradient == "weights" else {}),
    }


def _followed(capture: Capture, record: Record, layers: Layers, seed: int) -> dict[str, Measurement]:
    """How weights' gradients and updates move, and what updates are."""
    name, snapshots = record.window.name, record.snapshots
    gradients, updates = (list(map(gram, capture.series(x))) for x in (record.gradients, record.updates))
    few = [snapshots[i] for i in spread(len(snapshots), 2)]
    return {
        **_marginals(f"{name}.update", [layers.among(one.updates) for one in few], layers, seed),
        **_dynamics(name, layers.among(gradients), layers.weights, seed),
        **_dynamics(f"{name}.update", layers.among(updates), layers.weights, seed),
        **_dynamics(f"{name}.network", [_network(gradients, capture.sites)], _ONE, seed),
    }


def _marginals(
    prefix: str, steps: Sequence[Sequence[Tensor]], layers: Layers, seed: int
) -> dict[str, Measurement]:
    """:func:`qbench.gradient_figures.figures` of each layer at each step."""
    found = [
        [
            figures(g, _generator(seed, prefix, number, site.name), site.size)
            for g, site in zip(step, layers.sites, strict=True)
        ]
        for number, step in enumerate(steps)
    ]
    result: dict[str, Measurement] = {}
    for name in FIGURES:
        values = torch.tensor([[of[name] for of in step] for step in found], dtype=torch.float64).T
        result |= measured(f"{prefix}.{name}", Figure.of_values(values), layers.weights, unit_of(name), seed)
    return result


def _pooled(
    prefix: str, steps: Sequence[Sequence[Tensor]], sites: Sequence[Site], seed: int
) -> dict[str, Measurement]:
    """Marginals of all layers thrown together: a pool of Gaussians of different scale is not Gaussian."""
    found = [marginal_figures(_pool(step, sites).double().numpy()) for step in steps]
    result: dict[str, Measurement] = {}
    for name in found[0] if found else ():
        values = torch.tensor([[one[name] for one in found]], dtype=torch.float64)
        result |= measured(f"{prefix}.pooled.{name}", Figure.of_values(values), _ONE, unit_of(name), seed)
    return result


def _pool(matrices: Sequence[Tensor], sites: Sequence[Site]) -> Tensor:
    """Coordinates of all layers, of each as many as its size asks for, at most 2^16."""
    share = min(m.numel() / site.size for m, site in zip(matrices, sites, strict=True))
    share = min(share, _POOLED / sum(site.size for site in sites))
    counts = [max(1, int(share * site.size)) for site in sites]
    return torch.cat([m.reshape(-1)[spread(m.numel(), n)] for m, n in zip(matrices, counts, strict=True)])


def _dynamics(prefix: str, products: Sequence[Tensor], weights: Tensor, seed: int) -> dict[str, Measurement]:
    """How successive steps are alike, of each layer's :func:`qbench.gradient_dynamics.gram`."""
    result: dict[str, Measurement] = {}
    for name, (of, transform) in _DYNAMICS.items():
        figure = Figure.of_ratios([of(x) for x in products], transform)
        result |= measured(f"{prefix}.{name}", figure, weights, unit_of(name), seed)
    steps = len(products[0])
    lags = range(min(_LAGS, steps // 2) + 1)
    values = torch.tensor([[autocorrelation(x, lag).value for lag in lags] for x in products])
    by_lag = weighted_median(values, weights).tolist()
    if all(map(math.isfinite, by_lag)):
        whole = Measurement(value=by_lag[-1], unit="1", samples=by_lag, n=steps)
        result[f"{prefix}.autocorrelation_by_lag"] = whole
    return result


def _network(products: Sequence[Tensor], sites: Sequence[Site]) -> Tensor:
    """Estimates for the whole gradient, from samples of its layers."""
    shares = [site.size / len(site.coordinates) for site in sites]
    return torch.stack([x * share for x, share in zip(products, shares, strict=True)]).sum(0)


def pair_figures(
    prefix: str, pairs: Sequence[Pair], layers: Layers, seed: int, half: float
) -> dict[str, Measurement]:
    """Of batches that were evaluated before and after an update: by layer, and of the network as one.

    - ``drift_kept``: share of steps with |dg| <= .1 |g|; ``relative_drift`` = |dg| / |g|.
    - Of weights besides ``lipschitz_kept``: of the |dg| / |dw| of steps from ``half`` on, those that the largest before
      bounds; ``lipschitz`` = |dg| / |dw|, ``relative_noise`` = |noise| / |g|;
      ``noise_share`` = |noise|^2 / (|noise|^2 + |drift|^2).

    Quotients of norms are roots of sums of squares over steps.
    """
    if not pairs:
        return {}
    result: dict[str, Measurement] = {}
    for scope, rows, weights in (("", layers.numbers, layers.weights), (".network", None, _ONE)):
        g, d = (_scope(_stacked([getattr(p, x) for p in pairs]), rows) for x in ("gradient", "drift"))
        found = {
            "drift_kept": Figure.of_ratios(
                [drift_kept(*row) for row in zip(d, g, strict=True)], counted=True
            ),
            "relative_drift": Figure(d, g, root),
            **_against_updates(pairs, rows, g, d, sum(pair.step < half for pair in pairs)),
        }
        for name, figure in found.items():
            result |= measured(f"{prefix}{scope}.{name}", figure, weights, unit_of(name), seed)
    return result


def _against_updates(
    pairs: Sequence[Pair], rows: list[int] | None, g: Tensor, d: Tensor, first: int
) -> dict[str, Figure]:
    """What is of weights alone."""
    updates = [pair.update for pair in pairs if pair.update is not None]
    if not updates:
        return {}
    noises = [pair.noise for pair in pairs if pair.noise is not None]
    w = _scope(_stacked(updates), rows)
    e = _scope(_stacked(noises), rows) if noises else g[:, :0]
    ratios = lipschitz(d, w, g)
    moved = ~ratios.isnan()
    return {
        "lipschitz_kept": Figure.of_ratios([lipschitz_kept(row, first) for row in ratios], counted=True),
        "lipschitz": Figure(d * moved, w * moved, root),
        "relative_noise": Figure(e, g[:, : len(noises)], root),
        "noise_share": Figure(e, e + d[:, : len(noises)]),
    }


def _scope(squares: Tensor, rows: list[int] | None) -> Tensor:
    """Of these layers, or of all together."""
    return squares.sum(0, keepdim=True) if rows is None else squares[rows]


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """[layers, steps], on the CPU."""
    return torch.stack(list(parts), 1).cpu()


def unit_of(figure: str) -> str:
    return "dB" if "_db" in figure else "1"


def _generator(*parts: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed("figures", *parts))


_ONE = torch.ones(1, dtype=torch.float64)
