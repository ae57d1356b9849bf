"""Voronoi codes: the m^n points of a shifted lattice that lie in the Voronoi cell of m times the lattice.

All points here are in the coordinates of the lattice's decisions, R^N, in units of 1/256. There the codewords
are integers, so which codeword belongs to an index is decided without rounding, on every machine alike.
"""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from .codeword_search import CodewordSearch
from .lattice import Lattice

UNIT = 256
SEARCH_LIMIT = 2**16
EXPANSIONS = (1, 2, 4, 8)
_SHRINK_STEPS = 12


@final
class VoronoiCode:
    """``Lambda - a`` in the Voronoi cell of ``m Lambda``: index [rows, n] in [0, m) <-> codeword [rows, N].

    Arguments: ``m``, the levels of an index; ``offset``, n integers: a, or where N > n its coordinates in the
    basis, in units of 1/256; folded into the Voronoi cell of Lambda. Rows x and codewords [rows, N] are float64.
    A ``dither`` [rows, N] of dyadic numbers is added to the offset of each row.

    A row x overloads if the codeword of its index is not ``t - a``, the point of ``Lambda - a`` nearest to
    it. Every encoder here judges by what :meth:`decode` returns, never by its own reconstruction: on the
    boundary of the cell an index stands for one of its representatives only.

    Reference: Conway & Sloane, 1983, A fast encoding method for lattice codes and quantizers.
    """

    def __init__(self, lattice: Lattice, m: int, offset: Sequence[int]) -> None:
        a = torch.tensor(offset, dtype=torch.float64)
        a = a if lattice.axes is None else a @ lattice.basis
        self.lattice, self.m = lattice, m
        self.size = m**lattice.dimension
        self.offset = a - lattice.decide(a, scale=UNIT)
        self._searches: dict[torch.device, CodewordSearch] = {}

    def decode(self, index: Tensor, dither: Tensor | None = None) -> Tensor:
        """The codeword ``p - m Q(p / m)`` with ``p = index @ basis - a``."""
        basis = (self.lattice.basis * UNIT).to(index.device)
        p = index.to(torch.float64) @ basis - self._shift(index, dither)
        return p - self.lattice.decide(p, scale=self.m * UNIT)

    def encode(self, x: Tensor, dither: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The index of ``t = Q(x + a)``, int64, and which rows overload, [rows]."""
        a = self._shift(x, dither)
        t = self.lattice.decide(x + a, scale=UNIT)
        index = self.lattice.coordinates(self.lattice.project(t / UNIT)).remainder(self.m)
        return index, (self.decode(index, dither) != t - a).any(-1)

    def search(self, x: Tensor) -> Tensor:
        """The index of the codeword nearest to each row, of all m^n (at most 2^16)."""
        return self._digits(self._codewords(x.device).nearest(x))

    def bound(self, x: Tensor) -> Tensor:
        """A squared distance to each row that no codeword is nearer than, [rows].

        Codewords are points of ``Lambda - a``, and on this side of the plane that halves a vector q of ``m Lambda``:
        they are ``x.q / |q| - |q| / 2`` away at least. Here q is a short one in about the direction of x.
        """
        shifted = x + self.offset.to(x.device)
        fine = shifted - self.lattice.decide(shifted, scale=UNIT)
        length = 1.4 * self.m * UNIT * self.lattice.volume ** (1 / self.lattice.dimension)
        q = self.lattice.decide(F.normalize(x, dim=1) * length, scale=self.m * UNIT)
        beyond = (F.normalize(q, dim=1) * (x - q / 2)).sum(1)
        return torch.maximum(fine.square().sum(1), beyond.clamp(min=0).square())

    def shrink(self, x: Tensor, dither: Tensor | None = None) -> Tensor:
        """The index of f x, with 0 < f < 1 the factor, to 1 part in 4096, below which x no longer overloads.

        f is halved until x fits, then refined by bisection between a factor that fits and one that does not.
        """
        index = self._no_index(x)
        if not len(x):
            return index
        factor = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        rest = torch.arange(len(x), device=x.device)
        while len(rest):
            factor[rest] /= 2
            index[rest], overloads = self.encode(x[rest] * factor[rest], _of(rest, dither))
            rest = rest[overloads]
        width = factor.clone()
        for _ in range(_SHRINK_STEPS):
            width /= 2
            trial, overloads = self.encode(x * (factor + width), dither)
            fits = ~overloads[:, None]
            factor, index = factor + width * fits, torch.where(fits, trial, index)
        return index

    def expand(self, x: Tensor, dither: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Index of ``x / 2^T`` and T, the least of 1, 2, 3 without overload, or 3 and ``x / 8`` shrunk."""
        exponent = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        index = self._no_index(x)
        rest = torch.arange(len(x), device=x.device)
        for power, factor in enumerate(EXPANSIONS[1:], start=1):
            exponent[rest] = power
            index[rest], overloads = self.encode(x[rest] / factor, _of(rest, dither))
            rest = rest[overloads]
        index[rest] = self.shrink(x[rest] / EXPANSIONS[-1], _of(rest, dither))
        return index, exponent

    def choose(
        self, x: Tensor, factors: Sequence[float], dither: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Index of ``x / f`` and the place in ``factors`` of f, that of least ``|x - f codeword|``.

        A row that overloads with every factor may also be shrunk with the last of them, if that is nearer.
        """
        index, choice = self._no_index(x), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        least = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        everywhere = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for place, factor in enumerate(factors):
            trial, overloads = self.encode(x / factor, dither)
            error = (x - factor * self.decode(trial, dither)).square().sum(-1)
            nearer = error < least
            index[nearer], choice[nearer], least[nearer] = trial[nearer], place, error[nearer]
            everywhere &= overloads
        rest = everywhere.nonzero()[:, 0]
        trial = self.shrink(x[rest] / factors[-1], _of(rest, dither))
        error = (x[rest] - factors[-1] * self.decode(trial, _of(rest, dither))).square().sum(-1)
        nearer = error < least[rest]
        index[rest[nearer]], choice[rest[nearer]] = trial[nearer], len(factors) - 1
        return index, choice

    def _shift(self, like: Tensor, dither: Tensor | None) -> Tensor:
        a = self.offset.to(like.device)
        return a if dither is None else a + dither

    def _no_index(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), self.lattice.dimension, dtype=torch.int64, device=x.device)

    def _codewords(self, device: torch.device) -> CodewordSearch:
        if device not in self._searches:
            codewords = self.decode(self._digits(torch.arange(self.size)))
            self._searches[device] = CodewordSearch(codewords.to(device))
        return self._searches[device]

    def _digits(self, number: Tensor) -> Tensor:
        """The base-m digits of ``number`` [rows], least significant first."""
        places = torch.tensor([self.m**i for i in range(self.lattice.dimension)], device=number.device)
        return number[:, None].div(places, rounding_mode="floor").remainder(self.m)


def _of(rows: Tensor, dither: Tensor | None) -> Tensor | None:
    return None if dither is None else dither[rows]
