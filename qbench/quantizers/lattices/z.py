"""The integers."""

from typing import final

import torch
from torch import Tensor

from .lattice import Lattice, nearest_multiple


@final
class Z(Lattice):
    """The integers: rounding, the scalar quantizer among the lattices.

    Reference: Conway & Sloane, 1982, Fast quantizing and decoding algorithms for lattice quantizers and
    codes, the function f(x).
    """

    name = "Z"
    dimension = 1
    basis = torch.ones(1, 1, dtype=torch.float64)
    volume = 1.0
    second_moment = 1 / 12

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        return nearest_multiple(rows, scale) * scale
