"""How a vector moves from step to step: alike, predictable, bounded in its increments.

Every figure is a quotient of sums over steps, so that a bootstrap over steps can form it again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# averages of about 2, 4, 8 and 16 steps
_MEMORIES = (1 / 2, 3 / 4, 7 / 8, 15 / 16)
_DRIFT = 0.1
# relative: what float32 adds to a gradient in rounding is no drift
_ROUNDING = 1e-6


class Ratio(NamedTuple):
    """Parts of a figure step by step, float64 [steps]: its value is sum(numerator) / sum(denominator)."""

    numerator: Tensor
    denominator: Tensor

    @property
    def value(self) -> float:
        """NaN where there is nothing to divide by."""
        below = float(self.denominator.sum())
        return float(self.numerator.sum()) / below if below else float("nan")


def gram(series: Tensor) -> Tensor:
    """<x_s, x_t> for all steps s and t, float64 [steps, steps], of a series [steps, coordinates].

    All the figures below that take ``products`` follow from these alone; they add over parts of a vector.
    """
    x = series.double()
    return x @ x.T


def autocorrelation(products: Tensor, lag: int) -> Ratio:
    """2 sum <x_t, x_t+lag> / sum (|x_t|^2 + |x_t+lag|^2), in [-1, 1]; no mean is taken off. ``lag`` < steps."""
    energy = products.diagonal()
    return Ratio(2 * products.diagonal(lag), energy[: len(energy) - lag] + energy[lag:])


def cosine(products: Tensor) -> Ratio:
    """The mean over steps of cos(x_t, x_t+1); steps with a zero vector are left out."""
    norms = products.diagonal().sqrt()
    both = norms[:-1] * norms[1:]
    return Ratio(torch.where(both > 0, products.diagonal(1) / both, 0.0), (both > 0).double())


def relative_increment(products: Tensor) -> Ratio:
    """sum |x_t+1 - x_t|^2 / sum |x_t|^2; 2 for independent steps of zero mean."""
    energy = products.diagonal()
    return Ratio(energy[1:] + energy[:-1] - 2 * products.diagonal(1), energy[:-1])


def last_step_gain(products: Tensor) -> Ratio:
    """sum |x_t+1|^2 / sum |x_t+1 - a_t x_t|^2; 10 log10 of it is the prediction gain in dB.

    The coefficient is causal: a_t is the least-squares one of all steps before. The sums are over the second half of
    the series, x_n/2 and after: coefficients that only few steps are behind would cost what one that has been learned
    does not. For x_t+1 = rho x_t + noise the gain approaches 1 / (1 - rho^2), for independent steps 1.

    Reference: Jayant, Noll, Digital Coding of Waveforms, 1984, section 6.2.
    """
    last = torch.eye(len(products), dtype=torch.float64)
    return _scored(*_causal(products, last, 1), len(products) // 2 - 2)


def increment_gain(products: Tensor) -> Ratio:
    """As :func:`last_step_gain` with a_t = 1: what coding plain increments gains; 1/2 for independent steps."""
    return Ratio(products.diagonal()[1:], relative_increment(products).numerator)


def average_gain(products: Tensor, memories: Sequence[float] = _MEMORIES) -> Ratio:
    """As :func:`last_step_gain`, from m_t = mean of x_0 ... x_t with weights memory^(t - s) in the place of x_t.

    A memory is one of 1 / (1 - memory) steps; tried are those that the first half of the series holds, the shortest
    always. Coefficients are learned from the second quarter on, as averages of few steps want smaller ones. The memory
    at each step is the one whose errors from there up to then add up to the least.

    For x_t+1 = rho x_t + noise the gain approaches 1 / (1 - rho^2 (1 - memory^2) / (1 - memory^2 rho^2)).
    """
    half = len(products) // 2
    fitting = [memory for memory in memories if round(1 / (1 - memory)) <= half] or [min(memories)]
    learned = max(1, half // 2)
    tried = [_causal(products, _averages(len(products), memory), learned) for memory in fitting]
    errors = torch.stack([error for _, error in tried])
    before = errors.cumsum(1) - errors
    chosen = errors.gather(0, before.argmin(0, keepdim=True))[0]
    return _scored(tried[0][0], chosen, half - learned - 1)


def _scored(signal: Tensor, error: Tensor, burn_in: int) -> Ratio:
    return Ratio(signal[max(burn_in, 0) :], error[max(burn_in, 0) :])


def _causal(products: Tensor, weights: Tensor, learned: int) -> tuple[Tensor, Tensor]:
    """Energies of x_t+1, and of what its prediction from ``weights[t] @ x`` leaves of it, t = learned, learned + 1, ...

    Coefficients are learned from x_learned on; that one has none: there is none before that it could be learned from.
    """
    moved = weights @ products
    inner, energy = moved.diagonal(1)[learned - 1 :], (moved * weights).sum(1)[learned - 1 : -1]
    below = energy.cumsum(0)[:-1]
    factor = torch.where(below > 0, inner.cumsum(0)[:-1] / below, 0.0)
    signal = products.diagonal()[learned + 1 :]
    error = signal - 2 * factor * inner[1:] + factor.square() * energy[1:]
    return signal, error.clamp_min(0)


def _averages(steps: int, memory: float) -> Tensor:
    """Weights of x_s in m_t, [t, s]; every row adds up to 1."""
    ages = torch.arange(steps)[:, None] - torch.arange(steps)
    weights = torch.where(ages >= 0, memory ** ages.clamp_min(0).double(), 0.0)
    return weights / weights.sum(1, keepdim=True)


def lipschitz(drift: Tensor, update: Tensor, gradient: Tensor) -> Tensor:
    """|dg| / |dw| from squared norms [steps]; NaN where no weight moved or the gradient moved less than its rounding.

    On the same batch this is at most the largest magnitude of an eigenvalue of the Hessian between the two weights.

    Reference: Nesterov, Introductory Lectures on Convex Optimization, 2004, section 1.2.2.
    """
    known = (update > 0) & (drift > _ROUNDING**2 * gradient)
    return torch.where(known, (drift / update).sqrt(), torch.nan)


def lipschitz_kept(ratios: Tensor, first: int) -> Ratio:
    """Share of ``ratios`` [steps] after the ``first`` that the largest of these bounds; NaN are left out.

    After n of n + m exchangeable values n / (n + 1) of the others are, on average.
    """
    early, late = (part[~part.isnan()] for part in (ratios[:first], ratios[first:]))
    bounded = late <= early.max() if len(early) else late[:0]
    return Ratio(bounded.double(), torch.ones(len(bounded), dtype=torch.float64))


def drift_kept(drift: Tensor, gradient: Tensor) -> Ratio:
    """Share of steps with |dg| <= 0.1 |g|, from squared norms [steps]; steps without a gradient are left out."""
    known = gradient > 0
    return Ratio(((drift <= _DRIFT**2 * gradient) & known).double(), known.double())
