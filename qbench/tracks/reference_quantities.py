"""What has a known value, estimated from independent units of a sample, with a standard error from their spread."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..components import Source
from ..quantizers.lattices import Lattice

Quantity = Literal[
    "mse",
    "sqnr_db",
    "gap_db",
    "cosine",
    "angle",
    "entropy",
    "level",
    "group_level",
    "step",
    "threshold",
    "vector_cosine",
    "vector_cosine_deviation",
    "relative_variance",
    "nonzeros",
    "sign_product",
    "one_sided_correlation",
    "two_sided_correlation",
    "rate",
    "nsm",
    "limit",
]
PAIRED = ("sign_product", "one_sided_correlation", "two_sided_correlation")
UNITS = 64


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error, and samples whose mean and spread these are."""

    value: float
    standard_error: float
    samples: list[float]


@dataclass(frozen=True)
class Totals:
    """Sums over each of several independent units, ``rows`` [units, k], and what follows from their total [k]."""

    rows: Tensor
    follows: Callable[[Tensor], float]

    def jackknife(self) -> Estimate:
        """The mean of the pseudo-values ``n f(T) - (n - 1) f(T - row_i)``, and the standard error of that mean.

        For a mean these are the units themselves; of a smooth f it takes the bias of order 1/n away. One unit alone
        is taken as exact.

        Reference: Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans", chapters 2 and 3.
        """
        total, n = self.rows.sum(0), len(self.rows)
        whole = self.follows(total)
        if n == 1:
            return Estimate(whole, 0.0, [whole])
        samples = [n * whole - (n - 1) * self.follows(total - row) for row in self.rows]
        mean = math.fsum(samples) / n
        variance = math.fsum((sample - mean) ** 2 for sample in samples) / (n - 1) / n
        return Estimate(mean, math.sqrt(variance), samples)


@dataclass(frozen=True)
class Scored:
    """A sample and what was decoded for it, both [units, vectors, length], with what the quantity is asked at."""

    x: Tensor
    y: Tensor
    at: float
    source: Source


def _sums(*terms: Tensor) -> Tensor:
    """Per unit the sum of each term, [units, terms], float64."""
    return torch.stack([term.double().flatten(1).sum(1) for term in terms], 1)


def _mean(terms: Tensor) -> Totals:
    """The mean of ``terms`` [units, ...]."""
    return Totals(_sums(terms, torch.ones_like(terms)), lambda total: float(total[0] / total[1]))


def _squares(scored: Scored) -> Tensor:
    return (scored.x - scored.y).double().square()


def _mse(scored: Scored) -> Totals:
    return _mean(_squares(scored))


def _sqnr_db(scored: Scored) -> Totals:
    rows = _sums(scored.x.double().square(), _squares(scored))
    return Totals(rows, lambda total: 10 * math.log10(total[0] / total[1]))


def _gap_db(scored: Scored) -> Totals:
    """``10 log10(MSE / D(H))``, H the entropy of the decoded values."""
    histogram, errors = _histogram(scored.y), _mse(scored).rows

    def follows(total: Tensor) -> float:
        limit = scored.source.distortion_limit(_entropy_of(total[2:]))
        return 10 * math.log10(total[0] / total[1] / limit)

    return Totals(torch.cat([errors, histogram], 1), follows)


def _products(scored: Scored) -> Tensor:
    x, y = scored.x.double(), scored.y.double()
    return _sums(x * y, x * x, y * y)


def _cosine(scored: Scored) -> Totals:
    return Totals(_products(scored), lambda total: float(total[0] / (total[1] * total[2]).sqrt()))


def _angle(scored: Scored) -> Totals:
    """Between all of x and all of y, in degrees."""
    return Totals(
        _products(scored), lambda total: math.degrees(math.acos(total[0] / (total[1] * total[2]).sqrt()))
    )


def _vector_cosines(scored: Scored) -> Tensor:
    """[units, vectors]."""
    return torch.cosine_similarity(scored.x.double(), scored.y.double(), dim=2)


def _vector_cosine(scored: Scored) -> Totals:
    return _mean(_vector_cosines(scored))


def _vector_cosine_deviation(scored: Scored) -> Totals:
    """The standard deviation between vectors."""
    cosines = _vector_cosines(scored)
    centred = cosines - cosines.mean()  # the difference of squares would cancel
    rows = _sums(centred, centred.square(), torch.ones_like(centred))
    return Totals(rows, lambda total: float((total[1] / total[2] - (total[0] / total[2]).square()).sqrt()))


def _entropy(scored: Scored) -> Totals:
    """Of the decoded values, bits per element; the jackknife removes the bias of the plug-in estimate."""
    return Totals(_histogram(scored.y), _entropy_of)


def _histogram(y: Tensor) -> Tensor:
    """How often each decoded value occurs in each unit, [units, values]; all units share one codebook."""
    values, inverse = torch.unique(y.flatten(1), return_inverse=True)
    return torch.stack([torch.bincount(unit, minlength=len(values)) for unit in inverse]).double()


def _entropy_of(counts: Tensor) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log2()).sum())


