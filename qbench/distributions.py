"""Which of five symmetric densities a sample comes from: likelihood, standard errors, distance to the fit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from .errors import InputError
from .families import FAMILIES as FAMILIES
from .families import Floats

if TYPE_CHECKING:
    from torch import Tensor

TESTED = 4096
FEWEST = 8
_RAREST = 1e-300


@dataclass(frozen=True)
class Fit:
    """A density fitted by maximum likelihood, and how far the sample is from it.

    Attributes:
        family: one of :data:`FAMILIES`.
        parameters: ``scale`` and ``log_mean`` in the units of x; see :func:`fit_families`.
        standard_errors: of each parameter, from the inverse Fisher information at the estimate; they mean nothing
            where shape or degrees of freedom stand at the end of their range.
        log_likelihood: natural logarithm, of all n values.
        aic: ``2 k - 2 log_likelihood`` for k parameters.
        bic: ``k log(n) - 2 log_likelihood``.
        n: values fitted.
        tested: values of them, evenly spaced in their order, that the four numbers below are of.
        ks: Kolmogorov-Smirnov distance ``max |F_n - F|``: the size of the effect.
        ks_p: its p for a density given beforehand; too large for one fitted to the same values.
        ad: Anderson-Darling statistic A^2; ``ad / tested`` tends to the integral of ``(G - F)^2 / (F (1 - F)) dF``,
            with G the true distribution: the size of the effect.
        ad_p: its p, asymptotic, with the reservation of ``ks_p``.
    """

    family: str
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    log_likelihood: float
    aic: float
    bic: float
    n: int
    tested: int
    ks: float
    ks_p: float
    ad: float
    ad_p: float


def fit_families(x: "Tensor | Floats", tested: int = TESTED) -> dict[str, Fit]:
    """The five fits of the nonzero values of ``x``, by family.

    With m = |x|, each density of x is half that of m:

    - gaussian: ``exp(-x^2 / (2 scale^2)) / (scale sqrt(2 pi))``
    - laplace: ``exp(-m / scale) / (2 scale)``
    - generalized-gaussian: ``shape / (2 scale Gamma(1 / shape)) exp(-(m / scale)^shape)``, shape in [.05, 50]
    - student: that of ``scale`` times Student's t of ``df`` degrees of freedom, df in [.1, 1000]
    - lognormal: log m is Gaussian of mean ``log_mean`` and standard deviation ``log_sd``

    Zeros are left out: no density has an atom. The centre is 0; to fit about another one, subtract it before. All
    values are used: choose a sample of at most 10^5 for a fit within a tenth of a second.

    Args:
        x: any shape, any units.
        tested: most values that distances and p are of.

    Raises:
        InputError: a value is not finite, fewer than 8 values are not zero, or all magnitudes are equal.

    Reference: Burnham & Anderson 2002, "Model Selection and Multimodel Inference" (AIC, BIC); Agro 1995, "Maximum
    likelihood estimation for the exponential power function parameters"; Lange, Little & Taylor 1989, "Robust
    statistical modeling using the t distribution", appendix B.
    """
    values = _nonzeros(x)
    unit = math.sqrt(float(np.mean(np.square(values))))
    magnitudes = np.abs(values / unit)
    if magnitudes.min() == magnitudes.max():
        raise InputError("all magnitudes are equal: that is no density; give values that differ")
    chosen = np.arange(min(values.size, tested)) * values.size // min(values.size, tested)
    return {name: _fit(name, magnitudes, values[chosen] / unit, unit) for name in FAMILIES}


def best_family(fits: Mapping[str, Fit]) -> str:
    """The family of least BIC."""
    return min(fits, key=lambda name: fits[name].bic)


def kolmogorov_smirnov(probabilities: Floats) -> float:
    """The largest distance between the empirical distribution of a sample and F, from F at each value, any order."""
    ordered = np.sort(probabilities)
    steps = np.arange(ordered.size + 1) / ordered.size
    return float(max((ordered - steps[:-1]).max(), (steps[1:] - ordered).max()))


def _nonzeros(x: "Tensor | Floats") -> Floats:
    array = x if isinstance(x, np.ndarray) else x.detach().cpu().double().numpy()
    values: Floats = np.asarray(array, dtype=np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise InputError(f"{int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite")
    found: Floats = values[values != 0]
    if found.size < FEWEST:
        raise InputError(f"{found.size} values are not zero; a fit needs at least {FEWEST}")
    return found


def _fit(name: str, magnitudes: Floats, tested: Floats, unit: float) -> Fit:
    """Of values in units of their root mean square, ``unit``."""
    family, n = FAMILIES[name], magnitudes.size
    parameters = family.estimate(magnitudes)
    log_likelihood = float(family.log_density(magnitudes, parameters).sum()) - n * math.log(unit)
    errors = np.sqrt(np.diag(np.linalg.inv(family.information(parameters))) / n)
    tails = np.maximum(family.survival(np.abs(tested), parameters) / 2, _RAREST)
    ks, ad = kolmogorov_smirnov(np.where(tested < 0, tails, 1 - tails)), _anderson_darling(tested, tails)
    return Fit(
        family=name,
        parameters={key: _in_units(key, value, unit) for key, value in parameters.items()},
        standard_errors={
            key: float(error) * (unit if key == "scale" else 1.0)
            for key, error in zip(parameters, errors, strict=True)
        },
        log_likelihood=log_likelihood,
        aic=2 * len(parameters) - 2 * log_likelihood,
        bic=len(parameters) * math.log(n) - 2 * log_likelihood,
        n=n,
        tested=tested.size,
        ks=ks,
        ks_p=float(special.kolmogorov((math.sqrt(tested.size) + 0.12 + 0.11 / math.sqrt(tested.size)) * ks)),
        ad=ad,
        ad_p=_anderson_darling_p(ad),
    )


def _in_units(name: str, value: float, unit: float) -> float:
    if name == "log_mean":
        return value + math.log(unit)
    return value * unit if name == "scale" else value


def _anderson_darling(values: Floats, tails: Floats) -> float:
    """A^2 = -n - sum (2 i - 1) / n (log F(x_i) + log(1 - F(x_(n+1-i)))), from the smaller of F and 1 - F."""
    order = np.argsort(values)
    negative, near = values[order] < 0, np.log(tails[order])
    far = np.log1p(-tails[order])
    below, above = np.where(negative, near, far), np.where(negative, far, near)
    n = values.size
    return float(-n - np.dot((2 * np.arange(n) + 1) / n, below + above[::-1]))


def _anderson_darling_p(z: float) -> float:
    """P(A^2 > z) for large samples.

    Reference: Marsaglia & Marsaglia 2004, "Evaluating the Anderson-Darling Distribution", adinf; error below 2e-6.
    """
    if z < 2:
        terms = (2.00012, 0.247105, -0.0649821, 0.0347962, -0.011672, 0.00168691)
        return 1 - math.exp(-1.2337141 / z) / math.sqrt(z) * float(np.polynomial.polynomial.polyval(z, terms))
    terms = (1.0776, -2.30695, 0.43424, -0.082433, 0.008056, -0.0003146)
    return -math.expm1(-math.exp(float(np.polynomial.polynomial.polyval(min(z, 60.0), terms))))
