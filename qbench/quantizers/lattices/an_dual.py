"""The body-centered cubic lattice A3*, the dual of A3."""

from typing import final

import torch
from torch import Tensor

from .lattice import Lattice, nearer, nearest_multiple


@final
class A3Dual(Lattice):
    """``Z^3 u (Z^3 + 1/2)``: the best quantizer among lattices in three dimensions (Barnes & Sloane 1983).

    8 shortest vectors, of squared length 3/4. The nearest point is the nearer of those found in the two
    cosets, on a tie the second.

    Reference: Conway & Sloane, 1982, Fast quantizing and decoding algorithms for lattice quantizers and
    codes; Conway & Sloane, 1999, Sphere Packings, Lattices and Groups, chapter 4, section 6.7 (A3* in these
    coordinates), and chapter 21 (second moment).
    """

    name = "A3*"
    dimension = 3
    basis = torch.tensor([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    volume = 0.5
    second_moment = 19 / (192 * 2 ** (1 / 3))
    cosets = 2

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        half = scale / 2
        whole = nearest_multiple(rows, scale) * scale
        return nearer(rows, whole, nearest_multiple(rows - half, scale) * scale + half)
