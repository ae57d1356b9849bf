"""How real gradients code, against the same codes on an iid Gaussian source of equal power."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .components import Quantizer
from .errors import InputError
from .measuring import Measured, fit, measure
from .quantizers.ecsq import Ecsq
from .quantizers.kmeans import KMeans
from .quantizers.lloyd_max import DENSITIES, LloydMax, exact_half
from .quantizers.nested_lattice import NestedLattice
from .quantizers.reading import values
from .schema import derived_seed

DB_PER_BIT = 20 * math.log10(2)
VECTOR = 8
VECTORS = 2**11
_LEAST = 1e-12


def _e8(m: int, beta: float | str = "auto") -> NestedLattice:
    overload = "nearest" if m <= 3 else "shrink"  # the nearest of m^8 codewords takes a second from m = 4 on
    return NestedLattice(lattice="E8", m=m, overload=overload, beta=beta)


CURVE: tuple[Quantizer, ...] = (
    *(LloydMax(bits=bits, table="gaussian") for bits in (1, 2, 3, 4)),
    *(KMeans(bits=bits) for bits in (1, 2, 3, 4)),
    *(Ecsq(rate=rate) for rate in (0.5, 1.0, 2.0, 3.0, 4.0)),
    *(_e8(m) for m in (2, 4, 16)),
)


def coding_figures(x: Tensor, elements: int) -> dict[str, float]:
    """What fixed and adapting scalar codes do at b = 2 and 4 bits, in dB; NaN where ``x`` is 0.

    With D the mean squared error and R the rate, which counts scale and codebook:

    - ``coding_gap_db_b`` = 10 log10(D_fixed / (mean x^2 D_b)): of ``lloyd-max(bits=b,table=gaussian)`` with one scale,
      the root mean square of x; D_b is the error of that table on a Gaussian of unit variance, .117482 and
      .00950101. 0: as predicted; positive: worse.
    - ``adapting_gain_db_b`` = 10 log10(D_fixed / D_adaptive) - 6.02 (R_adaptive - R_fixed): the gain of
      ``lloyd-max(bits=b,table=adaptive)``, whose levels are learned from x and sent. Errors count as at least
      1e-12 mean x^2.

    Args:
        x: a sample of a gradient, [n], any unit.
        elements: coordinates of that gradient, which share one codebook.
    """
    names = [f"{name}_{bits}" for bits in (2, 4) for name in ("coding_gap_db", "adapting_gain_db")]
    if not bool(x.any()):
        return dict.fromkeys(names, math.nan)
    # these codes do not mind the order, and ascending values are searched several times faster
    unit = torch.from_numpy(np.sort((x.double() / x.abs().max()).float().numpy()))
    found: list[float] = []
    for bits in (2, 4):
        fixed, adaptive = (
            measure(LloydMax(bits=bits, table=table), unit) for table in ("gaussian", "adaptive")
        )
        gain = _db(_relative_error(fixed) / _relative_error(adaptive))
        sent = (adaptive.rate - fixed.rate) * len(x) / elements
        found += [_db(_relative_error(fixed) / predicted_error(bits)), gain - DB_PER_BIT * sent]
    return dict(zip(names, found, strict=True))


@lru_cache
def predicted_error(bits: int) -> float:
    """The mean squared error of the Gaussian Lloyd-Max table at unit variance: .117482 at 2 bits, .00950101 at 4.

    Every level is the mean of its cell, so it is 1 less the mean square of the levels.

    Reference: Max 1960, "Quantizing for Minimum Distortion", table 1.
    """
    density = DENSITIES["gaussian"]
    levels = exact_half(density, 2**bits)
    thresholds = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2])
    mass = -np.diff(density.mass_above(thresholds), append=0.0)
    return 1 - 2 * float(np.sum(mass * levels**2))


@dataclass(frozen=True)
class RatePoint:
    """One code on gradients, beside itself on as many iid Gaussian coordinates of the same power.

    Rates are bits per coordinate as coded (entropy-coded bytes where the code is; a learned codebook included).
    ``gap_db`` = predicted_sqnr_db - sqnr_db + 6.02 (rate - predicted_rate): positive where the gradient codes worse
    than the Gaussian, a difference of rates counted at 6.02 dB a bit.
    """

    code: str
    rate: float
    sqnr_db: float
    predicted_rate: float
    predicted_sqnr_db: float

    @property
    def gap_db(self) -> float:
        return self.predicted_sqnr_db - self.sqnr_db + DB_PER_BIT * (self.rate - self.predicted_rate)


def rate_distortion(g: Tensor, generator: torch.Generator) -> list[RatePoint]:
    """Points of :data:`CURVE`: the fixed Gaussian table, k-means, entropy-coded scalars and nested E8 codes.

    Of at most 2^11 runs of 8 consecutive coordinates (:func:`runs`), so that E8 meets neighbours. Takes seconds.

    Raises:
        InputError: fewer than 8 coordinates, or all that were drawn are 0.
    """
    x = runs(g, generator)
    return [_rate_point(quantizer, x) for quantizer in CURVE]


def _rate_point(quantizer: Quantizer, x: Tensor) -> RatePoint:
    found, (rate, error) = measure(quantizer, x), _on_gaussian(quantizer, len(x))
    return RatePoint(str(quantizer.spec), found.rate, -_db(_relative_error(found)), rate, -_db(error))


@dataclass(frozen=True)
class BestBeta:
    """The scale of a nested E8 code that codes a gradient best, in units of its root mean square.

    ``gain_db``: what it gains over ``gaussian_beta``, the best for an iid Gaussian source.
    """

    beta: float
    gaussian_beta: float
    gain_db: float


def best_beta(g: Tensor, generator: torch.Generator, m: int = 2) -> BestBeta:
    """The best beta of ``nested-lattice(lattice=E8)`` on a grid of 2^(1/16), as that code's own fit finds it.

    Of the coordinates :func:`rate_distortion` takes.

    Raises:
        InputError: as there.
    """
    x = runs(g, generator)
    own, gaussian = _fitted_beta(x, m), _gaussian_beta(m)
    errors = [_relative_error(measure(_e8(m, beta), x)) for beta in (own, gaussian)]
    return BestBeta(own, gaussian, _db(errors[1] / errors[0]))


def runs(g: Tensor, generator: torch.Generator) -> Tensor:
    """At most 2^11 runs of 8 consecutive coordinates, one from each of as many strata: [8 runs], float32, CPU.

    Divided by the largest magnitude.

    Raises:
        InputError: fewer than 8 coordinates, or all that were drawn are 0.
    """
    vectors = g.detach().reshape(-1)[: g.numel() // VECTOR * VECTOR].reshape(-1, VECTOR)
    chosen = vectors[strata(len(vectors), VECTORS, generator).to(g.device)].cpu().double().reshape(-1)
    if not bool(chosen.any()):
        raise InputError(
            f"nothing to code in a gradient of shape {tuple(g.shape)}: it needs {VECTOR} coordinates, not 0"
        )
    return (chosen / chosen.abs().max()).float()


def strata(n: int, count: int, generator: torch.Generator) -> Tensor:
    """At most ``count`` of n indices, ascending: one from each of ``count`` equal runs; all if there are fewer."""
    if n <= count:
        return torch.arange(n)
    ends = torch.arange(count + 1) * n // count
    within = (torch.rand(count, generator=generator, dtype=torch.float64) * ends.diff()).long()
    return ends[:-1] + within


@lru_cache(maxsize=256)
def _on_gaussian(quantizer: Quantizer, n: int) -> tuple[float, float]:
    """Rate and relative error on n iid Gaussian coordinates, the same ones every time."""
    found = measure(quantizer, _gaussian(n))
    return found.rate, _relative_error(found)


@lru_cache
def _gaussian_beta(m: int) -> float:
    return _fitted_beta(_gaussian(VECTOR * VECTORS), m)


def _gaussian(n: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(derived_seed("gradient coding", n)))


def _fitted_beta(x: Tensor, m: int) -> float:
    codebook = fit(_e8(m), x, generator=torch.Generator().manual_seed(derived_seed("beta")))["c"]
    assert isinstance(codebook, dict)
    return float(values(codebook, "beta"))


def _relative_error(found: Measured) -> float:
    return max(_LEAST, 10 ** (-found.sqnr_db / 10))


def _db(ratio: float) -> float:
    return 10 * math.log10(ratio)
