"""Ctrl-C during a run: the first ends it in order, the second is told to wait, the third ends it at once."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def orderly() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first and third Ctrl-C: what was finished is written between."""
    pressed = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed != 2:
            raise KeyboardInterrupt
        sys.stderr.write("\nqbench: writing what was finished; once more to stop at once\n")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
