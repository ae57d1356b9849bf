"""The Gosset lattice E8 = D8 u (D8 + 1/2), where D8 holds the integer vectors of even coordinate sum."""

import torch
from torch import Tensor

from .lattice import Lattice, nearest_multiple


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
    generator = torch.tensor(
        [
            [2, 0, 0, 0, 0, 0, 0, 0],
            [-1, 1, 0, 0, 0, 0, 0, 0],
            [0, -1, 1, 0, 0, 0, 0, 0],
            [0, 0, -1, 1, 0, 0, 0, 0],
            [0, 0, 0, -1, 1, 0, 0, 0],
            [0, 0, 0, 0, -1, 1, 0, 0],
            [0, 0, 0, 0, 0, -1, 1, 0],
            [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        ],
        dtype=torch.float64,
    )
    volume = 1.0
    second_moment = 929 / 12960

    def _nearest(self, rows: Tensor, scale: int | float) -> Tensor:
        even = _nearest_d8(rows, scale)
        half = _nearest_d8(rows + scale / 2, scale) - scale / 2
        closer = _squared_norm(rows - even) < _squared_norm(rows - half)
        return torch.where(closer, even, half)


def _nearest_d8(x: Tensor, scale: int | float) -> Tensor:
    """The paper's f(x), every coordinate rounded, if its sum is even; else g(x), the worst one rounded wrong.

    Of equally bad coordinates the first is taken; one that was an integer already goes up.
    """
    k = nearest_multiple(x, scale)
    residual = x - k * scale
    worst = residual.abs().argmax(-1, keepdim=True)
    wrong_way = torch.where(residual.gather(-1, worst) < 0, -1, 1)
    odd = k.sum(-1, keepdim=True).remainder(2)
    at_worst = torch.arange(8, device=x.device) == worst
    return (k + odd * wrong_way * at_worst) * scale


def _squared_norm(x: Tensor) -> Tensor:
    return x.square().sum(-1, keepdim=True)
