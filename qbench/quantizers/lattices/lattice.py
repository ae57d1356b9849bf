"""Point lattices: a basis, a volume, a second moment, and the nearest point.

A lattice Lambda is the set of all integer combinations of the rows of its generator.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import final

import torch
from torch import Tensor

CHUNK_ROWS = 2**15


class Lattice(ABC):
    """A lattice of full rank in n dimensions. A concrete one gives its constants and :meth:`_decide`.

    Decisions are made in coordinates of R^N in which lattice points are whole or half numbers. Mostly N is n
    and these are the coordinates of ``x``. Where R^n has none, N is more and ``axes`` says how R^n lies in R^N.

    Attributes:
        name: how users write it.
        dimension: n.
        basis: basis vectors as rows in the coordinates of the decisions, [n, N], float64.
        axes: the orthonormal axes of R^n as rows, [n, N], float64, or None where N is n.
        volume: of the Voronoi cell V, ``|det generator|``.
        second_moment: ``G = integral over V of |x|^2 dx / (n volume^(1 + 2/n))``.
        cosets: in how many cosets of a simpler lattice the nearest point is sought.
    """

    name: str
    dimension: int
    basis: Tensor
    axes: Tensor | None = None
    volume: float
    second_moment: float
    cosets: int = 1

    @abstractmethod
    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        """The point of ``scale * Lambda`` nearest to each row of [rows, N].

        On integer-valued float64 rows and an integer scale every comparison is one between exactly
        represented numbers, and ties go the same way everywhere.
        """

    @final
    @cached_property
    def generator(self) -> Tensor:
        """Basis vectors as rows in R^n, [n, n], float64, lower triangular."""
        return self.basis if self.axes is None else (self.basis @ self.axes.T).tril()

    @final
    def nearest(self, x: Tensor, scale: int | float = 1) -> Tensor:
        """The point of ``scale * Lambda`` nearest to ``x``, for every vector along the last axis.

        Takes ``x`` of shape [..., n] and gives the same shape, dtype and device; works in chunks, so
        memory beyond the result is bounded.

        Raises:
            ValueError: the last axis is not n long.
        """
        if x.dim() == 0 or x.shape[-1] != self.dimension:
            raise ValueError(
                f"lattice {self.name} takes vectors of {self.dimension} along the last axis, not shape "
                f"{list(x.shape)}"
            )
        return self.project(self.decide(self.embed(x), scale))

    @final
    def decide(self, y: Tensor, scale: int | float = 1) -> Tensor:
        """As :meth:`nearest`, in the coordinates of the decisions, [..., N].

        On integer-valued float64 (below 2^50) with an integer scale (below 2^24) no decision is rounded:
        all machines agree, on ties as well.
        """
        rows = y.reshape(-1, y.shape[-1])
        points = torch.empty_like(rows)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            points[chunk] = self._decide(rows[chunk], scale)
        return points.reshape(y.shape)

    @final
    def embed(self, x: Tensor) -> Tensor:
        """Coordinates of the decisions [..., N] of vectors [..., n]."""
        return x if self.axes is None else x @ self.axes.to(x)

    @final
    def project(self, y: Tensor) -> Tensor:
        """The inverse of :meth:`embed`."""
        return y if self.axes is None else y @ self.axes.to(y).T

    @final
    def coordinates(self, points: Tensor) -> Tensor:
        """The integers c with ``c @ generator = point``, int64, for lattice points [..., n] in float64."""
        return (points @ self._inverse.to(points.device)).round().to(torch.int64)

    @cached_property
    def _inverse(self) -> Tensor:
        inverse: Tensor = torch.linalg.inv(self.generator)
        return inverse


def nearest_multiple(x: Tensor, scale: int | float) -> Tensor:
    """The integer k with ``k * scale`` nearest to ``x``, elementwise; ties go to the even k.

    The quotient is correctly rounded, and for integers below 2^50 it then lies on the same side of every
    half-integer as the exact one.
    """
    # A Python number as divisor is replaced by its rounded reciprocal on CUDA; a tensor is not.
    return torch.round(x / torch.tensor(scale, dtype=x.dtype, device=x.device))


def nearer(x: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Of two candidates for each row the nearer, the other on a tie."""
    closer = _squared_norm(x - one) < _squared_norm(x - other)
    return torch.where(closer, one, other)


def _squared_norm(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True)
