"""A registry becomes a folder: the page, the files beside it, and the card of a static Space.

The same registry makes the same bytes: dates are those of results, never of the building.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import citation
from ..attempts import counting
from ..errors import RegistryError
from ..quantities import size_text
from ..registry import Registry
from . import exports
from .charts import all_charts
from .own_files import CARD, CSV, INDEX, MADE_BY, PARQUET, refuse_others
from .page import TITLE, Content, page
from .payload import kept, payload
from .points import Board, points_of
from .standings import BITS, Standing, standings

if TYPE_CHECKING:
    import pandas as pd

WIDTHS = {bits: BITS[bits] for bits in ("2", "4", "8")}
DEFAULT_TABS = ("weights", "sources", "activations", "training", "gradients")

_PLACES = """
    SELECT result_id, cell_id, environment_id FROM results
    WHERE result_id IN (SELECT unnest($1::VARCHAR[]))
"""
_NUMBERS = """
    SELECT list_sort(list(DISTINCT h.result_id)), list_sort(list(DISTINCT h.suite) FILTER (h.suite <> '')),
           list_sort(list(DISTINCT {{'track': h.track, 'digest': h.digest}}) FILTER (h.digest <> '')),
           list_sort(list(DISTINCT coalesce(runs.version, 'of unknown version'))), min(h.started), max(h.started)
    FROM ({counting}) AS h LEFT JOIN runs ON runs.run_id = h.run_id
    WHERE h.status = 'ok'
"""
_FAILURES = """
    SELECT track, target, suite, digest, quantizer, status,
           coalesce(left(split_part(trim(error), chr(10), 1), 200), '') AS error, count(*) AS count
    FROM ({counting}) WHERE status <> 'ok' AND quantizer IS NOT NULL
    GROUP BY ALL ORDER BY track, target, suite, digest, quantizer, count DESC, status, error
