"""Plain lines of a long run."""

import io

import pytest

from qbench import reporting
from qbench.reporting import Lines, Progress, counts, cut


def test_lines_come_at_the_start_then_seldom_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now)
    stream = io.StringIO()
    lines = Lines(stream, every=5.0)
    for second in range(13):
        now = float(second)
        lines(Progress(second, 12, f"cell {second}", left=12.0 - second))
    lines(Progress(12, 12, "cell 12", left=0.0))
    assert stream.getvalue().splitlines() == [
        "0/12, about 12 s left: cell 0",
        "5/12, about 7.0 s left: cell 5",
        "10/12, about 2.0 s left: cell 10",
        "12/12: cell 12",
    ]


def test_nothing_to_do_is_not_reported() -> None:
    stream = io.StringIO()
    Lines(stream)(Progress(0, 0, "starting"))
    assert stream.getvalue() == ""


def test_bytes_are_written_as_sizes() -> None:
    assert counts(Progress(1_500_000, 11_600_000, "fetching mnist", unit="bytes")) == "1.5 MB/11.6 MB"


def test_long_lines_are_cut() -> None:
    assert cut("abcdefgh", 8) == "abcdefgh"
    assert cut("abcdefghi", 8) == "abcde..."
    stream = io.StringIO()
    Lines(stream)(Progress(0, 1, 200 * "x"))
    assert len(stream.getvalue()) == reporting.WIDTH + 1
