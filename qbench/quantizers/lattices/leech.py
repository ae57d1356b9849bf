"""The Leech lattice Lambda24: 8192 cosets of 4 D24 by the Golay code, half of them even, half odd."""

from typing import final

import torch
from torch import Tensor

from .construction_b import ConstructionB
from .lattice import Lattice, nearer

# g(x) = 1 + x^2 + x^4 + x^5 + x^6 + x^10 + x^11 generates the cyclic code of length 23.
_POLYNOMIAL = (1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1)


def _golay() -> Tensor:
    """Generators of the extended code [24, 12, 8]: the overall parity, 1, then ``x^i g(x)``, i = 0 to 11."""
    generators = torch.zeros(12, 24, dtype=torch.int64)
    generators[:, 0] = 1
    for i in range(12):
        generators[i, 1 + i : 13 + i] = torch.tensor(_POLYNOMIAL)
    return generators


_EVEN = ConstructionB(_golay())
_ODD = torch.tensor([-3.0] + [1.0] * 23, dtype=torch.float64)


def _basis() -> Tensor:
    basis = 2 * _EVEN.basis
    basis[23] = _ODD  # twice it is the row it replaces plus multiples of the others
    return basis


@final
class Leech(Lattice):
    """The densest packing in twenty-four dimensions: 196560 shortest vectors, of squared length 32.

    Integer vectors (times sqrt(8) the unimodular lattice): the even ones are twice construction B of the
    Golay code, the odd ones those plus (-3, 1, ..., 1). The nearest point is the nearer of the two found; on a
    tie the odd one.

    Reference: Conway & Sloane, 1999, Sphere Packings, Lattices and Groups, chapter 4, section 11, and chapter
    20; second moment to the digits shown: Agrell & Allen, 2023, On the best lattice quantizers.
    """

    name = "Leech"
    dimension = 24
    basis = _basis()
    volume = 2.0**36
    second_moment = 0.0657707
    cosets = 8192

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        odd = _ODD.to(rows) * scale
        even = _EVEN.nearest(rows, 2 * scale)
        return nearer(rows, even, _EVEN.nearest(rows - odd, 2 * scale) + odd)
