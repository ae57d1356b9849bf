"""Words for people: labels of methods by what tells those of one name apart, gains, units and figures."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..schema import Spec
from .boards import Board, Kind, headline_of
from .grouping import Integers, combined, texts_of
from .methods import Labels, core, settings_spoken
from .standings import saved_percent

Pairs = Sequence[tuple[Spec | None, Kind]]

# What decides a claim, in words: where its number stands, and what that is multiplied by.
_FIGURES = {
    "zero_share": ("{} % of the coordinates are exactly 0", 100),
    "ks_gaussian": ("{} from a Gaussian (KS distance)", 1),
    "excess_kurtosis": ("excess kurtosis {}; a Gaussian has 0", 1),
    "shape": ("shape {}; a Gaussian has 2", 1),
    "normalized_ks_gaussian": ("{} from a Gaussian once normalized (KS distance)", 1),
    "normalized_excess_kurtosis": ("excess kurtosis {} once normalized; a Gaussian has 0", 1),
    "normalized_shape": ("shape {} once normalized; a Gaussian has 2", 1),
    "variance_spread_db": ("row variances spread by {} dB", 1),
    "top4_energy_ratio": ("4 directions hold {} times the energy expected", 1),
    "decorrelation_gain_db": ("decorrelating gains {} dB", 1),
    "median_magnitude": ("median |g| is {} sigma; a Gaussian has 0.674", 1),
    "tail_share": ("{} % lie beyond 3 sigma; a Gaussian has 0.27 %", 100),
    "coding_gap_db_2": ("{} dB worse than predicted, at 2 bits", 1),
    "coding_gap_db_4": ("{} dB worse than predicted, at 4 bits", 1),
    "adapting_gain_db_2": ("adapting gains {} dB, at 2 bits", 1),
    "adapting_gain_db_4": ("adapting gains {} dB, at 4 bits", 1),
    "lipschitz_kept": ("{} % of later steps keep to the first half's bound", 100),
    "drift_kept": ("{} % of the steps change it by a tenth at most", 100),
    "gain_last_db": ("the last gradient predicts {} dB", 1),
    "gain_average_db": ("the average of the last predicts {} dB", 1),
    "share_within_one": ("{} % of the weights lie in [-1, 1]", 100),
    "int8_loss": ("{} percentage points of accuracy lost", 1),
    "sign_cosine": ("cosine {} between weights and their signs", 1),
    "sign_correlation": ("correlation {} between their dot products", 1),
    "minima": ("{} more minima than n = 1", 1),
}


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


def board_spoken(board: Board, boards: Sequence[Board]) -> str:
    """What tells a board from the others of its tab, its title alone where there are none; twin of ``boardText``."""
    own = [one for one in boards if one.tab == board.tab]
    if len(own) == 1:
        return board.title
    alike = [one for one in boards if one.title == board.title]
    title = re.sub(r" \([^()]*\)$", "", board.title)
    text = f"{title}, {board.setting}" if len(alike) > 1 and board.setting else title
    same = [one for one in alike if one.setting == board.setting]
    return f"{text}, {board.suite} {board.digest[:8]}" if len(same) > 1 else text


def units_spoken(counted: int, total: int, noun: str) -> str:
    """How many units a ranking is over, of those that were measured; ``noun`` says what units are.

    >>> units_spoken(8, 8, "data sets")
    ', over 8 units (data sets)'
    >>> units_spoken(1, 1, "data sets")
    ', over 1 unit (data set)'
    >>> units_spoken(3, 8, "data sets")
    '. 3 of 8 units (data sets) count: those that at least half of the methods have'
    """
    if counted == total:
        return f", over {total} units ({noun})" if total != 1 else f", over 1 unit ({noun.removesuffix('s')})"
    return f". {counted} of {total} units ({noun}) count: those that at least half of the methods have"


def noun_of_units(points: pd.DataFrame) -> str:
    """What the units of these points are."""
    if not len(points) or not (points["model"].astype(str) != "").any():
        return "data sets"
    pairs = points[["model", "dataset"]].drop_duplicates()
    return "model and data set pairs" if points["unit"].nunique() == len(pairs) else "trained networks"


def figure_spoken(deciding: str) -> str:
    """A figure that decides a claim, ``name number``, in words with its unit; others stay as they are.

    >>> figure_spoken("zero_share 0.112"), figure_spoken("weights.int8_loss 0"), figure_spoken("gap_db 2")
    ('11.2 % of the coordinates are exactly 0', '0 percentage points of accuracy lost', 'gap_db 2')
    """
    name, _, value = deciding.rpartition(" ")
    words, factor = _FIGURES.get(name.rpartition(".")[2], ("", 1))
    try:
        return words.format(f"{factor * float(value):.3g}".replace("-", "\u2212")) if words else deciding
    except ValueError:
        return deciding


def _whole(gain: float) -> int:
    return round(saved_percent(gain))
