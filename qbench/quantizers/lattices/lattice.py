"""Point lattices: a basis, a volume, a second moment, and the nearest point.

A lattice Lambda is the set of all integer combinations of the rows of its generator.
"""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar, final

import torch
from torch import Tensor

CHUNK_ROWS = 2**15


class Lattice(ABC):
    """A lattice of full rank in n dimensions. A concrete one gives its constants and :meth:`_nearest`.

    Class attributes:
        name: how users write it.
        dimension: n.
        generator: basis vectors as rows, [n, n], float64.
        volume: of the Voronoi cell V, ``|det generator|``.
        second_moment: ``G = integral over V of |x|^2 dx / (n volume^(1 + 2/n))``, exact.
    """

    name: ClassVar[str]
    dimension: ClassVar[int]
    generator: ClassVar[Tensor]
    volume: ClassVar[float]
    second_moment: ClassVar[float]

    @abstractmethod
    def _nearest(self, rows: Tensor, scale: int | float) -> Tensor:
        """The point of ``scale * Lambda`` nearest to each row of [rows, n].

        On integer-valued float64 rows and an integer scale, if the lattice allows it, every comparison is
        one between exactly represented numbers, and ties go the same way everywhere.
        """

    @final
    def nearest(self, x: Tensor, scale: int | float = 1) -> Tensor:
        """The point of ``scale * Lambda`` nearest to ``x``, for every vector along the last axis.

        Takes ``x`` of shape [..., n] and gives the same shape, dtype and device; works in chunks, so
        memory beyond the result is bounded. On integer-valued float64 (below 2^50) with an integer scale
        (below 2^24) no decision is rounded: all machines agree, on ties as well.

        Raises:
            ValueError: the last axis is not n long.
        """
        if x.dim() == 0 or x.shape[-1] != self.dimension:
            raise ValueError(
                f"lattice {self.name} takes vectors of {self.dimension} along the last axis, not shape "
                f"{list(x.shape)}"
            )
        rows = x.reshape(-1, self.dimension)
        points = torch.empty_like(rows)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            points[chunk] = self._nearest(rows[chunk], scale)
        return points.reshape(x.shape)

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
