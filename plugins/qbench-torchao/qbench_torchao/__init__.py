"""Networks that torchao runs in few bits: the track ``native`` and its suites."""

from collections.abc import Iterable
from pathlib import Path

import qbench

from .track import Native

_SUITES = Path(__file__).parent / "suites"


@qbench.hookimpl
def qbench_tracks() -> list[type[qbench.Track]]:
    return [Native]


@qbench.hookimpl
def qbench_suites() -> Iterable[Path]:
    return sorted(_SUITES.glob("*.toml"))
