"""The Gosset lattice E8 = D8 u (D8 + 1/2), where D8 holds the integer vectors of even coordinate sum."""

from typing import final

from torch import Tensor

from .dn import checkerboard, nearest_even_sum
from .lattice import Lattice, nearer


def _basis() -> Tensor:
    basis = checkerboard(8)
    basis[7] = 0.5
    return basis


@final
class E8(Lattice):
    """The densest packing in eight dimensions: 240 shortest vectors, of squared length 2.

    The nearest point is the nearer of those found in the cosets D8 and D8 + 1/2, which is D8 - 1/2 as
    well; on a tie the latter.

    Reference: Conway & Sloane, 1982, Fast quantizing and decoding algorithms for lattice quantizers and
    codes, algorithms for D_n and E_8. Generator and second moment: Conway & Sloane, 1999, Sphere Packings,
    Lattices and Groups, chapter 4, section 8.1, and chapter 21.
    """

    name = "E8"
    dimension = 8
    basis = _basis()
    volume = 1.0
    second_moment = 929 / 12960
    cosets = 2

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        half = scale / 2
        return nearer(rows, nearest_even_sum(rows, scale), nearest_even_sum(rows + half, scale) - half)
