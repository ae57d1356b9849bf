"""Rows that share a scale, the range of a row, and scales as they are stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

Granularity = Literal["tensor", "channel", "group"]
Range = Literal["minmax", "percentile", "mse", "learned"]
ScaleDtype = Literal["float16", "float32"]

# A float16 scale counts in units of 2^-10, from 2^-34 to 64: the step of a small row lies far below 1.
_HALF_UNIT = 2.0**-10


@dataclass(frozen=True)
class Layout:
    """Which elements share a scale.

    ``tensor``: all, one row. ``channel``: one row for each index of the first axis; a tensor of fewer than
    two dimensions is one channel. ``group``: every ``group_size`` consecutive elements of the flattened
    tensor; the last group repeats its own elements until it is full, and :meth:`join` drops the repetitions.
    """

    granularity: Granularity
    group_size: int = 64

    @property
    def per_group(self) -> bool:
        """Whether scales belong to one tensor alone and travel with its codes."""
        return self.granularity == "group"

    def split(self, x: Tensor) -> Tensor:
        """The rows of ``x``, [rows, row length], never of length 0: a row without elements is one zero."""
        if self.granularity == "group" and x.numel():
            return _groups(x.reshape(-1), self.group_size)
        rows = x.shape[0] if self.granularity == "channel" and x.dim() >= 2 else 1
        if x.numel() == 0:
            return x.new_zeros(rows, 1)
        return x.reshape(rows, -1)

    def join(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """The tensor of ``shape`` whose rows these are."""
        return rows.reshape(-1)[: shape.numel()].reshape(shape)

    def means(self, x: Tensor) -> Tensor:
        """The mean of each row, [rows], repetitions not counted."""
        means = self.split(x).mean(1)
        if self.granularity == "group" and (tail := x.numel() % self.group_size):
            means[-1] = x.reshape(-1)[-tail:].mean()
        return means


def _groups(flat: Tensor, size: int) -> Tensor:
    if tail := flat.numel() % size:
        repeated = torch.arange(size - tail, device=flat.device) % tail
        flat = torch.cat([flat, flat[-tail:][repeated]])
    return flat.reshape(-1, size)


def require_rows(rows: Tensor, scale: Tensor, name: str) -> None:
    """Refuse a codebook that was fitted on another number of channels.

    Raises:
        InputError: ``rows`` [rows, row length] and ``scale`` [rows] differ in length.
    """
    if rows.shape[0] != scale.shape[0]:
        raise InputError(
            f"{name}: the codebook was fitted on {scale.shape[0]} channels, the tensor has {rows.shape[0]}; "
            "fit it on a tensor with as many channels, or use granularity=tensor"
        )


def root_mean_square(x: Tensor) -> Tensor:
    """About zero, float32, 0 where there are no elements."""
    norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return (norm / math.sqrt(max(1, x.numel()))).float()


def store_scale(scale: Tensor, dtype: ScaleDtype) -> Tensor:
    """The scale as it is stored, float16 rounded up so that no range is shortened; 0 stays 0.

    Below 2^-34 a positive float16 scale becomes 2^-34, above 64 it saturates.
    """
    if dtype == "float32":
        return scale.float()
    units = (scale / _HALF_UNIT).clamp(max=torch.finfo(torch.float16).max)
    half = units.half()
    one_up = (half.float() < units).to(torch.int16)
    return (half.view(torch.int16) + one_up).view(torch.float16)  # the next bit pattern is the next float


def load_scale(stored: Tensor) -> Tensor:
    """The float32 scale that :func:`store_scale` stored; the encoder uses it too."""
    return stored.float() * _HALF_UNIT if stored.dtype == torch.float16 else stored.float()


def divide(rows: Tensor, scale: Tensor) -> Tensor:
    """``rows / scale`` for rows [rows, row length] and scales [rows]; 0 where the scale is 0."""
    inverse = torch.where(scale > 0, scale, torch.inf)
    return rows / inverse[:, None]


def minmax(rows: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The ends (low, high) of each row, each [rows], with low <= 0 <= high; low = -high where symmetric."""
    low, high = rows.amin(1).clamp(max=0.0), rows.amax(1).clamp(min=0.0)
    if symmetric:
        high = torch.maximum(high, -low)
        return -high, high
    return low, high


def percentile(rows: Tensor, symmetric: bool, percent: float) -> tuple[Tensor, Tensor]:
    """Ends that leave ``100 - percent`` percent outside: of the magnitudes or, asymmetric, at each end.

    The cut is an element of the row (nearest rank). An end whose percentile is 0 keeps its extreme.
    """
    outside = int(rows.shape[1] * (100.0 - percent) / 100.0 + 1e-6)
    low, high = minmax(rows, symmetric)
    if symmetric:
        cut = _largest(rows.abs(), outside)
        high = torch.where(cut > 0, cut, high)
        return -high, high
    top, bottom = _largest(rows, outside), _largest(-rows, outside)
    return torch.where(bottom > 0, -bottom, low), torch.where(top > 0, top, high)


def _largest(rows: Tensor, rank: int) -> Tensor:
    return rows.kthvalue(rows.shape[1] - rank, dim=1).values


def least_squares(
    rows: Tensor, symmetric: bool, squared_error: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The ends that minimise ``squared_error(low, high)`` [rows], row by row.

    A global grid, then a local one: 2^(k/4) times the extremes for k = 4 down to -40, then three rounds of
    six ends around the best, each a third as wide, low and high apart where they are free. The extremes
    themselves are a candidate, so the result is never worse than they are.
    """
    low, high = minmax(rows, symmetric)
    best = squared_error(low, high)
    factors = torch.ones(2, rows.shape[0], device=rows.device)

    def consider(trial: Tensor) -> None:
        nonlocal best, factors
        error = squared_error(low * trial[0], high * trial[1])
        factors = torch.where(error < best, trial, factors)
        best = torch.minimum(error, best)

    for quarter in range(4, -41, -1):
        consider(torch.full_like(factors, 2.0 ** (quarter / 4)))
    ends = [(1.0, 1.0)] if symmetric else [(1.0, 0.0), (0.0, 1.0)]
    for width in (0.17, 0.055, 0.018):
        for end in ends:
            direction, start = rows.new_tensor(end)[:, None], factors
            for offset in (-1.0, -2 / 3, -1 / 3, 1 / 3, 2 / 3, 1.0):
                consider(start * (1.0 + width * offset * direction))
    return low * factors[0], high * factors[1]