def _level(scored: Scored) -> Totals:
    """The decoded value of rank ``at`` among those of a unit, from 0."""
    return _mean(torch.stack([unit.unique()[int(scored.at)].double() for unit in scored.y])[:, None])


def _group_level(scored: Scored) -> Totals:
    """The same of ``y / max |y|`` of each vector, of all units together; values within 1e-4 are one level."""
    levels = (scored.y.double() / scored.y.double().abs().amax(2, keepdim=True)).flatten().sort().values
    first = torch.cat([levels.new_ones(1), (levels.diff() > 1e-4).double()])
    return _mean(levels[first.cumsum(0) == scored.at + 1].mean()[None, None])


def _step(scored: Scored) -> Totals:
    """The least distance between decoded values of a unit."""
    return _mean(torch.stack([unit.double().unique().diff().min() for unit in scored.y])[:, None])


def _threshold(scored: Scored) -> Totals:
    """The magnitude below which values are decoded to zero, in each unit midway between its neighbours."""
    magnitude, zero = scored.x.double().abs().flatten(1), (scored.y == 0).flatten(1)
    below = magnitude.masked_fill(~zero, 0.0).amax(1)
    above = magnitude.masked_fill(zero, torch.inf).amin(1)
    return _mean(((below + above) / 2)[:, None])


def _relative_variance(scored: Scored) -> Totals:
    """``|y - x|^2 / |x|^2`` of a vector, on average."""
    return _mean(_squares(scored).sum(2) / scored.x.double().square().sum(2))


def _nonzeros(scored: Scored) -> Totals:
    """Of a vector, on average."""
    return _mean((scored.y != 0).double().sum(2))


def _halves(scored: Scored) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors a and b, and their signs as they were decoded: the first and second half of each."""
    (a, b), (sign_a, sign_b) = scored.x.double().chunk(2, 2), scored.y.double().sign().chunk(2, 2)
    return a, b, sign_a, sign_b


def _sign_product(scored: Scored) -> Totals:
    """``sgn a . sgn b / d``."""
    _, _, sign_a, sign_b = _halves(scored)
    return _mean(sign_a * sign_b)


def _one_sided_correlation(scored: Scored) -> Totals:
    """Of ``a . b`` and ``a . sgn b``, between vectors."""
    a, b, _, sign_b = _halves(scored)
    return _correlation((a * b).sum(2), (a * sign_b).sum(2))


def _two_sided_correlation(scored: Scored) -> Totals:
    """Of ``a . b`` and ``sgn a . sgn b``, between vectors."""
    a, b, sign_a, sign_b = _halves(scored)
    return _correlation((a * b).sum(2), (sign_a * sign_b).sum(2))


def _correlation(p: Tensor, q: Tensor) -> Totals:
    p, q = p - p.mean(), q - q.mean()

    def follows(total: Tensor) -> float:
        mean_p, mean_q, pp, qq, pq = total[:5] / total[5]
        return float((pq - mean_p * mean_q) / ((pp - mean_p**2) * (qq - mean_q**2)).sqrt())

    return Totals(_sums(p, q, p * p, q * q, p * q, torch.ones_like(p)), follows)


SCORED: dict[str, Callable[[Scored], Totals]] = {
    "mse": _mse,
    "sqnr_db": _sqnr_db,
    "gap_db": _gap_db,
    "cosine": _cosine,
    "angle": _angle,
    "entropy": _entropy,
    "level": _level,
    "group_level": _group_level,
    "step": _step,
    "threshold": _threshold,
    "vector_cosine": _vector_cosine,
    "vector_cosine_deviation": _vector_cosine_deviation,
    "relative_variance": _relative_variance,
    "nonzeros": _nonzeros,
    "sign_product": _sign_product,
    "one_sided_correlation": _one_sided_correlation,
    "two_sided_correlation": _two_sided_correlation,
}


def paired(x: Tensor, correlation: float) -> Tensor:
    """Of vectors (a, c) along the last axis (a, b) with ``b = r a + sqrt(1 - r^2) c``."""
    a, c = x.chunk(2, -1)
    return torch.cat([a, correlation * a + math.sqrt(1 - correlation**2) * c], -1)


def in_units(x: Tensor, length: int) -> Tensor:
    """The first axis in equal parts, 64 or as many as divide it: [units, vectors, length]."""
    return x.reshape(math.gcd(len(x), UNITS), -1, length)


def second_moment(lattice: Lattice, units: int, points: int, generator: torch.Generator) -> Totals:
    """``|x - Q(x)|^2 / (n V^(2/n))`` for x uniform over a cell: each unit holds so many points."""
    n = lattice.dimension
    u = torch.rand(units * points, n, generator=generator, dtype=torch.float64, device=generator.device)
    x = u @ lattice.generator.to(u.device)
    errors = (x - lattice.nearest(x)).square().sum(1) / (n * lattice.volume ** (2 / n))
    return _mean(errors.reshape(units, points))


def exactly(value: float) -> Totals:
    """A value that no sample is behind."""
    return Totals(torch.tensor([[value]], dtype=torch.float64), lambda total: float(total[0]))
