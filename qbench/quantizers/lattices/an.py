"""The root lattices A_n: the integer vectors of n + 1 coordinates whose sum is 0."""

import math
from typing import final

import torch
from torch import Tensor

from .lattice import Lattice, nearest_multiple

_FEW = 4  # columns whose comparisons take less time than a sort of every row


@final
class AN(Lattice):
    """A2 is the hexagonal lattice, A3 the face-centered cubic one; shortest vectors have squared length 2.

    Decisions are made in the n + 1 coordinates, where points are integers. R^n is the hyperplane of sum 0
    with the orthonormal axes ``(1, ..., 1, -i, 0, ..., 0) / sqrt(i (i + 1))``, i ones, i = 1 to n.

    The nearest point: round every coordinate; if the sum of the integers is D > 0, lower the D coordinates
    that were rounded up most, if D < 0 raise the -D that were rounded down most. Ties go by place.

    ``G = (1/12 + 1/(6 (n + 1))) / (n + 1)^(1/n)``.

    Reference: Conway & Sloane, 1982, Fast quantizing and decoding algorithms for lattice quantizers and
    codes, algorithm for A_n; Conway & Sloane, 1999, Sphere Packings, Lattices and Groups, chapter 4, section
    6.1, and chapter 21 (second moment).
    """

    def __init__(self, n: int) -> None:
        self.name, self.dimension = f"A{n}", n
        self.basis = torch.eye(n, n + 1, dtype=torch.float64) - torch.eye(n + 1, dtype=torch.float64)[1:]
        self.axes = _axes(n)
        self.volume = math.sqrt(n + 1)
        self.second_moment = (1 / 12 + 1 / (6 * (n + 1))) / (n + 1) ** (1 / n)

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        k = nearest_multiple(rows, scale)
        residual = rows - k * scale
        place = _places(residual)
        excess = k.sum(-1, keepdim=True)
        lower, upper = place < excess, place >= self.dimension + 1 + excess
        return (k - lower.to(k) + upper.to(k)) * scale


def _places(rows: Tensor) -> Tensor:
    """The place of every number in its row when sorted, the first of equal ones before the other."""
    if rows.shape[-1] > _FEW:
        return rows.sort(dim=-1, stable=True).indices.argsort(dim=-1)
    columns = rows.unbind(-1)
    before = [
        [(a <= b if i < j else a < b).long() for i, a in enumerate(columns)] for j, b in enumerate(columns)
    ]
    return torch.stack([torch.stack(each).sum(0) for each in before], dim=-1)


def _axes(n: int) -> Tensor:
    i = torch.arange(1, n + 1, dtype=torch.float64)[:, None]
    column = torch.arange(n + 1, dtype=torch.float64)
    ones, negative = (column < i).double(), (column == i).double()
    return (ones - i * negative) / (i * (i + 1)).sqrt()
