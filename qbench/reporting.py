"""What a long run says where no progress bar can be drawn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO, TypeAlias, final

from .quantities import duration_text, size_text

WIDTH = 100


@dataclass(frozen=True)
class Progress:
    """Where a run stands. ``left`` is an estimate in seconds, None before anything is known."""

    done: int
    total: int
    what: str
    left: float | None = None
    unit: Literal["cells", "bytes"] = "cells"


Report: TypeAlias = Callable[[Progress], None]


def counts(progress: Progress) -> str:
    """``done/total``, in cells or as sizes."""
    done, total = (
        size_text(n) if progress.unit == "bytes" else str(n) for n in (progress.done, progress.total)
    )
    return f"{done}/{total}"


def cut(text: str, width: int) -> str:
    """At most ``width`` characters; three dots stand for what is left out."""
    return text if len(text) <= width else text[: width - 3] + "..."


@final
class Lines:
    """A report that writes a line at the start, at the end, and every few seconds between."""

    def __init__(self, stream: TextIO, every: float = 5.0) -> None:
        self.stream, self.every = stream, every
        self._last: float | None = None
        self._seen: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        ended = progress.done >= progress.total
        soon = self._last is not None and now - self._last < self.every
        if not progress.total or progress == self._seen or (soon and not ended):
            return
        self._last, self._seen = now, progress
        left = f", about {duration_text(progress.left)} left" if progress.left and not ended else ""
        self.stream.write(cut(f"{counts(progress)}{left}: {progress.what}", WIDTH) + "\n")
        self.stream.flush()
