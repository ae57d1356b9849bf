"""Results laid out for a paper: what goes down, what goes across, and what parts tables."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .matrix import Figure, Line, Matrix, Place

Key = tuple[Line | str, ...]


@dataclass(frozen=True)
class Sheet:
    """One table. A key holds a :class:`Line` for side ``quantizer`` and texts for the others.

    ``parts`` is what it is of, where several were made; ``told`` are the sides that it names somewhere; ``left_out``
    says whether there are results of seeds that not all have.
    """

    matrix: Matrix
    row: str
    column_sides: tuple[str, ...]
    rows: Sequence[Key]
    columns: Sequence[Key]
    parts: Key
    told: frozenset[str]
    left_out: bool
    figures: Mapping[tuple[Key, Key], Figure]

    @property
    def row_name(self) -> str:
        named = self.matrix.quantized or self.row != "quantizer"
        return self.row if named else "model, optimizer"


def sheets(found: Matrix, row: str, columns: Sequence[str]) -> list[Sheet]:
    """Tables with ``row`` down and ``columns`` across (none: all else that differs); what is in neither parts them."""
    row, *given = dict.fromkeys(_side(found, side) for side in (row, *columns))
    varying = [side for side in found.varying() if side != row]
    across = tuple(given or varying or _only_place(found))
    parting = tuple(side for side in varying if side not in across)
    parts: dict[Key, dict[tuple[Key, Key], Figure]] = defaultdict(dict)
    short: set[Key] = set()
    for (line, place), figure in found.figures.items():
        if line.rate_class or "quantizer" in (row, *across):
            part = _key(line, place, parting)
            figure = replace(figure, best=figure.best and "quantizer" not in parting)
            parts[part][_key(line, place, (row,)), _key(line, place, across)] = figure
            short |= {part} if place in found.left_out else set()
    told = frozenset((row, *across, *parting))
    return [
        Sheet(
            found,
            row,
            across,
            _in_order(found, {down for down, _ in figures}, (row,)),
            _in_order(found, {over for _, over in figures}, across),
            part,
            told,
            part in short,
            figures,
        )
        for part, figures in parts.items()
    ]


def _side(found: Matrix, side: str) -> str:
    """Where nothing is quantized, models and optimizers are what lines are."""
    return side if found.quantized or side == "dataset" else "quantizer"


def _only_place(found: Matrix) -> list[str]:
    """A header for a single column."""
    there = dict(found.places[0])
    return [next((str(kind) for kind in ("dataset", "model", "optimizer") if kind in there), "dataset")]


def _key(line: Line, place: Place, sides: Sequence[str]) -> Key:
    texts = dict(place)
    return tuple(line if side == "quantizer" else texts.get(side, "") for side in sides)


def _in_order(found: Matrix, keys: set[Key], sides: Sequence[str]) -> list[Key]:
    """As quantizers and places stand in the matrix, side after side."""
    whole = [_key(line, place, sides) for line in found.lines for place in found.places]
    rank: list[dict[Line | str, int]] = [{} for _ in sides]
    for key in whole:
        for known, part in zip(rank, key, strict=True):
            known.setdefault(part, len(known))
    return sorted(keys, key=lambda key: [known[part] for known, part in zip(rank, key, strict=True)])
