"""Words for people: short labels of methods, by what tells those of one name apart, and gains as shares of bits."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..schema import Spec
from .boards import Kind, headline_of
from .grouping import Integers, combined, texts_of
from .methods import Labels, core, settings_spoken
from .standings import saved_percent

Pairs = Sequence[tuple[Spec | None, Kind]]


def labels_of(pairs: Pairs, board: Integers, pair: Integers) -> pd.Categorical:
    """The label of each row.

    Args:
        pairs: distinct quantizers with what their budgets say.
        board, pair: numbers of each row; settings of the budget are named where they differ on the board.
    """
    _, first, number = np.unique(combined(board, pair), return_index=True, return_inverse=True)
    places = list(zip(board[first].tolist(), pair[first].tolist(), strict=True))
    differing = _differing(pairs, places)
    codes = Labels([core(spec) for spec, _ in pairs if spec])
    weights = Labels([Spec.parse(kind.in_row["weights"]) for _, kind in pairs if kind.in_row.get("weights")])
    texts = [_label(pairs[one], differing[at], codes, weights) for at, one in places]
    return texts_of(texts, number)


def _differing(pairs: Pairs, places: Sequence[tuple[int, int]]) -> Mapping[int, set[str]]:
    """Of each board the settings of the budget in which its rows differ."""
    values: dict[tuple[int, str], set[str]] = defaultdict(set)
    for board, pair in places:
        for name, value in pairs[pair][1].in_row.items():
            values[board, name].add(repr(value))
    found: dict[int, set[str]] = defaultdict(set)
    for (board, name), several in values.items():
        found[board] |= {name} if len(several) > 1 else set()
    return found


def _label(pair: tuple[Spec | None, Kind], differing: set[str], codes: Labels, weights: Labels) -> str:
    spec, kind = pair
    chosen = headline_of(kind.track, kind.target)
    named = {*differing, *(chosen.always if chosen else ())}
    words = settings_spoken({n: v for n, v in kind.in_row.items() if n in named}, weights)
    return codes(core(spec), *words) if spec else "uncompressed"


def saving_spoken(gain: float) -> str:
    """A gain in words, see :func:`~qbench.leaderboard.standings.saved_percent`.

    >>> saving_spoken(1.0), saving_spoken(-1.0), saving_spoken(0.001)
    ('50 % fewer bits', '100 % more bits', 'as many bits')
    """
    whole = _whole(gain)
    return f"{abs(whole)} % {'more' if whole < 0 else 'fewer'} bits" if whole else "as many bits"


def interval_spoken(low: float, high: float) -> str:
    """The ends of an interval of gains in words.

    >>> interval_spoken(0.5, 1.0), interval_spoken(-0.5, 1.0)
    ('29 to 50 % fewer', '41 % more to 50 % fewer')
    >>> interval_spoken(-1.0, -0.5), interval_spoken(0.5, 0.5)
    ('100 to 41 % more', '29 % fewer')
    """
    first, last = _whole(low), _whole(high)
    if first < 0 < last:
        return f"{-first} % more to {last} % fewer"
    ends = f"{abs(first)} to {abs(last)}" if first != last else f"{abs(first)}"
    return f"{ends} % {'more' if first < 0 else 'fewer'}"


def _whole(gain: float) -> int:
    return round(saved_percent(gain))
