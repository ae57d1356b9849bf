"""What no code or no scalar code can pass, in closed form: all of sources of zero mean and unit variance.

R is bits per element; errors are mean squared errors; dB is 10 log10.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

DB_PER_BIT = 20 * math.log10(2)
SCALAR_GAP_DB = 10 * math.log10(math.pi * math.e / 6)
_NARROW, _WIDE_SHARE = 0.1, 0.01
_ROOT2 = math.sqrt(2)

# Exact errors of the best 2^b levels, b = 1 to 8: the equations of Max 1960, "Quantizing for Minimum Distortion",
# solved anew (his table prints .009497 and .002499 at 4 and 5 bits).
LLOYD_MAX = {
    "gaussian": (0.363380, 0.117482, 0.0345478, 0.00950101, 0.00250467, 6.4424e-4, 1.63478e-4, 4.11851e-5),
    "laplacian": (0.5, 0.176195, 0.054476, 0.0153725, 0.00410218, 0.00106095, 2.69874e-4, 6.80617e-5),
    "uniform": tuple(4.0**-bits for bits in range(1, 9)),
}


@dataclass(frozen=True)
class Density:
    """Of a symmetric source: differential entropy in bits, and integrals of p and t p from t >= 0 to infinity."""

    entropy_bits: float
    mass_above: Callable[[Floats], Floats]
    moment_above: Callable[[Floats], Floats]


def _gaussian_tail(t: Floats, sd: float = 1.0) -> tuple[Floats, Floats]:
    return special.ndtr(-t / sd), sd * np.exp(-((t / sd) ** 2) / 2) / math.sqrt(2 * math.pi)


def _mixture_tail(t: Floats) -> tuple[Floats, Floats]:
    unit = math.sqrt((1 - _WIDE_SHARE) * _NARROW**2 + _WIDE_SHARE)
    narrow, wide = _gaussian_tail(t, _NARROW / unit), _gaussian_tail(t, 1 / unit)
    mass, moment = ((1 - _WIDE_SHARE) * a + _WIDE_SHARE * b for a, b in zip(narrow, wide, strict=True))
    return mass, moment


def _mixture_entropy() -> float:
    """In bits, of 0.99 N(0, 0.1^2) + 0.01 N(0, 1) divided by its standard deviation; trapezoids, error below 1e-9."""
    unit = math.sqrt((1 - _WIDE_SHARE) * _NARROW**2 + _WIDE_SHARE)
    y = np.linspace(0, 12, 240_001)
    p = (1 - _WIDE_SHARE) / _NARROW * np.exp(-((y / _NARROW) ** 2) / 2) + _WIDE_SHARE * np.exp(-(y**2) / 2)
    p /= math.sqrt(2 * math.pi)
    surprise = -p * np.log2(p)
    return float(2 * (surprise.sum() - surprise[0] / 2) * (y[1] - y[0])) - math.log2(unit)


@functools.cache
def density(source: str) -> Density:
    """Of ``gaussian``, ``laplacian``, ``uniform`` or ``scale-mixture``.

    Raises:
        KeyError: another source.
    """
    end = math.sqrt(3)
    return {
        "gaussian": lambda: Density(
            0.5 * math.log2(2 * math.pi * math.e),
            lambda t: _gaussian_tail(t)[0],
            lambda t: _gaussian_tail(t)[1],
        ),
        "laplacian": lambda: Density(
            0.5 + math.log2(math.e),
            lambda t: np.exp(-_ROOT2 * t) / 2,
            lambda t: np.exp(-_ROOT2 * t) * (_ROOT2 * t + 1) / (2 * _ROOT2),
        ),
        "uniform": lambda: Density(
            math.log2(2 * end),
            lambda t: np.clip(end - t, 0, None) / (2 * end),
            lambda t: np.clip(3 - t**2, 0, None) * (t < end) / (4 * end),
        ),
        "scale-mixture": lambda: Density(
            _mixture_entropy(), lambda t: _mixture_tail(t)[0], lambda t: _mixture_tail(t)[1]
        ),
    }[source]()


def limit_sqnr_db(source: str, rate: float) -> float:
    """The SQNR in dB that no code of that rate exceeds: -10 log10 of 2^(2 h) / (2 pi e) 4^-R.

    Exact for the Gaussian, 6.02 R; for other sources the Shannon lower bound on the error.

    Reference: Shannon 1959, "Coding theorems for a discrete source with a fidelity criterion".
    """
    return 10 * math.log10(2 * math.pi * math.e) + DB_PER_BIT * (rate - density(source).entropy_bits)


def sphere_second_moment(n: int) -> float:
    """The normalized second moment of a ball, which that of no lattice in n dimensions is below.

    ``G(n) = Gamma(n / 2 + 1)^(2 / n) / ((n + 2) pi)``: 1/12 for n = 1, 1 / (2 pi e) for n to infinity.

    >>> round(sphere_second_moment(24), 7)
    0.0647498

    Reference: Zamir 2014, "Lattice Coding for Signals and Networks", section 3.2.
    """
    return math.exp(2 / n * math.lgamma(n / 2 + 1)) / ((n + 2) * math.pi)


def sphere_gap_db(n: int) -> float:
    """How far above the rate-distortion limit a lattice code in n dimensions stays at high rate, at least: 2 pi e G."""
    return 10 * math.log10(2 * math.pi * math.e * sphere_second_moment(n))


def ecsq(source: str, steps: Floats) -> tuple[Floats, Floats]:
    """Rates and SQNR in dB of thresholds at odd multiples of half a step, cell means, and an ideal entropy coder.

    With masses P and first moments M of the cells: ``R = -sum P log2 P``, ``MSE = 1 - sum M^2 / P``.

    Args:
        source: as for :func:`density`.
        steps: in standard deviations, [n].

    Reference: Gish & Pierce 1968, "Asymptotically Efficient Quantizing".
    """
    points = [_ecsq(density(source), float(step)) for step in steps]
    rates, errors = (np.array(column) for column in zip(*points, strict=True))
    return rates, -10 * np.log10(errors)


def _ecsq(p: Density, step: float) -> tuple[float, float]:
    t: Floats = (np.arange(math.ceil(60 / step), dtype=np.float64) + 0.5) * step
    mass, moment = p.mass_above(t), p.moment_above(t)
    cells, moments = -np.diff(mass, append=0.0), -np.diff(moment, append=0.0)
    kept = cells > 1e-300
    cells, moments = cells[kept], moments[kept]
    middle = 1 - 2 * float(mass[0])
    rate = -2 * float(np.sum(cells * np.log2(cells))) - middle * math.log2(middle)
    return rate, 1 - 2 * float(np.sum(moments**2 / cells))
