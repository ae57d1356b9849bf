"""The boards of what was read, in the order of the page."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from .boards import Board, Quality, order, setting_words, tab_of, title_of
from .placing import OnBoards, Rows


def boards_of(places: OnBoards, rows: Rows, anchored: NDArray[np.bool_]) -> list[Board]:
    """Every board that has something to show.

    Args:
        anchored: of each board, whether there is an anchor curve.
    """
    words = setting_words(
        [
            ((run.suite, run.digest, run.track, kind.target), kind.setting)
            for run, kind in zip(places.run, places.kind, strict=True)
        ]
    )
    failed = np.bincount(places.number[~rows.ok], minlength=len(places.keys))
    found = [
        _board(places, rows, number, quality, words[number], bool(anchored[number]), int(failed[number]))
        for number, quality in enumerate(places.qualities)
        if quality and bool((places.shown & (places.number == number)).any())
    ]
    return sorted(_with_defaults(found), key=order)


def _board(
    places: OnBoards, rows: Rows, number: int, quality: Quality, setting: str, anchored: bool, failed: int
) -> Board:
    run, target = places.run[number], places.kind[number].target
    started = rows.column("started")[places.shown & (places.number == number)]
    return Board(
        key=places.keys[number],
        tab=tab_of(run.track, target),
        track=run.track,
        target=target,
        suite=run.suite,
        digest=run.digest,
        title=title_of(run.track, target),
        setting=setting,
        quality=quality.name,
        quality_label=quality.label,
        better=quality.better,
        anchored=anchored,
        results=len(started),
        newest=datetime.fromtimestamp(int(started.max()) / 1e6, UTC).date().isoformat(),
        failed=failed,
    )


def _with_defaults(boards: Sequence[Board]) -> list[Board]:
    """Of each track and target the board with most results, the newest where several have as many, is the default."""
    best: dict[tuple[str, str], Board] = {}
    for board in boards:
        now = best.get((board.track, board.target))
        if now is None or (board.results, board.newest, board.key) > (now.results, now.newest, now.key):
            best[board.track, board.target] = board
    return [replace(board, default=best[board.track, board.target] is board) for board in boards]
