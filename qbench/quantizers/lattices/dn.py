"""The checkerboard lattices D_n: the integer vectors of even coordinate sum."""

from typing import final

import torch
from torch import Tensor

from .lattice import Lattice, nearest_multiple


@final
class DN(Lattice):
    """D4 is the best lattice in four dimensions known; shortest vectors have squared length 2.

    ``G = (1/12 + 1/(2 n (n + 1))) / 2^(2/n)``.

    Reference: Conway & Sloane, 1982, Fast quantizing and decoding algorithms for lattice quantizers and
    codes, algorithm for D_n; Conway & Sloane, 1999, Sphere Packings, Lattices and Groups, chapter 4, section
    7.1, and chapter 21 (second moment).
    """

    def __init__(self, n: int) -> None:
        self.name, self.dimension = f"D{n}", n
        self.basis = checkerboard(n)
        self.volume = 2.0
        self.second_moment = (1 / 12 + 1 / (2 * n * (n + 1))) / 2 ** (2 / n)

    def _decide(self, rows: Tensor, scale: int | float) -> Tensor:
        return nearest_even_sum(rows, scale)


def checkerboard(n: int) -> Tensor:
    """A basis of D_n as rows: ``2 e_1`` and ``e_i - e_(i-1)``."""
    eye = torch.eye(n, dtype=torch.float64)
    basis = eye - eye.roll(-1, dims=1)
    basis[0] = 2 * eye[0]
    return basis


def nearest_even_sum(x: Tensor, scale: int | float) -> Tensor:
    """The paper's f(x), every coordinate rounded, if its sum is even; else g(x), the worst one rounded wrong.

    Of equally bad coordinates the first is taken; one that was an integer already goes up.
    """
    k = nearest_multiple(x, scale)
    residual = x - k * scale
    worst = residual.abs().argmax(-1, keepdim=True)
    wrong_way = torch.where(residual.gather(-1, worst) < 0, -1, 1)
    odd = k.sum(-1, keepdim=True).remainder(2)
    return k.scatter_add_(-1, worst, odd * wrong_way).mul_(scale)
