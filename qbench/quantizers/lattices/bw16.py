"""The Barnes-Wall lattice Lambda16: 32 cosets of 2 D16 by the first-order Reed-Muller code."""

from typing import final

import torch
from torch import Tensor

from .construction_b import ConstructionB
from .lattice import Lattice


def _reed_muller() -> Tensor:
    """Generators of RM(1, 4): the four binary digits of 15 - i, highest first, and ones, at i = 0 to 15."""
    digits = torch.arange(15, -1, -1) >> torch.tensor([[3], [2], [1], [0]]) & 1
    return torch.cat([digits, torch.ones(1, 16, dtype=torch.int64)])


_EVEN = ConstructionB(_reed_muller())


@final
class BW16(Lattice):
    """The densest lattice in sixteen dimensions known: 4320 shortest vectors, of squared length 8.

    Integer vectors: construction B of the code RM(1, 4), which has 30 words of weight 8.

    Reference: Conway & Sloane, 1999, Sphere Packings, Lattices and Groups, chapter 4, section 10, and chapter
    20; second moment to the digits shown: Agrell & Allen, 2023, On the best lattice quantizers.
    """

    name = "BW16"
    dimension = 16
    basis = _EVEN.basis
    volume = 2.0**12
    second_moment = 0.0682976
    cosets = 32

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        return _EVEN.nearest(rows, scale)
