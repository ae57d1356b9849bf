"""Points of the leaderboard: a row for each board, rate class, quantizer, unit and kind of device, seeds averaged."""

from collections.abc import Mapping
from typing import final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..registry import Registry
from .anchor import scale_of_quality
from .averaging import Gains, Seeded
from .board_list import boards_of
from .boards import Board
from .grouping import Integers, Numbers, combined, errors, means, numbered, ranks, texts_of
from .methods import Catalog, core, family_of
from .placing import InUnits, OfMethods, OnBoards, Rows, Way
from .points_sql import QUANTITIES, read
from .wording import labels_of

__all__ = ["MEASURED", "TEXTS", "Board", "Catalog", "points_of"]

TEXTS = (
    *("board", "method", "core", "spec", "label", "quantizer", "family", "rate_class", "model", "dataset"),
    *("optimizer", "unit", "device", "execution", "plugin", "reference"),
)
MEASURED = tuple(name for name in QUANTITIES if name != "finetuned_accuracy")


def points_of(registry: Registry, catalog: Catalog) -> tuple[list[Board], pd.DataFrame]:
    """Boards in the order of the page, and the points on them.

    Of the attempts at a cell one counts, by the rule of :mod:`qbench.attempts`, on every board whose suite the cell
    belongs to. Only what ended ``ok``, with a rate and a quality, is a point; what failed is counted. A result that no
    run lists belongs to no suite and stands on no board.

    Columns, texts as categories, absent numbers NaN:

    - board (key), rate_class (fixed or coded), method (names it within a board), core (the method without settings of
      the budget: names it on all boards), label (short), quantizer, spec (text), family, plugin (distribution),
      reference, anchor (whether it is the frozen anchor), single (the method has one rate only)
    - unit, model, dataset, optimizer, device (cpu or cuda), execution (simulated or native)
    - seeds: how many it is compared with the anchor over; where there is nothing to compare it with, all it has
    - results, reproduced: counts of results, of those that agree with one of another machine; failed: results of the
      method on the board that failed; result_id: the newest of the lowest seed
    - rate: bits per element that are ranked; quality: as measured; means over all seeds; quality_se: standard error
    - gain: bits saved, see :mod:`qbench.leaderboard.anchor`; gain_se: its standard error; censored: -1 or +1 outside
      the anchor's range, where there is no gain: all three of means over the seeds that the anchor has too, of -ln KL
      where that is the quality, see :mod:`qbench.leaderboard.averaging`
    - the measurements of ``MEASURED`` (bits, %, dB, ...); baseline_accuracy is that of the float model trained as long

    Args:
        registry: read from a private copy.
        catalog: for each quantizer's name its ``family`` ("" for wrappers), ``reference`` and ``distribution``.

    Raises:
        RegistryError: the registry cannot be read.
    """
    rows = Rows(read(registry))
    placed = _Placed(rows)
    table = _numbers(placed)
    boards = boards_of(placed.boards, rows, _anchored(table, len(placed.boards.keys)))
    places = {board.key: place for place, board in enumerate(boards)}
    place = np.array([places.get(key, -1) for key in placed.boards.keys], dtype=np.int64)
    order = np.lexsort((table["unit"], table["same"], table["way"], place[table["board"]]))
    return boards, _worded(table.iloc[order].reset_index(drop=True), placed, catalog)


