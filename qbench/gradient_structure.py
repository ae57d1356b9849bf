"""How the coordinates of a gradient matrix are scaled and how they depend on each other."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from .distributions import FEWEST
from .families import Floats
from .gradient_sampling import runs

BLOCK = 2**16
BLOCK_SIDE = 128
_ITERATIONS = 20
_HALVINGS = 8
_FLOOR = 1e-4


def block(matrix: Tensor, generator: torch.Generator) -> Floats:
    """At most 2^16 coordinates of a matrix, where up to 128 rows (or columns, if these are fewer) meet the others."""
    short = min(BLOCK_SIDE, *matrix.shape)
    long = BLOCK // short
    return _part(matrix, *((short, long) if matrix.shape[0] <= matrix.shape[1] else (long, short)), generator)


def _part(matrix: Tensor, rows: int, columns: int, generator: torch.Generator) -> Floats:
    """So many rows and columns, or all there are, each in runs of neighbours."""
    chosen = matrix[runs(matrix.shape[0], rows, generator).to(matrix.device)]
    return doubles(chosen[:, runs(matrix.shape[1], columns, generator).to(matrix.device)])


@dataclass(frozen=True)
class Normalized:
    """A block as scales of its rows and columns times what remains, ``block = scales * units``, [rows, columns].

    Attributes:
        scales: a row's scale times a column's.
        units: mean square 1 over the nonzeros of every row and every column that is normalized.
        gaussian: the nonzeros among the units, [n], each mapped by the function that makes Gaussian coordinates
            Gaussian again: a coordinate is part of the mean square it is divided by, so that without it the units
            of few coordinates would have short tails.
    """

    scales: Floats
    units: Floats
    gaussian: Floats


def normalized(part: Floats) -> Normalized:
    """Divide rows and columns by their scales, which are found together by alternating (20 rounds).

    Columns have no scale where there are fewer than 8 rows, and rows none where there are fewer than 8 columns; of
    neither, one scale is left. Where they have scales, those with fewer than 8 nonzeros are left out. With k_row
    and k_column nonzeros in the row and column of a unit u, and 1 / k = 1 / k_row + 1 / k_column, ``u^2 / k`` of a
    Gaussian is nearly Beta(1/2, nu/2) with nu = k - 1, and the map is
    ``sign(u) (8 nu + 1) / (8 nu + 3) sqrt(-nu log(1 - u^2 / k))``.

    Reference: Sinkhorn & Knopp 1967, "Concerning nonnegative matrices and doubly stochastic matrices"; Wallace 1959,
    "Bounds on normal approximations to Student's and the chi-square distributions".
    """
    part = _dense(part)
    by_row, by_column = part.shape[1] >= FEWEST, part.shape[0] >= FEWEST
    mask = (part != 0).astype(np.float64)
    in_row, in_column = mask.sum(1), mask.sum(0)
    if not mask.any() or not (by_row or by_column):
        unit = math.sqrt(float(np.mean(np.square(part[part != 0])))) if mask.any() else 1.0
        return Normalized(np.full_like(part, unit), part / unit, part[part != 0] / unit)
    largest = float(np.abs(part).max())
    squares = np.square(part / largest)
    rows, columns = np.ones(part.shape[0]), np.ones(part.shape[1])
    for _ in range(_ITERATIONS):
        rows = squares @ (1 / columns) / in_row if by_row else rows
        columns = squares.T @ (1 / rows) / in_column if by_column else columns
    scales = largest * np.sqrt(np.outer(rows, columns))
    units = part / scales
    leverage = by_row / in_row[:, None] + by_column / in_column[None]
    return Normalized(scales, units, _gaussian(units[part != 0], 1 / leverage[part != 0]))


def _gaussian(u: Floats, k: Floats) -> Floats:
    degrees = k - 1
    magnitudes = np.sqrt(-degrees * np.log1p(-np.minimum(np.square(u) / k, 1 - 1e-9)))
    found: Floats = np.copysign((8 * degrees + 1) / (8 * degrees + 3) * magnitudes, u)
    return found


def _dense(part: Floats) -> Floats:
    """Without the rows and columns that have fewer than 8 nonzeros; a side shorter than 8 stays as it is."""
    while part.size:
        rows = np.count_nonzero(part, axis=1) >= min(FEWEST, part.shape[1])
        columns = np.count_nonzero(part, axis=0) >= min(FEWEST, part.shape[0])
        if part.shape[1] < FEWEST:
            rows = part.any(1)
        if part.shape[0] < FEWEST:
            columns = part.any(0)
        if rows.all() and columns.all():
            break
        part = part[rows][:, columns]
    return part


def variance_spread_db(part: Floats, generator: torch.Generator) -> float:
    """10 log10 of the arithmetic over the geometric mean of the rows' variances, rows of zeros left out.

    0 for identical rows; NaN below 2 live rows or 8 columns. Mean squares of k coordinates differ by chance too: where
    these are Gaussian, by ``4.34 (log(k/2) - digamma(k/2))`` dB on average, and by more where tails are longer or
    columns unlike. That much is taken off: the spread of a control, in which each column is rotated by a random number
    of rows, so that no row stays together. Rows of unlike variance would mix to longer tails than each of them has;
    their log mean squares are first brought nearer to each other, by the one factor at which they spread as their
    control does.
    """
    squares = np.square(part[part.any(1)] / max(np.abs(part).max(initial=0.0), np.finfo(float).tiny))
    squares = squares[squares.any(1)]
    if squares.shape[0] < 2 or squares.shape[1] < FEWEST:
        return math.nan
    return _spread_db(squares.mean(1)) - _chance_db(squares, generator)


def _chance_db(squares: Floats, generator: torch.Generator) -> float:
    """What mean squares of rows differ by where the rows' variances are one; each column is rotated up and down."""
    powers, rows = squares.mean(1), np.arange(len(squares))[:, None]
    logs = np.log(powers) - np.log(powers).mean()
    offsets = torch.randint(len(squares), (1, squares.shape[1]), generator=generator).numpy()
    rotations = [(rows + turn) % len(squares) for turn in (offsets, -offsets)]
    rotated = [(np.take_along_axis(squares, places, axis=0), places) for places in rotations]

    def spreads(kept: float) -> tuple[float, float]:
        """Of the rows that keep this share of their differences, and of their controls."""
        factors = np.exp((kept - 1) * logs)
        controls = [_spread_db((x * factors[places]).mean(1)) for x, places in rotated]
        return _spread_db(powers * factors), float(np.mean(controls))

    own, control = spreads(1.0)
    if own <= control:
        return control
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        own, control = spreads(middle)
        low, high = (low, middle) if own > control else (middle, high)
    return (own + control) / 2


