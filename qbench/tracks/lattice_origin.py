"""Where the minima of a landscape come from, in words, read off the terms that the error consists of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .beta_landscape import LEAST_PROMINENCE_DB, LEAST_PROMINENCE_SE, Minimum, Point, decibel

_CONSTANT = 1e-3
_CLEAR_DB = 1.0
_NEAR_OCTAVES = 0.75


@dataclass(frozen=True)
class Sizes:
    """The norms of the vectors, [vectors]. Large are the longest that together have half of the energy."""

    norms: Tensor

    @property
    def constant(self) -> bool:
        return bool(self.norms.std() <= _CONSTANT * self.norms.mean())

    def large(self) -> Tensor:
        """Which vectors are large, [vectors] of bool; none where all are alike."""
        if self.constant:
            return torch.zeros_like(self.norms, dtype=torch.bool)
        order = self.norms.argsort()
        energy = self.norms[order].square().cumsum(0)
        large = torch.empty_like(self.norms, dtype=torch.bool)
        large[order] = energy > energy[-1] / 2
        return large


def origin(points: Sequence[Point], found: Sequence[Minimum], sizes: Sizes) -> str:
    """A sentence for every certified minimum, and what the others are.

    A minimum is where what falls before it gives way to what rises after it: between the highest points on either side,
    up to the next certified minimum, the term that changes most. Where there are several, each is put down to one of

    - the scale, where vectors choose one, that more of them choose there than at the barriers to its neighbours,
    - a shell of codewords, where all vectors have one norm and the barriers are radial error for the most part,
    - the vectors, small or large, that are nearer to their own least error there, by 1 dB or more and within three
      quarters of an octave of beta.
    """
    certified = [one for one in found if one.certified]
    if not certified:
        least = min(points, key=lambda point: point.mse)
        ends = ", an end of the grid" if least in (points[0], points[-1]) else ""
        return "; ".join(
            [f"no certified minimum: least error at beta={least.beta:.3g}{ends}", *_uncertified(found)]
        )
    places = [one.place for one in certified]
    barriers = [_highest(points, start, end) for start, end in pairwise([0, *places, len(points) - 1])]
    sentences = []
    for number, one in enumerate(certified):
        here, (left, right) = points[one.place], barriers[number : number + 2]
        inner = barriers[max(number, 1) : min(number + 2, len(certified))]
        reason = (
            _scale(here, inner) or _shell(here, left, right, sizes) or _size(points, here, sizes)
            if inner
            else ""
        )
        sentences.append(f"beta={one.beta:.3g}: {reason}{_trade(left, here, right)}")
    return "; ".join(sentences + _uncertified(found))


def _uncertified(found: Sequence[Minimum]) -> list[str]:
    shallow = sum(one.prominence_db < LEAST_PROMINENCE_DB for one in found)
    doubtful = sum(not one.certified for one in found) - shallow
    sentences = []
    if shallow:
        sentences.append(f"{shallow} more below {LEAST_PROMINENCE_DB} dB, not certified")
    if doubtful:
        sentences.append(
            f"{doubtful} more below {LEAST_PROMINENCE_SE:g} paired standard errors, not certified: another sample may "
            "not have them"
        )
    return sentences


def _highest(points: Sequence[Point], start: int, end: int) -> Point:
    return max(points[start : end + 1], key=lambda point: point.mse)


def _trade(left: Point, here: Point, right: Point) -> str:
    """Which term falls most before the minimum, and which rises most after it."""
    return f"{_term(left, here)} falls before it, {_term(right, here)} rises after it"


def _term(there: Point, here: Point) -> str:
    granular = there.granular_mse - here.granular_mse
    overload = there.overload_mse - here.overload_mse
    return "granular distortion" if granular > overload else "overload distortion"


def _scale(here: Point, barriers: Sequence[Point]) -> str:
    share = max(here.choices, default=0.0)
    if share <= max(max(barrier.choices, default=0.0) for barrier in barriers):
        return ""
    return f"{100 * share:.0f} % of the vectors choose one scale, fewer at the next barrier, "


def _shell(here: Point, left: Point, right: Point, sizes: Sizes) -> str:
    radial = left.radial + right.radial - 2 * here.radial
    if not sizes.constant or 2 * radial <= left.mse + right.mse - 2 * here.mse:
        return ""
    return "a shell of codewords crosses the sphere that all vectors lie on, "


def _size(points: Sequence[Point], here: Point, sizes: Sizes) -> str:
    if sizes.constant:
        return ""
    own = [min(points, key=lambda point: point.by_size[size]) for size in range(2)]
    excess = [decibel(here.by_size[size]) - decibel(own[size].by_size[size]) for size in range(2)]
    near = 0 if excess[0] < excess[1] else 1
    octaves = abs(math.log2(own[near].beta / here.beta))
    if abs(excess[0] - excess[1]) < _CLEAR_DB or octaves > _NEAR_OCTAVES:
        return ""
    name = ("small", "large")[near]
    return f"made by the {name} vectors, whose own least error is at {own[near].beta:.3g}, "
