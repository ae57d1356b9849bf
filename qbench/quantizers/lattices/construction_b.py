"""Construction B: a lattice from a binary code, as cosets of the doubled checkerboard lattice."""

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from .dn import nearest_even_sum
from .lattice import nearest_multiple

# What stays in a core's cache, and what keeps a GPU busy.
_CHUNK_ENTRIES = {"cpu": 2**16, "cuda": 2**22}
_SECTION = 8


@final
class ConstructionB:
    """The union of ``c + 2 D_n`` over the words c of a binary code [n, k] whose weights are multiples of 4.

    ``generators``: [k, n] of 0 and 1; the last ones of the rows stand in rising places, none in the first.
    A point ``x = c + 2 z`` is also an integer vector with ``x mod 2`` a word and a sum divisible by 4.

    Reference: Conway & Sloane, 1999, Sphere Packings, Lattices and Groups, chapter 5, section 3, and chapter
    20 (the nearest point as the best of all cosets).
    """

    def __init__(self, generators: Tensor) -> None:
        k = len(generators)
        choices = torch.arange(2**k)[:, None] >> torch.arange(k) & 1
        self.generators = generators
        self.words = (choices.double() @ generators.double()).remainder(2)

    @property
    def basis(self) -> Tensor:
        """Rows, [n, n], lower triangular: ``4 e_1``, ``2 e_i - 2 e_1``, and generators of the code."""
        n = self.generators.shape[1]
        basis = 2 * torch.eye(n, dtype=torch.float64)
        basis[:, 0] = -2
        basis[0, 0] = 4
        last = n - 1 - self.generators.flip(1).argmax(1)
        basis[last] = self.generators.double()
        return basis

    def nearest(self, rows: Tensor, scale: int | float) -> Tensor:
        """The point of ``scale`` times the lattice nearest to each of [rows, n]; the first word on a tie."""
        entries = _CHUNK_ENTRIES.get(rows.device.type, 2**20)
        words, points = self.words.to(rows), torch.empty_like(rows)
        for part in range(0, len(rows), entries // len(words)):
            x = rows[part : part + entries // len(words)]
            word = words[self._excess(x, words, scale).argmin(0)] * scale
            points[part : part + len(x)] = nearest_even_sum(x - word, 2 * scale) + word
        return points

    def _excess(self, rows: Tensor, words: Tensor, scale: int | float) -> Tensor:
        """Squared distance to the coset of each word, less that to ``2 Z^n``, over ``scale``: [words, rows].

        With s the scale and r the distance of a coordinate to ``2 s Z``, that to ``s + 2 s Z`` is s - r: a one
        in the word adds ``(s - r)^2 - r^2 = s (s - 2 r)``. Where the integers rounded to have an odd sum, the
        coordinate of largest distance d goes the other way and adds ``(2 s - d)^2 - d^2 = 4 s (s - d)``.
        """
        k = nearest_multiple(rows, 2 * scale)
        residual = rows - 2 * scale * k
        r = residual.abs().T
        # 0 where the sum is even, 1/2 where it is odd; a remainder takes several times as long
        odd = (words @ (residual < 0).to(rows).T).add_(k.sum(1).remainder(2)).mul_(0.5).frac_()
        return odd.mul_(8 * (scale - self._largest(r, scale - r))).add_(words @ (scale - 2 * r))

    def _largest(self, zero: Tensor, one: Tensor) -> Tensor:
        """The largest of n distances, by the bits of every word: [words, rows] from two of [n, rows].

        Section by section of 8 coordinates: a code of 4096 words has 256 patterns there.
        """
        largest = zero.new_zeros(1, 1)
        for start, patterns, which in self._sections:
            part = slice(start, start + _SECTION)
            chosen = torch.where(patterns.to(zero.device)[:, :, None], one[part], zero[part])
            largest = torch.maximum(largest, chosen.amax(1)[which.to(zero.device)])
        return largest

    @cached_property
    def _sections(self) -> list[tuple[int, Tensor, Tensor]]:
        """First coordinate of each section, its distinct patterns, and which of them each word has."""
        found = []
        for start in range(0, self.words.shape[1], _SECTION):
            part = self.words[:, start : start + _SECTION]
            patterns, which = torch.unique(part, dim=0, return_inverse=True)
            found.append((start, patterns.bool(), which))
        return found
