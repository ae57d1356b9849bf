"""The page as one HTML text: words, the table of the first board, the places of the charts, the data, the scripts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import bundle
from .charts.chart import Chart
from .drawing import best_words, escape, head, table_rows
from .points import Board
from .standings import Standing
from .wording import figure_spoken, noun_of_units, units_spoken

if TYPE_CHECKING:
    import pandas as pd

TITLE = "qbench leaderboard"
TABS = {
    "sources": "sources",
    "weights": "weights",
    "activations": "weights + activations",
    "training": "training",
    "gradients": "gradients",
}
FIRST = "signature"
WIDE = (
    "pareto",
    "sources",
    "beta",
    "sensitivity",
    "gradient-density",
    "gradient-memory",
    "gradient-increments",
    "gradient-codes",
)
RULES = (
    "Bits are counted from the bytes that are stored or sent, never from what a method claims.",
    "Everything a decoder needs counts: codes, scales, codebooks, seeds, and parameters that stay in float.",
    "A codebook learned from the very data it is scored on travels with the message and is paid in full.",
    "Only what a fresh decoder makes of the bytes alone is scored.",
    "Methods of fixed length and methods with an entropy coder are ranked apart.",
    "The headline is bits saved: the share of its bits that the frozen uniform anchor could do without at the same "
    "quality, from the mean log ratio over a method's points and then over models and data sets.",
    "Nothing is extrapolated: a point beyond the anchor's range is marked as such and kept out of the mean.",
    "Intervals resample data sets, models and seeds, and below eight units a ranking is provisional and has no ties.",
    "Methods whose difference from the best may be chance, after Holm's adjustment of a paired sign-flip test, share "
    "the bar of the best.",
    "Results of different suites, digests, tracks, targets or settings never meet in one table, and a result that "
    "beats a proven limit counts as impossible and is not ranked.",
)


@dataclass(frozen=True)
class Content:
    """What the page says: ``first`` are the standings of the first board, ``best`` those at 2, 4 and 8 bits."""

    boards: Sequence[Board]
    points: "pd.DataFrame"
    charts: Sequence[Chart]
    first: Sequence[Standing]
    best: Mapping[str, Sequence[Standing]]
    payload: str
    verdicts: Sequence[Mapping[str, str]]
    cite: str
    sizes: Sequence[tuple[str, str]]


def page(content: Content) -> str:
    """The whole document. Whatever comes from a result is escaped."""
    style, scripts = bundle.asset("page.css"), (bundle.libraries(), bundle.script())
    board = content.boards[0] if content.boards else None
    opening = [chart for chart in content.charts if chart.id == FIRST]
    rest = [chart for chart in content.charts if chart.id != FIRST]
    values = {
        "policy": bundle.policy(scripts, (style,)),
        "title": TITLE,
        "description": "What each way of quantizing a neural network costs, in bits: measured, ranked, reproducible.",
        "style": style,
        "facts": escape(_facts(content, board)),
        "opening": "\n".join(map(_figure, opening)),
        "best": best_words(content.boards, content.best, content.points),
        "tabs": _tabs(content.boards),
        "board": _board(board, content),
        "head": head(),
        "rows": table_rows(content.points, content.first),
        "note": "" if board else "Nothing is measured yet: run <code>qbench run --suite standard</code>.",
        "charts": "\n".join(map(_figure, rest)),
        "verdicts": _verdicts(content.verdicts),
        "rules": _rules(),
        "cite": f"<pre><code>{escape(content.cite)}</code></pre>",
        "downloads": _downloads(content),
        "payload": content.payload,
        "libraries": scripts[0],
        "script": scripts[1],
    }
    return bundle.filled(bundle.asset("page.html"), values)


def _facts(content: Content, board: Board | None) -> str:
    """Of the board that is shown: suite and digest, date of the newest result, devices, number of results."""
    if board is None:
        return "no results yet"
    several = "result" if board.results == 1 else "results"
    parts = (
        f"{board.suite} {board.digest[:8]}",
        board.newest[:10],
        ", ".join(sorted(set(content.points["device"]))),
        f"{board.results:,} {several} on this board",
    )
    return " · ".join(filter(None, parts))


def _figure(chart: Chart) -> str:
    words = escape(chart.alt)
    wide = ' class="wide"' if chart.id in WIDE else ""
    return (
        f'<figure id="chart-{escape(chart.id)}" data-chart="{escape(chart.id)}"{wide}>'
        f"<figcaption><h2>{escape(chart.title)}</h2><p>{escape(chart.caption)}</p></figcaption>"
        f'<div class="plot" role="img" aria-label="{words}"></div>'
        f'<details class="alt"><summary>In words</summary><p>{words}</p></details></figure>'
    )


def _tabs(boards: Sequence[Board]) -> str:
    links = []
    for tab, text in TABS.items():
        own = [board for board in boards if board.tab == tab]
        first = next((board for board in own if board.anchored), own[0] if own else None)
        current = ' aria-current="true"' if boards and boards[0].tab == tab else ""
        place = (
            f' href="#board={escape(first.key)}"'
            if first
            else ' aria-disabled="true" title="no results here yet"'
        )
        links.append(f"<a{place}{current}>{text}</a>")
    return "".join(links)


def _board(board: Board | None, content: Content) -> str:
    if board is None:
        return ""
    setting = f", {escape(board.setting)}" if board.setting else ""
    what = "by bits saved at equal" if board.anchored else "unranked for want of an anchor, by"
    words = f"<b>{escape(board.title)}</b>{setting}: {what} {escape(board.quality_label)}"
    return f"{words}{_units(content, board) if content.first else ''}."


def _units(content: Content, board: Board) -> str:
    """The units that count, of those of the rate class that is shown; all where nothing is ranked."""
    own = content.points[content.points["rate_class"] == content.first[0].rate_class]
    total = own["unit"].nunique()
    return units_spoken(content.first[0].units if board.anchored else total, total, noun_of_units(own))


def _verdicts(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of what was claimed of gradients and lattices before the runs, and what they say of it."""
    if not rows:
        return ""
    heads = ("claim", "verdict", "cells", "deciding figure, median", "suite")
    head = "".join(
        f'<th scope="col" class="v-{text.split()[0].strip(",")}{" number" if text == "cells" else ""}">{text}</th>'
        for text in heads
    )
    return (
        '<section class="verdicts" id="verdicts" tabindex="-1">'
        "<h2>Claims stated before the run, and their verdicts</h2>"
        "<p>A claim holds where at least four in five of the cells support it, in nearly every architecture and "
        f"optimizer, fails where as many contradict it, and depends otherwise. {_outcomes(rows)}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_verdict, rows))}</tbody></table></section>"
    )


