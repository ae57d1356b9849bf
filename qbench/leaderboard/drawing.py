"""The table as it is before any script runs; ``table.js`` draws the same again of every selection."""

import html
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from .points import Board
from .standings import Standing
from .wording import board_spoken

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 25
LONGEST = 120
OWN = "qbench-suite"
COLUMNS = {
    "rank": ("rank", ""),
    "name": ("quantizer", ""),
    "saved": ("bits saved", ""),
    "rate": ("true bits", "number"),
    "quality": ("quality", "number"),
    "spark": ("over bits", ""),
    "coverage": ("coverage", "number"),
    "n": ("n", "number"),
    "trust": ("trust", ""),
}
SHAPES = {
    "scalar": "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9Z",
    "vector": "M2 2h8v8h-8Z",
    "lattice": "M6 .5L11.5 6L6 11.5L.5 6Z",
    "stochastic": "M6 1L11.5 10.5H.5Z",
    "optimized": "M.5 1.5h11L6 11Z",
    "float": "M4.2 1h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2Z",
    "binary": "M1.5 .5v11L11 6Z",
    "other": "M10.5 .5v11L1 6Z",
}


def escape(text: object) -> str:
    """Text for an element or an attribute; what no page can hold (lone surrogates, NUL) is replaced."""
    plain = str(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return html.escape(plain)


def name(text: object, longest: int = LONGEST) -> str:
    """A name from a result: escaped, shortened, and its direction kept to itself."""
    text = str(text)
    return f"<bdi>{escape(text if len(text) <= longest else text[:longest] + '…')}</bdi>"


def fixed(value: float | None, digits: int = 2) -> str:
    """
    >>> fixed(-0.254), fixed(-0.001), fixed(None)
    ('−0.25', '0.00', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


def saved(gain: float | None) -> str:
    """The share of the anchor's bits that is saved: 1 - 2^-gain.

    >>> saved(1.0), saved(-0.585), saved(0.0)
    ('50 %', '−50 %', '0 %')
    """
    if gain is None or not math.isfinite(gain):
        return "–"
    share = math.floor(100 * (1 - 2**-gain) + 0.5)
    return f"{'−' if share < 0 else ''}{abs(share):,} %"


def percent(share: float | None) -> str:
    """Halves up, as JavaScript rounds; what summing in another order changes is rounded away before.

    >>> percent(0.985), percent(0.985 - 1e-15), percent(0.995), percent(None)
    ('99 %', '99 %', '100 %', '–')
    """
    if share is None or not math.isfinite(share):
        return "–"
    return f"{math.floor(math.floor(1e8 * share + 0.5) / 1e6 + 0.5)} %"


def figure(value: float | None) -> str:
    """
    >>> figure(123.456), figure(0.01234), figure(1.2e-5)
    ('123.5', '0.0123', '1.20e−5')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size and (size < 0.001 or size >= 1e6):
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{digits}e{int(power):+d}".replace("-", "−").replace("e+", "e+")
    return fixed(value, 1 if size >= 100 else 2 if size >= 1 else 4)


def span(low: float | None, high: float | None) -> str:
    """
    >>> span(2, 4.05), span(2, 2.001)
    ('2.00–4.05', '2.00')
    """
    first, last = fixed(low), fixed(high)
    return first if first == last else f"{first}–{last}"


def family_mark(family: str) -> str:
    """The shape and colour of a family."""
    known = family if family in SHAPES else "other"
    return (
        f'<svg width="12" height="12" viewBox="0 0 12 12" class="f-{known}" role="img" aria-label="{known}">'
        f'<path d="{SHAPES[known]}"/></svg>'
    )


def head() -> str:
    """The row of column heads, each a button that sorts."""
    cells = (
        f'<th scope="col" class="c-{key} {kind}" data-column="{key}" '
        f'aria-sort="{"ascending" if key == "rank" else "none"}"><button type="button">{text}</button></th>'
        for key, (text, kind) in COLUMNS.items()
    )
    return f"<tr>{''.join(cells)}</tr>"


def table_rows(points: "pd.DataFrame", standings: Sequence[Standing]) -> str:
    """The first rows of the table; ``points`` are those of its board."""
    quantizers = dict(zip(points["method"], points["quantizer"], strict=True)) if len(points) else {}
    shown = standings[:SHOWN]
    domain = _domain([one.gain for one in shown])
    return "\n".join(_row(one, str(quantizers.get(one.method, "")), domain) for one in shown)


def _row(one: Standing, quantizer: str, domain: tuple[float, float]) -> str:
    rest = one.label.removeprefix(quantizer).strip()
    badge = f'<span class="badge">{name(one.plugin, 40)}</span>' if one.plugin not in ("", OWN) else ""
    small = f"<small>{name(rest)}</small>" if rest else ""
    trust = f"reproduced ×{one.reproduced}" if one.reproduced else "self-reported"
    cells = [
        f'<td class="rank c-rank">{one.rank if one.rank is not None else "–"}</td>',
        f'<th scope="row" class="name">{family_mark(one.family)}'
        f'<button type="button">{name(quantizer or one.label)}</button> {small}{badge}</th>',
        f'<td class="saved c-saved">{_saved(one, domain)}</td>',
        f'<td class="number c-rate">{span(one.bits_low, one.bits_high)}</td>',
        f'<td class="number c-quality">{figure(one.quality)}</td>',
        '<td class="spark c-spark"></td>',
        f'<td class="number c-coverage">{percent(one.coverage)}</td>',
        f'<td class="number c-n">{one.n}</td>',
        f'<td class="c-trust">{trust}</td>',
    ]
    return f'<tr class="row{" tied" if one.tied else ""}">{"".join(cells)}</tr>'


def _saved(one: Standing, domain: tuple[float, float]) -> str:
    if not one.n or not _finite(one.gain):
        return f'<span class="words">{escape(one.why_unranked or "not measured against the anchor")}</span>'
    return f'<span class="figure">{saved(one.gain)}</span>{_whisker(one, domain)}'


def _whisker(one: Standing, domain: tuple[float, float]) -> str:
    def x(value: float) -> float:
        low, high = domain
        return round(3 + 114 * min(1.0, max(0.0, (value - low) / (high - low))), 1)

    words, line = "no interval", ""
    if _finite(one.low):
        words = f"95 % interval {saved(one.low)} to {saved(one.high)}"
        line = f'<path class="whisker" d="M{x(one.low)} 10H{x(one.high)}"/>'
    family = one.family if one.family in SHAPES else "other"
    return (
        f'<svg class="f-{family}" width="120" height="20" viewBox="0 0 120 20" role="img" aria-label="{words}">'
        f'<path class="axis" d="M{x(0)} 1V19"/>{line}<circle class="dot" cx="{x(one.gain)}" cy="10" r="3.5"/></svg>'
    )


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """Zero and all but the lowest tenth of the values, with a margin; that ends at its edge."""
    numbers = sorted(value for value in values if _finite(value))
    if not numbers:
        return -1.0, 1.0
    last = len(numbers) - 1
    low, high = min(0.0, numbers[round(0.1 * last)]), max(0.0, numbers[last])
    margin = 0.08 * max(high - low, 0.1)
    return low - margin, high + margin


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def best_words(
    boards: Sequence[Board], best: Mapping[str, Sequence[Standing]], points: "pd.DataFrame"
) -> str:
    """Who is best at each width on the first board, in words; ``best.js`` says the same of every selection.

    Args:
        points: of the first board.
    """
    board = boards[0] if boards else None
    title = escape(board_spoken(board, boards)) if board else "anything measured"
    anchors = set(points.loc[points["anchor"].astype(bool), "method"]) if len(points) else set()
    rows = "".join(
        f"<div><dt>at {bits} bits</dt>{_best(rows, board, anchors)}</div>" for bits, rows in best.items()
    )
    return f"<h2>Best for {title}</h2><dl>{rows}</dl><p>{_what_saved_means(board)}</p>"


def _what_saved_means(board: Board | None) -> str:
    if board is None or board.anchored:
        return "Than plain uniform rounding, the anchor, needs for the same quality."
    return f"No anchor was measured here; shown is {escape(board.quality_label)}."


def _best(rows: Sequence[Standing], board: Board | None, anchors: Collection[str]) -> str:
    usable = [one for one in rows if one.n] or list(rows)
    first = next((one for one in usable if one.rank == 1), usable[0] if usable else None)
    if first is None or board is None:
        return '<dd class="big">–</dd><dd class="fine">nothing measured here</dd>'
    who = f'<dd class="who">{family_mark(first.family)} {name(first.label, 80)}</dd>'
    if not _finite(first.gain):
        big, fine = figure(first.quality), [escape(board.quality_label)]
    else:
        big, fine = _saving(first, usable, anchor=first.method in anchors)
    return f'<dd class="big">{big}</dd>{who}<dd class="fine quiet">{", ".join(filter(None, fine))}</dd>'


def _saving(first: Standing, rows: Sequence[Standing], *, anchor: bool) -> tuple[str, list[str]]:
    """What the first of these rows saves, and what is to be known of it."""
    counted = [f"n = {first.n}", "provisional" if first.provisional else ""]
    if first.gain <= 0 and anchor:
        others = sum(one.rank is not None for one in rows) - 1
        if not others:
            return "only the anchor is ranked", counted
        return "nothing beats the anchor", [
            f"of {others:,} other ranked method{'' if others == 1 else 's'}",
            *counted,
        ]
    tied = sum(bool(one.tied) for one in rows) - 1
    interval = f"{saved(first.low)} to {saved(first.high)}" if _finite(first.low) else ""
    return _fewer(first.gain), [interval, *counted, f"tied with {tied} more" if tied > 0 else ""]


def _fewer(gain: float) -> str:
    """
    >>> _fewer(1.0), _fewer(-1.0), _fewer(0.001)
    ('50 % fewer bits', '100 % more bits', 'as many bits')
    """
    share = saved(gain)
    if share == "0 %":
        return "as many bits"
    return f"{share[1:]} more bits" if share.startswith("−") else f"{share} fewer bits"
