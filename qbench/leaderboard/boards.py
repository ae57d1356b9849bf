"""Boards: what is ranked together. Never two digests, tracks, targets or settings."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..headlines import Headline, headline
from ..schema import canonical_json, digest
from ..settings import differences, written

TABS = ("sources", "weights", "activations", "training", "gradients")

# What of a budget makes the network that is quantized, or is measured besides: no setting of a board.
OF_UNIT = ("training", "finetune", "calibration")
BESIDES = ("transfer",)

_TARGET_TABS = {
    "source": "sources",
    "weight": "weights",
    "activation": "activations",
    "gradient": "gradients",
}
_TRACK_TABS = {"qat": "training", "saved-activations": "training"}
_TITLES = {
    ("rate-distortion", "source"): "iid sources",
    ("lattice-scaling", "source"): "iid sources, nested lattices at their best scale",
    ("lattice-scaling", "gradient"): "gradients, nested lattices at their best scale",
    ("ptq", "weight"): "weights after training",
    ("ptq", "activation"): "weights and activations after training",
    ("rate-distortion", "weight"): "weights as a source",
    ("rate-distortion", "activation"): "activations as a source",
    ("rate-distortion", "gradient"): "gradients as a source",
    ("mixed-precision", "weight"): "weights, layers of different bits",
    ("qat", "weight"): "weights while training",
    ("qat", "activation"): "weights and activations while training",
    ("saved-activations", "activation"): "activations kept for the backward pass",
    ("gradient-compression", "gradient"): "gradients sent between workers",
}
_TRACKS = ("ptq", "rate-distortion", "qat", "gradient-compression")


@dataclass(frozen=True)
class Quality:
    """A quantity that bits are saved at equal values of; ``better`` is -1 where less is better."""

    name: str
    label: str
    better: int


SQNR = Quality("sqnr_db", "SQNR (dB)", 1)
KL = Quality("kl", "KL divergence to the float model (nat)", -1)
DROP = Quality("accuracy_drop", "accuracy lost (percentage points)", -1)
_QUALITIES = {
    **dict.fromkeys(("rate-distortion", "lattice-scaling"), SQNR),
    **dict.fromkeys(("ptq", "qat", "mixed-precision"), KL),
    **dict.fromkeys(("gradient-compression", "saved-activations"), DROP),
}


@dataclass(frozen=True)
class Board:
    """One ranking.

    Attributes:
        key: names it for good: track, target and a hash of everything that tells it from others.
        tab: one of ``TABS``.
        setting: in words, what tells this board from its neighbours of the same suite, track and target.
        quality, quality_label, better: what bits are saved at equal values of, and whether more (+1) or less is better.
        anchored: whether there is an anchor curve; methods of other boards have no rank, sorted by quality.
        default: whether it is the one of its track and target to show first: most results, newest where equal.
        results, failed: attempts that count, by how they ended (``impossible`` has failed).
        newest: date of the newest result, ISO.
    """

    key: str
    tab: str
    track: str
    target: str
    suite: str
    digest: str
    title: str
    setting: str
    quality: str
    quality_label: str
    better: int
    anchored: bool
    results: int
    newest: str
    default: bool = False
    failed: int = 0


@dataclass(frozen=True)
class Kind:
    """What a budget says to the leaderboard.

    Attributes:
        setting: what parts boards.
        of_unit: what parts units.
        in_row: what parts methods, by name; None for what the budget does not have.
        rate: further settings that a method has several of, at different rates.
    """

    track: str
    target: str
    setting: Mapping[str, Any]
    of_unit: Mapping[str, Any]
    in_row: Mapping[str, Any]
    rate: Mapping[str, Any]

    @classmethod
    def of(cls, track: str, target: str, budget: str) -> "Kind":
        """Of a track, a target and a budget as JSON."""
        given: dict[str, Any] = json.loads(budget or "{}")
        chosen = headline_of(track, target)
        in_row = {name: given.get(name) for name in (chosen.in_row if chosen else ()) if name != "rate"}
        rate = {"rate": given["rate"]} if chosen and "rate" in chosen.in_row and "rate" in given else {}
        of_unit = {name: given[name] for name in OF_UNIT if name in given and name not in in_row}
        known = {*in_row, *rate, *of_unit, *BESIDES}
        setting = {name: value for name, value in given.items() if name not in known}
        return cls(track, target, setting, of_unit, in_row, rate)


def headline_of(track: str, target: str) -> Headline | None:
    """The headline of a track, for the fields of its budget that rows name."""
    return headline(track, target, ())


def tab_of(track: str, target: str) -> str:
    """The tab that a board stands under."""
    return _TRACK_TABS.get(track) or _TARGET_TABS.get(target, "sources")


def quality_of(track: str, measured: Iterable[str]) -> Quality | None:
    """What bits are saved at equal values of; of tracks from elsewhere the first that was measured."""
    names = set(measured)
    known = [_QUALITIES[track]] if track in _QUALITIES else [KL, SQNR, DROP]
    return next((one for one in known if one.name in names), None)


def key_of(suite: str, board_digest: str, track: str, target: str, setting: Mapping[str, Any]) -> str:
    """Names a board for good, in ``[a-z0-9._-]``."""
    return f"{track}-{target}-{digest([suite, board_digest, track, target, canonical_json(setting)])[:8]}"


def title_of(track: str, target: str) -> str:
    """What is measured, in words, and the track."""
    return f"{_TITLES.get((track, target), target)} ({track})"


def setting_words(places: Sequence[tuple[tuple[str, str, str, str], Mapping[str, Any]]]) -> list[str]:
    """For each (suite, digest, track, target) and setting: those settings in which it differs from its neighbours."""
    neighbours: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for number, (place, _) in enumerate(places):
        neighbours[place].append(number)
    words = [""] * len(places)
    for numbers in neighbours.values():
        for number, own in zip(numbers, differences([places[n][1] for n in numbers]), strict=True):
            words[number] = ", ".join(written(own))
    return words


def order(board: Board) -> tuple[Any, ...]:
    """Sorts boards as tabs show them: within a tab by track, the default of each first."""
    track = _TRACKS.index(board.track) if board.track in _TRACKS else len(_TRACKS)
    tab = TABS.index(board.tab)
    return tab, track, board.track, board.target, not board.default, -board.results, board.key