def _outcomes(rows: Sequence[Mapping[str, str]]) -> str:
    counts = Counter(row["verdict"] for row in rows)
    words = (
        f"{count} {escape(name if count == 1 else name.removesuffix('s'))}"
        for name, count in counts.most_common()
    )
    return f"Of {len(rows)}: {', '.join(words)}."


def _verdict(row: Mapping[str, str]) -> str:
    """Its colour repeats the word; the name of the figure stands in a title."""
    outcome = row["verdict"] if row["verdict"] in ("holds", "fails", "depends") else "other"
    deciding = f'title="{escape(row["deciding"])}">{escape(figure_spoken(row["deciding"]))}'
    return (
        f'<tr><th scope="row" class="v-claim">{escape(row["claim"])}<small class="narrow" {deciding}</small></th>'
        f'<td class="v-verdict v-{outcome}">{escape(row["verdict"])}</td>'
        f'<td class="v-cells number">{escape(row["cells"])}</td>'
        f'<td class="v-deciding" {deciding}</td><td class="v-suite">{escape(row["suite"])}</td></tr>'
    )


def _rules() -> str:
    return f"<ol>{''.join(f'<li>{escape(rule)}</li>' for rule in RULES)}</ol>"


def _downloads(content: Content) -> str:
    words = {
        "results.csv": "the attempt that counts at every cell, a line each, for a spreadsheet or a data frame",
        "results.parquet": "every result with raw samples, environments and runs; "
        "<code>qbench merge results.parquet</code> takes it over into a registry",
    }
    items = (
        f'<li><a href="{name}" download>{name}</a>: {words[name]} ({size})</li>'
        for name, size in content.sizes
    )
    return f"<ul>{''.join(items)}</ul>"
