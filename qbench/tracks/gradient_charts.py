"""What charts of gradients are drawn from: densities, fits, codes of real gradients, increments over training."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..distributions import FAMILIES, Fit, best_family, fit_families
from ..errors import InputError
from ..gradient_capture import Pair, Record
from ..gradient_coding import best_beta, rate_distortion
from ..gradient_dynamics import lipschitz
from ..schema import Fact, Measurement, derived_seed
from .gradient_summary import Figure, measured, spread
from .gradient_windows import Layers, unit_of

BINS = 101
BINS_PER_SIGMA = 10
_DRAWN_LAYERS = 8
_FITTED = 2**14


def density_charts(record: Record, layers: Layers) -> dict[str, Measurement]:
    """``<window>.density.<layer>`` of eight layers at most: counts of u = g / sigma in 101 bins of width .1 about 0.

    sigma is the root mean square of a step's nonzeros, which alone are counted; the outermost bins hold all beyond. The
    value is the share of zeros, n the number of coordinates, zeros included.
    """
    found = {}
    for i in spread(len(layers.sites), _DRAWN_LAYERS):
        steps = [layers.among(one.gradients)[i].reshape(-1) for one in record.snapshots]
        counts, n = sum(map(_histogram, steps), torch.zeros(BINS)), sum(len(x) for x in steps)
        name = f"{record.window.name}.density.{layers.sites[i].name}"
        zeros = 1 - float(counts.sum()) / n
        found[name] = Measurement(value=zeros, unit="1", samples=counts.tolist(), n=n)
    return found


def _histogram(x: Tensor) -> Tensor:
    """Counts of the standardized nonzeros, [bins]."""
    u = x[x != 0]
    if not len(u):
        return torch.zeros(BINS)
    u = u / u.square().mean().sqrt()
    places = (u * BINS_PER_SIGMA).round().clamp(-(BINS // 2), BINS // 2).long() + BINS // 2
    return torch.bincount(places, minlength=BINS).float()


def fit_charts(record: Record, layers: Layers, seed: int) -> tuple[dict[str, Measurement], dict[str, Fact]]:
    """Five densities fitted to the standardized nonzeros of every layer at the snapshot in the middle.

    ``<window>.fit.<family>.<...>`` are parameter-weighted medians over layers, with the layers' values as samples: the
    parameters, ``ks`` and ``ad`` (A^2 / n, the size of the effect), and ``bic_excess``, how far above the best family's
    the BIC is, per coordinate, in nats. The fact is the family that is best for the largest share of parameters.
    Layers with nothing to fit are left out: ``<window>.fit.left_out`` is their number, where there are any.
    """
    middle = record.snapshots[len(record.snapshots) // 2]
    pairs = zip(layers.among(middle.gradients), layers.weights.tolist(), strict=True)
    fits = [(fit, weight) for g, weight in pairs if (fit := _fitted(g)) is not None]
    found: dict[str, Measurement] = {}
    if missing := len(layers.sites) - len(fits):
        left_out = Measurement(value=missing, unit="1", n=len(layers.sites))
        found[f"{record.window.name}.fit.left_out"] = left_out
    if not fits:
        return found, {}
    weights = torch.tensor([weight for _, weight in fits], dtype=torch.float64)
    for family in FAMILIES:
        rows = [_fit_row(fit, family) for fit, _ in fits]
        for name in rows[0]:
            values = torch.tensor([[row[name]] for row in rows], dtype=torch.float64)
            whole = f"{record.window.name}.fit.{family}.{name}"
            # one step is no sample of steps: no interval
            made = measured(whole, Figure.of_values(values), weights, "1", seed)
            found |= {key: value for key, value in made.items() if key == whole}
    votes: Counter[str] = Counter()
    for fit, weight in fits:
        votes[best_family(fit)] += int(weight)
    return found, {f"{record.window.name}.best_family": votes.most_common(1)[0][0]}


def _fitted(g: Tensor) -> dict[str, Fit] | None:
    """None where there is nothing to fit."""
    x = g.reshape(-1)
    x = x[x != 0]
    x = x[spread(len(x), _FITTED)]
    try:
        return fit_families((x.double() / x.double().square().mean().sqrt()).numpy())
    except InputError:
        return None


def _fit_row(fits: dict[str, Fit], family: str) -> dict[str, float]:
    fit = fits[family]
    least = min(other.bic for other in fits.values())
    excess = (fit.bic - least) / (2 * fit.n)
    return {**fit.parameters, "ks": fit.ks, "ad": fit.ad / fit.tested, "bic_excess": excess}


def coding_charts(record: Record, layers: Layers, seed: int) -> dict[str, Measurement]:
    """What codes do on the largest layer's gradient in the middle of the window, the last of equals.

    ``<window>.code.<code>.rate``, ``.sqnr_db``, ``.predicted_sqnr_db`` and ``.gap_db`` have a sample for each point of
    :func:`qbench.gradient_coding.rate_distortion`, their value is the mean; ``<window>.best_beta`` and
    ``<window>.beta_gain_db`` are of nested E8 codes.
    """
    largest = max(range(len(layers.sites)), key=lambda i: (layers.sites[i].size, i))
    g = layers.among(record.snapshots[len(record.snapshots) // 2].gradients)[largest]
    name = record.window.name
    generators = (torch.Generator().manual_seed(derived_seed("coding", seed, name)) for _ in range(2))
    try:
        points, beta = rate_distortion(g, next(generators)), best_beta(g, next(generators))
    except InputError:
        return {}
    found = {
        f"{name}.best_beta": Measurement(value=beta.beta, unit="1"),
        f"{name}.gaussian_beta": Measurement(value=beta.gaussian_beta, unit="1"),
        f"{name}.beta_gain_db": Measurement(value=beta.gain_db, unit="dB"),
    }
    for code in dict.fromkeys(point.code.partition("(")[0] for point in points):
        own = [point for point in points if point.code.partition("(")[0] == code]
        for figure in ("rate", "sqnr_db", "predicted_sqnr_db", "gap_db"):
            unit = "bit/element" if figure == "rate" else unit_of(figure)
            values = [getattr(point, figure) for point in own]
            found[f"{name}.code.{code}.{figure}"] = Measurement.mean(values, unit)
    return found


def increment_charts(pairs: Sequence[Pair]) -> dict[str, Measurement]:
    """Of the whole network at every paired step of the training: |dg| / |g|, |noise| / |g|, |dw|, |dg| / |dw|.

    Of outputs the first alone. Samples of ``increments.step`` are the steps; what is unknown there is left out together
    with its step.
    """
    rows = [_increments(pair) for pair in pairs if float(pair.gradient.sum()) > 0]
    kept = [row for row in rows if np.isfinite([*row.values()]).all()]
    names = kept[0] if kept else ()
    return {f"increments.{name}": Measurement.mean([row[name] for row in kept], "1") for name in names}


def _increments(pair: Pair) -> dict[str, float]:
    g, d = float(pair.gradient.sum()), float(pair.drift.sum())
    found = {"step": float(pair.step), "drift": math.sqrt(d / g)}
    if pair.update is None:
        return found
    w, e = float(pair.update.sum()), math.nan if pair.noise is None else float(pair.noise.sum())
    ratio = float(lipschitz(*(torch.tensor(x, dtype=torch.float64) for x in (d, w, g))))
    return {**found, "noise": math.sqrt(e / g), "update": math.sqrt(w), "lipschitz": ratio}
