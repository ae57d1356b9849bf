"""Bits saved of methods on every board they stand on, as coloured cells with their numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from ..boards import Board
from .cells import cells
from .chart import Chart, nothing
from .theme import ROWS, table, tips
from .words import Row, count, percent, plain, rounded

if TYPE_CHECKING:
    import pandas as pd

    from ..standings import Standing

_TITLE = "Where each method saves bits"
_CAPTION = (
    "Share of bits saved at equal quality on every ranked board, for methods that stand on several: a profile "
    "instead of one mark. Blue saves against the uniform anchor, orange wastes; an empty cell was not measured. "
    "Look for rows that are blue throughout."
)
_EMPTY = "Run `qbench run --suite standard` to measure methods on more than one track."
_METHODS = 16


def profile(
    points: "pd.DataFrame", boards: Sequence[Board], standings: Mapping[str, Sequence["Standing"]]
) -> Chart:
    """Methods by board: those with bits saved on two default boards or more, most boards first, then most saved."""
    drawn = [board for board in boards if board.anchored and board.default]
    cores = dict(zip(zip(points["board"], points["method"], strict=True), points["core"], strict=True))
    rows = [
        _standing_row(board, one, str(cores.get((board.key, one.method), one.method)), at)
        for at, board in enumerate(drawn)
        for one in standings.get(board.key, ())
        if np.isfinite(one.gain)
    ]
    kept = _several_boards(rows)
    if not kept:
        return nothing("profile", _TITLE, _CAPTION, _EMPTY)
    values = rounded(kept)
    tooltip = tips(
        ("name", "method"),
        ("place", "board"),
        ("saved", "bits saved"),
        ("interval", "95 % interval"),
        ("n", "models and data sets"),
        ("rank", "rank"),
    )
    columns = len({row["place"] for row in kept})
    spec = cells(alt.Chart(table(ROWS)), tooltip, columns, saved=True, numbered=True)
    spec |= {"datasets": {ROWS: values}}
    return Chart("profile", _title(kept), _CAPTION, _alt(kept), spec, _EMPTY)


def _standing_row(board: Board, one: "Standing", core: str, at: int) -> Row:
    coded = " · coded" if one.rate_class == "coded" and not one.label.startswith("entropy-coded") else ""
    return {
        "core": f"{core}|{one.rate_class}",
        "name": plain(one.label, 72) + coded,
        "place": plain(board.title.partition(" (")[0], 60),
        "at": at,
        "value": one.gain,
        "interval": f"{percent(one.low)} to {percent(one.high)}" if np.isfinite(one.low) else "",
        "n": one.n,
        "rank": "" if one.rank is None else str(one.rank),
    }


def _several_boards(rows: Sequence[Row]) -> list[Row]:
    """Of each method and board the best row; methods on at least two boards, numbered by ``order``."""
    best: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda row: float(row["value"])):
        best[row["core"], row["place"]] = row
    boards: dict[str, list[Row]] = {}
    for (core, _), row in best.items():
        boards.setdefault(core, []).append(row)
    ordered = sorted(
        (many for many in boards.values() if len(many) > 1),
        key=lambda many: (
            -len(many),
            -sum(float(row["value"]) for row in many) / len(many),
            str(many[0]["name"]),
        ),
    )
    return _named(ordered[:_METHODS])


def _named(methods: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows of each method under one name, the shortest that it has and no other before it."""
    taken: set[str] = set()
    found: list[Row] = []
    for place, many in enumerate(methods):
        names = sorted({str(row["name"]) for row in many}, key=lambda name: (len(name), name))
        name = next((one for one in names if one not in taken), f"{names[0]} ({place + 1})")
        taken.add(name)
        found += [{**row, "order": place, "name": name} for row in many]
    return found


def _title(kept: Sequence[Row]) -> str:
    """Whether one method is best of these on all boards that it stands on, at least half of them."""
    boards = {row["at"] for row in kept}
    best = {at: max(float(row["value"]) for row in kept if row["at"] == at) for at in boards}
    for core in dict.fromkeys(row["core"] for row in kept):
        own = [row for row in kept if row["core"] == core]
        if 2 * len(own) >= len(boards) and all(float(row["value"]) >= best[row["at"]] for row in own):
            return f"{own[0]['name']} is best of these wherever it was measured"
    return "No method is best everywhere"


def _alt(kept: Sequence[Row]) -> str:
    parts = []
    for at in sorted({row["at"] for row in kept}):
        own = [row for row in kept if row["at"] == at]
        best = max(own, key=lambda row: float(row["value"]))
        parts.append(f"{best['place']}: {best['name']} {percent(best['value'])}")
    methods = len({row["core"] for row in kept})
    everywhere = sum(
        min(float(row["value"]) for row in kept if row["core"] == core) > 0
        for core in {row["core"] for row in kept}
    )
    return (
        f"Bits saved by {count(methods, 'method')} on {count(len(parts), 'board')}; {everywhere} of them save bits "
        f"on every board they stand on. Best of these by board: {'; '.join(parts)}."
    )