def _spread_db(powers: Floats) -> float:
    powers = powers[powers > 0]
    return float(10 * np.log10(powers.mean()) - 10 * np.log10(powers).mean())


def dependence_figures(scales: Normalized, generator: torch.Generator) -> dict[str, float]:
    """How few directions hold the energy, against :func:`_control`. NaN where a side is below 8.

    - ``top4_energy_ratio``: the share of sum u^2 in the four largest singular directions over the control's.
    - ``effective_rank``: exp of the entropy of the squared singular values' shares, over the control's.

    Reference: Roy & Vetterli 2007, "The effective rank".
    """
    if min(scales.units.shape) < FEWEST:
        return dict.fromkeys(("top4_energy_ratio", "effective_rank"), math.nan)
    own, control = _spectrum(scales.units), _spectrum(_control(scales.units, generator))
    return {"top4_energy_ratio": own[0] / control[0], "effective_rank": own[1] / control[1]}


def _control(part: Floats, generator: torch.Generator) -> Floats:
    """Independent coordinates of the same magnitudes in the same places: every sign is drawn anew.

    Where the coordinates of ``part`` are independent and symmetric about 0 it has the same distribution, whatever their
    scales and tails.
    """
    signs = torch.randint(2, part.shape, generator=generator).numpy() * 2 - 1
    found: Floats = part * signs
    return found


def _spectrum(part: Floats) -> tuple[float, float]:
    """Share of energy in four directions, effective rank."""
    vectors = part if part.shape[0] <= part.shape[1] else part.T
    shares = np.maximum(np.linalg.eigvalsh(vectors @ vectors.T), 0)
    shares /= shares.sum()
    return float(shares[-4:].sum()), math.exp(-float(np.sum(special.xlogy(shares, shares))))


def decorrelation_gain_db(matrix: Tensor, generator: torch.Generator) -> float:
    """What decorrelating neighbours would gain, along rows or along columns, whichever is more.

    10 log10 of the arithmetic over the geometric mean of the eigenvalues of C, less the same of :func:`_control`. C is
    the correlation matrix (about 0) of p vectors, at most 128 neighbours, over n >= 2p coordinates, p n <= 2^16, those
    of zeros left out; eigenvalues below 1e-4 count as that, 40 dB down. By chance eigenvalues differ by as much in
    both. NaN where p would be below 8 both ways.

    Reference: Goyal 2001, "Theoretical foundations of transform coding".
    """
    found = [_gain_along_rows(side, generator) for side in (matrix, matrix.T)]
    return max((gain for gain in found if not math.isnan(gain)), default=math.nan)


def _gain_along_rows(matrix: Tensor, generator: torch.Generator) -> float:
    p = min(BLOCK_SIDE, matrix.shape[0], matrix.shape[1] // 2)
    if p < FEWEST:
        return math.nan
    part = _part(matrix, p, BLOCK // p, generator)
    part = part[part.any(1)][:, part.any(0)]
    if part.shape[0] < FEWEST or part.shape[1] < 2 * part.shape[0]:
        return math.nan
    return _decorrelation_db(part) - _decorrelation_db(_control(part, generator))


def _decorrelation_db(vectors: Floats) -> float:
    vectors = vectors / np.abs(vectors).max(1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    eigenvalues = np.maximum(np.linalg.eigvalsh(vectors @ vectors.T), _FLOOR)
    return float(-10 * np.log10(eigenvalues).mean())


def doubles(x: Tensor) -> Floats:
    array: Floats = x.cpu().double().numpy()
    return array
