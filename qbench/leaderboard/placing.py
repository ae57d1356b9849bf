"""Where each attempt that was read stands: on which board, as which method, in which unit. Numbers for each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..schema import Spec, canonical_json
from .anchor import EQUAL, is_anchor
from .boards import Kind, Quality, key_of, quality_of
from .grouping import Integers, Numbers, combined, numbered
from .methods import identity, spec_of
from .points_sql import QUANTITIES, Read, Texts
from .units import Site, Units


class Run(NamedTuple):
    """A track of a suite."""

    suite: str
    digest: str
    track: str


class Way(NamedTuple):
    """How a result came about."""

    device: str
    rate_class: str
    execution: str


@final
class Rows:
    """What was read, its texts understood."""

    def __init__(self, found: Read) -> None:
        texts: Mapping[str, Texts] = found.texts
        self._table, self._measured = found.rows, found.measured
        self.runs = [Run(*row) for row in texts["runs"]]
        self.kinds = [Kind.of(*row) for row in texts["kinds"]]
        self.specs = [spec_of(*row) for row in texts["codes"]]
        self.sites = [Site.of(row) for row in texts["sites"]]
        self.ways = [Way(device, name or "fixed", execution) for device, name, execution in texts["ways"]]
        self.ok: NDArray[np.bool_] = np.asarray(found.rows["ok"], dtype=bool)
        self.reproduced: NDArray[np.bool_] = np.asarray(found.rows["reproduced"], dtype=bool)

    def __len__(self) -> int:
        return len(self._table)

    def column(self, name: str) -> Integers:
        """A column of numbers: run, kind, code, site, way, seed or started."""
        return np.asarray(self._table[name], dtype=np.int64)

    @property
    def ids(self) -> NDArray[np.uint64]:
        return np.asarray(self._table["id"], dtype=np.uint64)

    def quantity(self, name: str) -> Numbers:
        """A measurement of each row."""
        return np.asarray(self._measured[:, QUANTITIES.index(name)])

    def measured(self, rows: NDArray[np.bool_]) -> list[str]:
        """Which quantities any of those rows has."""
        there = np.flatnonzero(np.isfinite(self._measured[rows]).any(axis=0))
        return [QUANTITIES[place] for place in there.tolist()]


@final
class OnBoards:
    """The board of each row.

    Attributes:
        number: of each row. run, kind: of each board, the kind one of several with the same setting.
        keys, qualities: of each board; None where nothing is measured that bits could be saved at.
        quality: of each row, NaN where it was not measured.
        shown: rows that ended well, with a rate and a quality.
    """

    def __init__(self, rows: Rows) -> None:
        setting = numbered([canonical_json([kind.target, dict(kind.setting)]) for kind in rows.kinds])[1]
        of_row = setting[rows.column("kind")] if len(rows) else setting[:0]
        one = combined(rows.column("run"), of_row)
        _, first, self.number = np.unique(one, return_index=True, return_inverse=True)
        self.run = [rows.runs[number] for number in rows.column("run")[first].tolist()]
        self.kind = [rows.kinds[number] for number in rows.column("kind")[first].tolist()]
        self.keys = [
            key_of(run.suite, run.digest, run.track, kind.target, kind.setting)
            for run, kind in zip(self.run, self.kind, strict=True)
        ]
        self.qualities: list[Quality | None] = []
        self.quality = np.full(len(rows), np.nan)
        self._choose(rows)
        self.shown = rows.ok & np.isfinite(rows.quantity("rate")) & np.isfinite(self.quality)

    def _choose(self, rows: Rows) -> None:
        for board, run in enumerate(self.run):
            mine = self.number == board
            chosen = quality_of(run.track, rows.measured(mine))
            self.qualities.append(chosen)
            if chosen:
                self.quality[mine] = rows.quantity(chosen.name)[mine]


@final
class OfMethods:
    """The method of each row.

    Attributes:
        pairs: distinct quantizers with what their budgets say; ``pair`` the number of each row's.
        names: texts of methods; ``number`` of each row.
        same: a number for each method at one setting of its rate.
        anchor: whether a row is the anchor's.
        equal: a number for each of the settings that a row and its anchor share.
    """

    def __init__(self, rows: Rows) -> None:
        both = rows.column("code") * max(len(rows.kinds), 1) + rows.column("kind")
        distinct, self.pair = np.unique(both, return_inverse=True)
        self.pairs: list[tuple[Spec | None, Kind]] = [
            (rows.specs[one // len(rows.kinds)], rows.kinds[one % len(rows.kinds)])
            for one in distinct.tolist()
        ]
        self.names, number = numbered([identity(spec, kind.in_row) for spec, kind in self.pairs])
        exact = [canonical_json([str(spec), dict(k.in_row), dict(k.rate)]) for spec, k in self.pairs]
        equal = [canonical_json([k.in_row.get(name) for name in EQUAL]) for _, k in self.pairs]
        self.number, self.same, self.equal = (
            place[self.pair] for place in (number, numbered(exact)[1], numbered(equal)[1])
        )
        frozen = [is_anchor(spec, k.track, k.target, k.in_row) for spec, k in self.pairs]
        fixed = np.array([way.rate_class == "fixed" for way in rows.ways], dtype=bool)
        self.anchor = np.array(frozen, dtype=bool)[self.pair] & fixed[rows.column("way")]


@final
class InUnits:
    """The unit of each row that is shown.

    Attributes:
        number: of each row, over all boards. board, site: of each unit.
    """

    def __init__(self, rows: Rows, boards: OnBoards) -> None:
        self._rows = rows
        of_unit = numbered([canonical_json(dict(kind.of_unit)) for kind in rows.kinds])[1]
        training = of_unit[rows.column("kind")] if len(rows) else of_unit[:0]
        one = np.where(boards.shown, 1 + combined(boards.number, rows.column("site"), training), 0)
        _, first, self.number = np.unique(one, return_index=True, return_inverse=True)
        self.board, self.site = boards.number[first], rows.column("site")[first]
        self._trainings = [rows.kinds[kind].of_unit for kind in rows.column("kind")[first].tolist()]

    @cached_property
    def names(self) -> "UnitNames":
        """Texts of the units, by number."""
        found: dict[int, list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
        places = []
        for board, site, training in zip(
            self.board.tolist(), self.site.tolist(), self._trainings, strict=True
        ):
            places.append((board, len(found[board])))
            found[board].append((site, training))
        units = Units(self._rows.sites, found)
        return UnitNames([units.text(*place) for place in places], self._of_sites(units))

    def _of_sites(self, units: Units) -> Sequence[tuple[str, str, str]]:
        sites = range(len(self._rows.sites))
        return [(units.model(site), units.dataset(site), units.optimizer(site)) for site in sites]


@dataclass(frozen=True)
class UnitNames:
    """Texts of units, and of each site the model, the data set and the optimizer."""

    units: Sequence[str]
    sites: Sequence[tuple[str, str, str]]
