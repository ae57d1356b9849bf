"""Five densities symmetric about 0: their estimates, information, logarithms and tails, from magnitudes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .errors import InputError

Floats = NDArray[np.float64]
Parameters = Mapping[str, float]

SHAPES = (0.05, 50.0)
DEGREES = (0.1, 1000.0)


@dataclass(frozen=True)
class Family:
    """A density of x in terms of m = |x|.

    Attributes:
        estimate: the parameters of greatest likelihood, from magnitudes above 0 [n] whose mean square is 1.
        information: Fisher's, of one value, a matrix in the order of the parameters.
        log_density: of x, from m.
        survival: P(|X| > m).
    """

    estimate: Callable[[Floats], dict[str, float]]
    information: Callable[[Parameters], Floats]
    log_density: Callable[[Floats, Parameters], Floats]
    survival: Callable[[Floats, Parameters], Floats]


def density(family: str, parameters: Parameters, x: Floats) -> Floats:
    """The density at ``x``, for instance of ``fit.family`` and ``fit.parameters``, in units of 1 / x.

    Raises:
        InputError: there is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"there is no family {family!r}; there are {', '.join(FAMILIES)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.exp(FAMILIES[family].log_density(np.abs(np.asarray(x, dtype=float)), parameters))
    return np.where(np.isnan(found), 0.0, found)


def generalized_gaussian_shape(magnitudes: Floats) -> float:
    """The shape p of greatest likelihood in [.05, 50]: 1 for Laplace, 2 for Gaussian values.

    The root of ``1 + psi(1/p) / p + log(p mean(m^p)) / p - mean(m^p log m) / mean(m^p)``, found in log p to 1e-6.

    Args:
        magnitudes: positive, in any unit, [n].
    """
    logs = np.log(magnitudes / magnitudes.max())

    def score(log_shape: float) -> float:
        p = math.exp(log_shape)
        powers = np.exp(p * logs)
        mean = float(powers.mean())
        return float(
            1 + (special.psi(1 / p) + math.log(p * mean)) / p - np.dot(powers, logs) / (mean * logs.size)
        )

    return math.exp(_falling_root(score, *map(math.log, SHAPES)))


def _falling_root(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-6) -> float:
    """Where ``f`` falls through 0, or the end of the range that it does not reach it in."""
    from scipy.optimize import brentq  # costs half a second to import

    if f(low) <= 0:
        return low
    if f(high) >= 0:
        return high
    return float(brentq(f, low, high, xtol=tolerance))


def _fit_generalized_gaussian(m: Floats) -> dict[str, float]:
    shape = generalized_gaussian_shape(m)
    largest = float(m.max())
    scale = largest * (shape * float(np.mean((m / largest) ** shape))) ** (1 / shape)
    return {"scale": scale, "shape": shape}


def _generalized_gaussian_information(parameters: Parameters) -> Floats:
    """y = (m / scale)^shape is Gamma(a = 1 / shape); the score is (shape y - 1) / scale and const - a y log y."""
    scale, a = parameters["scale"], 1 / parameters["shape"]
    psi = float(special.psi(a + 1))
    later = psi + 1 / (a + 1)
    slope = float(special.polygamma(1, a + 2)) + later**2
    cross = -(a / scale) * (psi + 1)
    own = a * a * (a * (a + 1) * slope - (a * psi) ** 2)
    return np.array([[1 / (a * scale**2), cross], [cross, own]])


def _fit_student(m: Floats) -> dict[str, float]:
    """The profile likelihood's root in log df; its score needs no sum beyond that of log(1 + q / df), q = (m / s)^2."""
    squares = np.square(m)

    def log_scale(df: float) -> float:
        """Half the root in log s^2 of ``mean(q / (df + q)) = 1 / (df + 1)``."""

        def excess(log_square: float) -> float:
            return float(np.mean(squares / (df * math.exp(log_square) + squares))) - 1 / (df + 1)

        return 0.5 * _falling_root(excess, -60.0, 2 * math.log(float(m.max())) + 1, tolerance=1e-9)

    def score(log_df: float) -> float:
        df = math.exp(log_df)
        rest = float(np.mean(np.log1p(squares / (df * math.exp(2 * log_scale(df))))))
        return float(special.psi((df + 1) / 2) - special.psi(df / 2)) - rest

    df = math.exp(_falling_root(score, *map(math.log, DEGREES)))
    return {"scale": math.exp(log_scale(df)), "df": df}


def _student_information(parameters: Parameters) -> Floats:
    scale, df = parameters["scale"], parameters["df"]
    cross = -2 / ((df + 1) * (df + 3) * scale)
    curvature = float(special.polygamma(1, df / 2) - special.polygamma(1, (df + 1) / 2)) / 4
    own = curvature - (df + 5) / (2 * df * (df + 1) * (df + 3))
    return np.array([[2 * df / ((df + 3) * scale**2), cross], [cross, own]])


def _log_gaussian(m: Floats, p: Parameters) -> Floats:
    found: Floats = -np.square(m / p["scale"]) / 2 - math.log(p["scale"] * math.sqrt(2 * math.pi))
    return found


def _log_generalized_gaussian(m: Floats, p: Parameters) -> Floats:
    constant = math.log(p["shape"] / (2 * p["scale"])) - math.lgamma(1 / p["shape"])
    found: Floats = constant - (m / p["scale"]) ** p["shape"]
    return found


def _log_student(m: Floats, p: Parameters) -> Floats:
    df = p["df"]
    constant = (
        math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(p["scale"] * math.sqrt(df * math.pi))
    )
    found: Floats = constant - (df + 1) / 2 * np.log1p(np.square(m / p["scale"]) / df)
    return found


def _log_lognormal(m: Floats, p: Parameters) -> Floats:
    logs = np.log(m)
    constant = math.log(2 * p["log_sd"] * math.sqrt(2 * math.pi))
    found: Floats = -np.square((logs - p["log_mean"]) / p["log_sd"]) / 2 - logs - constant
    return found


FAMILIES = {
    "gaussian": Family(
        estimate=lambda m: {"scale": math.sqrt(float(np.mean(np.square(m))))},
        information=lambda p: np.array([[2 / p["scale"] ** 2]]),
        log_density=_log_gaussian,
        survival=lambda m, p: 2 * special.ndtr(-m / p["scale"]),
    ),
    "laplace": Family(
        estimate=lambda m: {"scale": float(np.mean(m))},
        information=lambda p: np.array([[1 / p["scale"] ** 2]]),
        log_density=lambda m, p: -m / p["scale"] - math.log(2 * p["scale"]),
        survival=lambda m, p: np.exp(-m / p["scale"]),
    ),
    "generalized-gaussian": Family(
        estimate=_fit_generalized_gaussian,
        information=_generalized_gaussian_information,
        log_density=_log_generalized_gaussian,
        survival=lambda m, p: special.gammaincc(1 / p["shape"], (m / p["scale"]) ** p["shape"]),
    ),
    "student": Family(
        estimate=_fit_student,
        information=_student_information,
        log_density=_log_student,
        survival=lambda m, p: 2 * special.stdtr(p["df"], -m / p["scale"]),
    ),
    "lognormal": Family(
        estimate=lambda m: {"log_mean": float(np.log(m).mean()), "log_sd": float(np.log(m).std())},
        information=lambda p: np.array([[1.0, 0.0], [0.0, 2.0]]) / p["log_sd"] ** 2,
        log_density=_log_lognormal,
        survival=lambda m, p: special.ndtr(-(np.log(m) - p["log_mean"]) / p["log_sd"]),
    ),
}
