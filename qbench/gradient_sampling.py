"""Which steps of a training are looked at, and which coordinates of its weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .errors import InputError
from .layers import LayerKind
from .schema import derived_seed

PLACES = {"early": 0.02, "middle": 0.5, "late": 0.95}
LENGTH = 32
_FEWEST_STEPS = 5
_PAIRED_SHARE = 0.02
_STEPS_A_PAIR = 20
_PAIRS, _FEWEST_PAIRS = 5, 2
_RUN = 16


@final
@dataclass(frozen=True)
class Window:
    """Steps ``start`` to ``stop - 1`` of a training.

    ``paired`` are those whose batch is evaluated again before and after the update, ``snapshots`` those of them whose
    gradient is kept as matrices.
    """

    name: str
    start: int
    stop: int
    paired: tuple[int, ...]
    snapshots: tuple[int, ...]


def windows(steps: int, length: int = LENGTH, snapshots: int = 6) -> tuple[Window, ...]:
    """Early, middle and late: ``length`` steps each from 2, 50 and 95 % of the training on, as far as they fit.

    2 % of all steps are paired, or 5 in every window where 2 % are fewer and 5 % as many; never more than 5 %, but 2
    in every window at least: below 120 steps these are more than 5 %.

    Raises:
        InputError: fewer than 15 steps.
    """
    if steps < _FEWEST_STEPS * len(PLACES):
        raise InputError(
            f"a training of {steps} steps has no room for three windows of 5; raise epochs or lower batch_size"
        )
    length, stop, found = min(length, steps // len(PLACES)), steps, []
    count = min(length, _pairs(steps))
    for name, place in reversed(PLACES.items()):
        start = min(round(place * steps), stop - length)
        paired = tuple(start + i for i in _spread(length, count))
        kept = tuple(paired[i] for i in _spread(count, min(snapshots, count)))
        found.append(Window(name, start, start + length, paired, kept))
        stop = start
    return tuple(reversed(found))


def _pairs(steps: int) -> int:
    """Paired steps of a window."""
    wanted = max(_PAIRS, round(_PAIRED_SHARE * steps / len(PLACES)))
    return max(_FEWEST_PAIRS, min(wanted, steps // (_STEPS_A_PAIR * len(PLACES))))


def _spread(length: int, count: int) -> list[int]:
    return [i * length // count for i in range(count)]


def shares(sizes: Sequence[int], budget: int) -> list[int]:
    """How many of each layer's coordinates are kept: all of a small one, equally many of the others.

    >>> shares([10, 100, 1000], 110)
    [10, 50, 50]
    """
    found, left = [0] * len(sizes), budget
    for rank, i in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        found[i] = min(sizes[i], left // (len(sizes) - rank))
        left -= found[i]
    return found


@final
@dataclass(frozen=True)
class Site:
    """A layer's weight or output, and what of its gradient is kept.

    Attributes:
        size: coordinates of the gradient.
        coordinates: places in the flattened weight, ascending: one drawn from each of as many equal stretches. None of
            an output, whose coordinates are other pictures at every step.
        rows: output channels of the matrix that is kept; columns: of what remains, flattened; both in :func:`runs`.
    """

    name: str
    kind: LayerKind
    size: int
    coordinates: Tensor
    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, name: str, kind: LayerKind, weight: Tensor, sampled: int, kept: int, seed: int) -> "Site":
        """``weight``, or a gradient of its shape: output channels by all that follows."""
        generator = torch.Generator().manual_seed(derived_seed("site", seed, name))
        height, width = weight.shape[0], weight[0].numel()
        rows = min(height, max(1, round(kept**0.5)))
        columns = min(width, kept // rows)
        rows = min(height, kept // columns)
        chosen = (
            _stratified(sampled, weight.numel(), generator),
            runs(height, rows, generator),
            runs(width, columns, generator),
        )
        return cls(name, kind, weight.numel(), *(places.to(weight.device) for places in chosen))

    def sample(self, x: Tensor) -> Tensor:
        return x.detach().reshape(-1)[self.coordinates]

    def matrix(self, x: Tensor) -> Tensor:
        """[rows, columns], on the CPU."""
        whole = x.detach().reshape(x.shape[0], -1)
        return whole[self.rows[:, None], self.columns].cpu()


def runs(n: int, count: int, generator: torch.Generator) -> Tensor:
    """At most ``count`` of n indices, ascending, in runs of 16 neighbours over all of them; all if there are fewer.

    Neighbours are alike where anything is, so that indices which are all apart would miss what couples them.
    """
    if n <= count:
        return torch.arange(n)
    pieces = -(-count // _RUN)
    within = torch.rand(pieces, generator=generator, dtype=torch.float64)
    left_out = ((torch.arange(pieces) + within) / pieces * (n - count + 1)).long()
    places = torch.arange(count)
    return places + left_out[places * pieces // count]


def _stratified(count: int, of: int, generator: torch.Generator) -> Tensor:
    """``count`` of the numbers below ``of``, ascending: one from each of ``count`` stretches as equal as can be."""
    ends = torch.arange(count + 1) * of // max(count, 1)
    low, high = ends[:-1], ends[1:]
    offset = torch.rand(count, generator=generator, dtype=torch.float64) * (high - low)
    return low + offset.long()