"""
_EACH = 4


@dataclass(frozen=True)
class Built:
    """What was written: ``sizes`` in bytes by file name."""

    folder: Path
    sizes: dict[str, int]
    results: int
    methods_left_out: int = 0


def build(
    registry: Registry,
    out: Path,
    catalog: Mapping[str, Mapping[str, str]],
    verdicts: Sequence[Mapping[str, str]] = (),
) -> Built:
    """Write the page and the files beside it into ``out``; other files there stay.

    Each file appears whole or not at all, and is left as it is where nothing changed. Files of those names that are
    not of a leaderboard are never written over.

    Args:
        catalog: of each installed quantizer its family, reference, distribution and kind.
        verdicts: of each hypothesis that was decided its suite, id, claim, region, verdict, cells and deciding figure.

    Raises:
        RegistryError: the registry cannot be read, the folder not be made or written, or it holds a file of that name
            that is not of a leaderboard; nothing was written.
        QBenchError: a library that the page needs is not installed.
    """
    _make(out)
    refuse_others(out)
    counts = exports.write_csv(registry, out / CSV), exports.write_parquet(registry, out / PARQUET)
    sizes = {name: (out / name).stat().st_size for name in (CSV, PARQUET)}
    text, left_out = _page(registry, catalog, verdicts, sizes)
    exports.write_text(out / INDEX, text)
    exports.write_text(out / CARD, exports.card(TITLE, _card_lines(registry, counts)))
    sizes = {name: (out / name).stat().st_size for name in (INDEX, PARQUET, CSV, CARD)}
    return Built(out, sizes, counts[1], left_out)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(
            f"cannot make the folder {out}: {error.strerror}; name another with --out"
        ) from None


def _page(
    registry: Registry,
    catalog: Mapping[str, Mapping[str, str]],
    verdicts: Sequence[Mapping[str, str]],
    sizes: Mapping[str, int],
) -> tuple[str, int]:
    boards, points = points_of(registry, catalog)
    boards = in_order(boards)
    few = kept(points)
    own = {board.key: _of(few.points, board) for board in boards}
    ranked = {board.key: standings(own[board.key], better=board.better) for board in boards}
    charts = all_charts(registry, boards, points, ranked)
    board = boards[0] if boards else None
    first = shown_first(own[board.key], ranked[board.key]) if board else []
    best = {
        bits: shown_first(own[board.key], standings(own[board.key], bits=width, better=board.better))
        if board
        else []
        for bits, width in WIDTHS.items()
    }
    left_out = few.methods_left_out, few.points_left_out
    data = payload(
        boards, _placed(registry, few.points), charts, failures=_failures(registry, boards), left_out=left_out
    )
    content = Content(
        boards=boards,
        points=own[board.key] if board else few.points,
        charts=charts,
        first=first,
        best=best,
        payload=data,
        verdicts=verdicts,
        cite=_citation(registry),
        sizes=[(name, size_text(size)) for name, size in sizes.items()],
    )
    return page(content), left_out[0]


def in_order(boards: Sequence[Board]) -> list[Board]:
    """The same with the board that opens the page in front: weights where they are ranked, else the first that is."""
    place = {tab: number for number, tab in enumerate(DEFAULT_TABS)}
    first = sorted(boards, key=lambda one: (not one.anchored, place.get(one.tab, 9), not one.default))[:1]
    return [*first, *(board for board in boards if board not in first)]


def shown_first(points: "pd.DataFrame", rows: Sequence[Standing]) -> list[Standing]:
    """Rows of the rate class that the page shows first: fixed where there is any."""
    classes = set(points["rate_class"]) if len(points) else set()
    chosen = "fixed" if "fixed" in classes or not classes else sorted(classes)[0]
    return [row for row in rows if row.rate_class == chosen]


def _of(points: "pd.DataFrame", board: Board) -> "pd.DataFrame":
    return points[points["board"] == board.key]


def _placed(registry: Registry, points: "pd.DataFrame") -> "pd.DataFrame":
    """The points with cell and environment of their results."""
    ids = [str(one) for one in points["result_id"]]
    rows = registry.sql(_PLACES, [ids]).fetchall() if ids else []
    cells = {result: cell for result, cell, _ in rows}
    environments = {result: environment for result, _, environment in rows}
    words = {one: _environment(registry, one) for one in sorted(set(environments.values()))}
    return points.assign(
        cell_id=[cells.get(one, "") for one in ids],
        environment=[words.get(environments.get(one, ""), "") for one in ids],
    )


def _environment(registry: Registry, environment_id: str) -> str:
    """A machine and its versions in one line."""
    try:
        content = registry.environment(environment_id)
    except RegistryError:
        return ""
    packages = content.get("packages", {})
    versions = [f"{name} {packages[name]}" for name in ("torch", "qbench-suite") if name in packages]
    parts = [
        content.get("cpu"),
        *content.get("gpus", []),
        content.get("system"),
        f"Python {content.get('python')}",
    ]
    return ", ".join(str(part)[:120] for part in [*parts, *versions] if part)


def _failures(registry: Registry, boards: Sequence[Board]) -> dict[str, list[dict[str, Any]]]:
    """Of each board the failures by quantizer, status and first line of the error, the most frequent few."""
    rows = registry.sql(_FAILURES.format(counting=counting())).fetchall()
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    seen: dict[tuple[str, ...], int] = {}
    for track, target, suite, digest, quantizer, status, error, count in rows:
        place = (track, target, suite, digest, quantizer)
        seen[place] = seen.get(place, 0) + 1
        if seen[place] <= _EACH:
            one = {"quantizer": quantizer, "status": status, "error": error, "count": count}
            found.setdefault(place[:4], []).append(one)
    keys = {board.key: (board.track, board.target, board.suite, board.digest) for board in boards}
    return {key: found[place] for key, place in keys.items() if place in found}


def _citation(registry: Registry) -> str:
    found = numbers_of(registry)
    return citation.bibtex(found, None)


def numbers_of(registry: Registry) -> citation.Numbers | None:
    """Which results the page shows, as ``citation.numbers`` says it of a selection of everything; None of none."""
    rows = registry.sql(_NUMBERS.format(counting=counting())).fetchall()
    ids, suites, digests, versions, first, last = rows[0]
    if not ids:
        return None
    several = tuple(tuple(one.values()) for one in digests)
    return citation.Numbers(tuple(ids), tuple(suites), several, tuple(versions), first.date(), last.date())


def _card_lines(registry: Registry, counts: tuple[int, int]) -> list[str]:
    newest = registry.sql("SELECT max(started) FROM results").fetchall()[0][0]
    date = f", the newest of {newest:%Y-%m-%d}" if newest else ""
    return [
        "What each way of quantizing a neural network costs, in bits: one page that works without a network.",
        "",
        f"{counts[1]:,} results, reruns among them{date}.",
        "",
        f"- `{INDEX}`: the page.",
        f"- `{PARQUET}`: every result with raw samples and environments; `qbench merge {PARQUET}` takes it over.",
        f"- `{CSV}`: the attempt that counts at each cell, a line each.",
        "",
        MADE_BY,
    ]
