"""Numbers and names as charts write them."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from ..standings import saved_percent

Row = dict[str, Any]
LONGEST = 80


def plain(text: object, longest: int = LONGEST) -> str:
    """A name from a result as one short line: no controls, no direction marks, no line ends.

    >>> plain("a\\u2028b\\u202ec" + "d" * 100, 8)
    'a bcddd…'
    """
    kept = []
    for char in str(text)[: 8 * longest]:
        category = unicodedata.category(char)
        if category[0] == "Z" or char in "\t\n\r":
            kept.append(" ")
        elif category[0] != "C":
            kept.append(char)
    line = " ".join("".join(kept).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def number(value: float, digits: int = 2) -> str:
    """So many decimals, no minus before a zero.

    >>> number(-0.001), number(1.5329, 2)
    ('0.00', '1.53')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def percent(gain: float) -> str:
    """The share of bits that a gain saves, see :func:`~qbench.leaderboard.standings.saved_percent`.

    >>> percent(1.0), percent(-0.001)
    ('50 %', '0 %')
    """
    return f"{number(saved_percent(gain), 0)} %"


def several(words: Sequence[str]) -> str:
    """
    >>> several(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))


def count(n: int, what: str) -> str:
    """
    >>> count(1, "quantizer"), count(1200, "result")
    ('1 quantizer', '1,200 results')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def rounded(rows: Iterable[Row], digits: int = 4) -> list[Row]:
    """Numbers to so many significant digits, as JSON can say them: what is not finite is null."""
    return [{key: _rounded(value, digits) for key, value in row.items()} for row in rows]


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, int):
        return value
    value = float(value)
    if not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def shown_by(result_id: object) -> str:
    """The command that shows a result."""
    return f"qbench show {plain(result_id, 16)}" if result_id else ""
