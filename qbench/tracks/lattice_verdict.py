"""Hypothesis L1: for iid Gaussian blocks, n >= 2 has more certified minima in beta than n = 1."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..schema import Cell, canonical_json

SHARE = 0.8
FEWEST_CELLS = 5  # of fewer, four fifths are all
_CLAIM = "iid Gaussian blocks of n >= 2 have more certified minima in beta than n = 1"


class Row(Protocol):
    """A cell that ended well, with its measurements."""

    @property
    def cell(self) -> Cell: ...

    def value(self, name: str) -> float | None: ...


@dataclass(frozen=True)
class Verdict:
    """A claim holds where at least 80 % of the cells support it, fails where as many contradict it, else it depends."""

    outcome: Literal["holds", "fails", "depends", "undecided"]
    supporting: int
    cells: int
    text: str


@dataclass(frozen=True)
class _Comparison:
    """A code of n >= 2 against the integers in the same setting."""

    lattice: str
    m: int
    overload: str
    minima: int
    minima_of_integers: int

    @property
    def supports(self) -> bool:
        return self.minima > self.minima_of_integers


def decide_l1(rows: Iterable[Row]) -> Verdict:
    """The verdict over every row of track ``lattice-scaling`` of an iid Gaussian source, blocks as they come.

    A cell is a code of n >= 2 whose partner, the integers with the same parameters, budget and seed, is among the rows.
    """
    found = _comparisons(rows)
    if not found:
        text = (
            "L1 is undecided: no row of an iid Gaussian source has a partner over Z with the same parameters"
        )
        return Verdict("undecided", 0, 0, text)
    supporting = sum(one.supports for one in found)
    enough = SHARE * len(found)
    outcome: Literal["holds", "fails", "depends"] = (
        "holds" if supporting >= enough else "fails" if len(found) - supporting >= enough else "depends"
    )
    share = f"{100 * supporting / len(found):.0f} %"
    text = f"L1 {outcome}: {_CLAIM} in {supporting} of {len(found)} cells ({share})"
    return Verdict(outcome, supporting, len(found), text + _where(found, outcome))


def _comparisons(rows: Iterable[Row]) -> list[_Comparison]:
    settings: dict[str, list[tuple[str, Cell, int]]] = defaultdict(list)
    for row in rows:
        minima = row.value("minima")
        if minima is not None and _counts(row.cell):
            assert row.cell.quantizer is not None
            parameters = dict(row.cell.quantizer.parameters)
            lattice = parameters.pop("lattice")
            key = canonical_json([parameters, row.cell.budget, row.cell.seed])
            settings[key].append((lattice, row.cell, round(minima)))
    found = []
    for same in settings.values():
        integers = [minima for lattice, _, minima in same if lattice == "Z"]
        if integers:
            found += [_comparison(*one, integers[0]) for one in same if one[0] != "Z"]
    return found


def _counts(cell: Cell) -> bool:
    return (
        cell.track == "lattice-scaling"
        and cell.quantizer is not None
        and cell.dataset is not None
        and cell.dataset.name == "gaussian"
        and cell.budget.get("normalization", "none") == "none"
    )


def _comparison(lattice: str, cell: Cell, minima: int, integers: int) -> _Comparison:
    assert cell.quantizer is not None
    parameters = cell.quantizer.parameters
    return _Comparison(lattice, parameters["m"], parameters["overload"], minima, integers)


def _where(found: Sequence[_Comparison], outcome: str) -> str:
    """What sets the cells apart that support the claim from those that do not."""
    factors: dict[str, Callable[[_Comparison], object]] = {
        "lattice": lambda one: one.lattice,
        "overload policy": lambda one: one.overload,
        "m": lambda one: one.m,
    }
    if outcome == "depends":
        largest = max(factors, key=lambda name: _between(found, factors[name]))
        return f"; the largest variance component is the {largest}"
    odd = [one for one in found if one.supports == (outcome == "fails")]
    if not odd:
        return ""
    places = Counter((one.lattice, one.overload) for one in odd)
    listed = ", ".join(
        f"{lattice} {overload} {count}" for (lattice, overload), count in sorted(places.items())
    )
    return f"; the other cells: {listed}"


def _between(found: Sequence[_Comparison], factor: Callable[[_Comparison], object]) -> float:
    """Variance of the share of support between the values of a factor."""
    groups: dict[object, list[bool]] = defaultdict(list)
    for one in found:
        groups[factor(one)].append(one.supports)
    mean = sum(one.supports for one in found) / len(found)
    return math.fsum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups.values()) / len(found)
