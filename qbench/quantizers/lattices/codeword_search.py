"""The nearest of a fixed list of codewords, found without a look at most of them."""

from collections.abc import Iterator
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

_BOX_WORDS = 512
_BOUND_ENTRIES = 2**16
_ROWS = 2**9  # that meet one box at a time, so that the products stay in the cache
_BOXES_AT_ONCE = 8
_SLACK = 1e-9  # of the energy of a row: far above what products of float64 are rounded by


@final
class CodewordSearch:
    """An exact search over codewords [words, N], float64, that lie in boxes of at most 512.

    A row is compared with the words of the box it is nearest to, then with those of every box that is no farther away
    than the best of them. Of equally near codewords the first in the list is found.

    Reference: Friedman, Bentley & Finkel 1977, "An Algorithm for Finding Best Matches in Logarithmic Expected Time".
    """

    def __init__(self, codewords: Tensor) -> None:
        self._numbers = list(_boxes(codewords, torch.arange(len(codewords), device=codewords.device)))
        parts = [codewords[numbers] for numbers in self._numbers]
        self._lower = torch.stack([part.amin(0) for part in parts])
        self._upper = torch.stack([part.amax(0) for part in parts])
        # columns (c, -|c|^2 / 2): the nearest to x has the largest dot with (x, 1)
        self._words = [torch.cat([c, c.square().sum(1, keepdim=True) / -2], 1).T.contiguous() for c in parts]

    def nearest(self, x: Tensor) -> Tensor:
        """The number of the codeword nearest to each row of [rows, N], int64."""
        rows = _ROWS * min(_BOXES_AT_ONCE, len(self._words))
        return torch.cat([self._nearest(part) for part in torch.split(x, rows)])

    def _nearest(self, x: Tensor) -> Tensor:
        distances, energy = self._distances(x), x.square().sum(1)
        rows, best = F.pad(x, (0, 1), value=1.0), torch.full_like(energy, -torch.inf)
        number = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        first = F.one_hot(distances.argmin(1), distances.shape[1]).bool()
        self._compare(rows, first, best, number)
        reach = energy * (1 + _SLACK) - 2 * best
        self._compare(rows, (distances <= reach[:, None]) & ~first, best, number)
        return number

    def _compare(self, rows: Tensor, chosen: Tensor, best: Tensor, number: Tensor) -> None:
        """Update the largest dot and its codeword's number, both [rows], by the boxes chosen, [rows, boxes]."""
        boxes, places = chosen.T.nonzero(as_tuple=True)
        counts = torch.bincount(boxes, minlength=len(self._words)).tolist()
        for words, numbers, place in zip(
            self._words, self._numbers, torch.split(places, counts), strict=True
        ):
            if not len(place):
                continue
            dots = rows.index_select(0, place) @ words
            # a maximum is several times faster than its position, which few rows need
            largest = dots.amax(1)
            better = (largest >= best.index_select(0, place)).nonzero()[:, 0]
            if len(better):
                found, at, largest = numbers[_argmax(dots[better])], place[better], largest[better]
                tied = largest == best[at]
                number[at] = torch.where(tied, torch.minimum(found, number[at]), found)
                best[at] = largest

    def _distances(self, x: Tensor) -> Tensor:
        """Squared distances to the boxes, [rows, boxes]."""
        parts = torch.split(x, max(1, _BOUND_ENTRIES // self._lower.numel()))
        return torch.cat([self._outside(part[:, None]).square_().sum(2) for part in parts])

    def _outside(self, x: Tensor) -> Tensor:
        return torch.maximum(self._lower - x, x - self._upper).clamp_(min=0)


def _argmax(rows: Tensor) -> Tensor:
    """Where each row is largest; on the CPU by numpy, three times as fast."""
    return torch.from_numpy(rows.numpy().argmax(1)) if rows.device.type == "cpu" else rows.argmax(1)


def _boxes(codewords: Tensor, numbers: Tensor) -> Iterator[Tensor]:
    """``numbers`` cut in halves along the coordinate that varies most, as long as they are too many."""
    if len(numbers) <= _BOX_WORDS:
        yield numbers.sort().values
        return
    part = codewords[numbers]
    order = part[:, part.var(0).argmax()].argsort(stable=True)
    for half in order.tensor_split(2):
        yield from _boxes(codewords, numbers[half])