@final
class _Placed:
    """Rows with their boards, methods and units."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.boards, self.methods = rows, OnBoards(rows), OfMethods(rows)
        self.units = InUnits(rows, self.boards)


def _numbers(placed: _Placed) -> pd.DataFrame:
    """The table with numbers for texts: board, method, same, pair, unit and way."""
    rows, methods = placed.rows, placed.methods
    chosen = np.flatnonzero(placed.boards.shown)
    way = rows.column("way")[chosen]
    one = combined(placed.units.number[chosen], methods.same[chosen], way)
    _, first, point = np.unique(one, return_index=True, return_inverse=True)
    row = chosen[first]
    columns = {
        "board": placed.boards.number[row],
        "method": methods.number[row],
        "same": methods.same[row],
        "pair": methods.pair[row],
        "unit": placed.units.number[row],
        "way": way[first],
        "anchor": methods.anchor[row],
        "result_id": _lowest(rows, chosen, point),
        "results": np.bincount(point, minlength=len(row)),
        "reproduced": np.bincount(point[rows.reproduced[chosen]], minlength=len(row)),
        **_over_seeds(placed, chosen, point),
    }
    columns["failed"] = _failed(placed, columns["board"], columns["method"])
    columns["single"] = _single(rows, columns)
    return pd.DataFrame(columns)


def _lowest(rows: Rows, chosen: Integers, point: Integers) -> list[str]:
    """The newest result of the lowest seed of each point."""
    order = np.lexsort((-rows.column("started")[chosen], rows.column("seed")[chosen], point))
    starts = np.searchsorted(point[order], np.arange(int(point.max(initial=-1)) + 1))
    return [f"{number:016x}" for number in rows.ids[chosen][order[starts]].tolist()]


def _over_seeds(placed: _Placed, chosen: Integers, point: Integers) -> dict[str, NDArray[np.generic]]:
    """Means within a seed first, then over seeds, and the gains of those."""
    rows = placed.rows
    one = combined(point, ranks(rows.column("seed")[chosen]))
    _, first, of_seed = np.unique(one, return_index=True, return_inverse=True)
    mine, seeds, points = point[first], len(first), int(point.max(initial=-1)) + 1
    found: dict[str, NDArray[np.generic]] = {}
    for name in MEASURED:
        values = rows.quantity(name)[chosen]
        if name == "baseline_accuracy":
            finetuned = rows.quantity("finetuned_accuracy")[chosen]
            values = np.where(np.isfinite(finetuned), finetuned, values)
        found[name] = means(mine, means(of_seed, values, seeds), points)
    rate, quality = (
        means(of_seed, values[chosen], seeds) for values in (rows.quantity("rate"), placed.boards.quality)
    )
    found |= {"quality": means(mine, quality, points), "quality_se": errors(mine, quality, points)}
    compared = _gains(placed, chosen[first], mine, rate, quality)
    all_seeds = np.bincount(mine, minlength=points)
    return found | {
        "gain": compared.gain,
        "gain_se": compared.error,
        "censored": compared.censored,
        "seeds": np.where(compared.seeds > 0, compared.seeds, all_seeds),
    }


def _gains(placed: _Placed, rows: Integers, point: Integers, rate: Numbers, quality: Numbers) -> Gains:
    """Of points at single seeds, in those rows."""
    device = numbered([way.device for way in placed.rows.ways])[1]
    curve = combined(
        placed.units.number[rows], placed.methods.equal[rows], device[placed.rows.column("way")[rows]]
    )
    anchor, seed = placed.methods.anchor[rows], placed.rows.column("seed")[rows]
    found = Gains(int(point.max(initial=-1)) + 1)
    for board, chosen in enumerate(placed.boards.qualities):
        if chosen:
            seeded = Seeded(point, curve, anchor, seed, rate, scale_of_quality(chosen.name, quality))
            found.add(chosen.name, seeded.rows(np.flatnonzero(placed.boards.number[rows] == board)))
    return found


def _failed(placed: _Placed, board: Integers, method: Integers) -> Integers:
    """How many results of that method on that board failed."""
    bad = ~placed.rows.ok
    one = combined(np.r_[placed.boards.number[bad], board], np.r_[placed.methods.number[bad], method])
    count = np.bincount(one[: bad.sum()], minlength=int(one.max(initial=-1)) + 1)
    return np.asarray(count[one[bad.sum() :]], dtype=np.int64)


def _single(rows: Rows, columns: Mapping[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Whether a method has one setting of its rate on a board, in a rate class."""
    rate_class = numbered([way.rate_class for way in rows.ways])[1]
    way = np.asarray(columns["way"], dtype=np.int64)
    method = combined(columns["board"], rate_class[way] if len(way) else way, columns["method"])
    distinct = np.unique(np.stack([method, np.asarray(columns["same"], dtype=np.int64)]), axis=1)
    return np.asarray(np.bincount(distinct[0], minlength=int(method.max(initial=-1)) + 1)[method] == 1)


def _anchored(table: pd.DataFrame, boards: int) -> NDArray[np.bool_]:
    judged = np.isfinite(table["gain"]) | (table["censored"] != 0)
    return np.asarray(np.bincount(np.asarray(table["board"])[judged], minlength=boards) > 0)


def _worded(table: pd.DataFrame, placed: _Placed, catalog: Catalog) -> pd.DataFrame:
    """The same with texts for numbers."""
    rows, methods, names = placed.rows, placed.methods, placed.units.names
    number = {name: np.asarray(table[name]) for name in ("board", "method", "pair", "unit", "way")}
    number["site"] = placed.units.site[number["unit"]]
    specs = [spec for spec, _ in methods.pairs]
    about = [catalog.get(spec.name, {}) if spec else {} for spec in specs]
    by_number: dict[str, dict[str, list[str]]] = {
        "board": {"board": placed.boards.keys},
        "method": {"method": methods.names},
        "pair": {
            "core": [str(core(spec)) if spec else "none" for spec in specs],
            "spec": [str(spec) if spec else "" for spec in specs],
            "quantizer": [spec.name if spec else "" for spec in specs],
            "family": [family_of(spec, catalog) for spec in specs],
            "plugin": [one.get("distribution", "") for one in about],
            "reference": [one.get("reference", "") for one in about],
        },
        "unit": {"unit": list(names.units)},
        "way": {name: [str(getattr(way, name)) for way in rows.ways] for name in Way._fields},
        "site": {
            name: [site[place] for site in names.sites]
            for place, name in enumerate(("model", "dataset", "optimizer"))
        },
    }
    texts = {
        name: texts_of(values, number[of])
        for of, columns in by_number.items()
        for name, values in columns.items()
    }
    texts["label"] = labels_of(methods.pairs, number["board"], number["pair"])
    plain = [name for name in table.columns if name not in number and name != "same"]
    return pd.DataFrame({name: texts[name] for name in TEXTS} | {name: table[name] for name in plain})
