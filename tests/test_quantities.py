"""Durations and sizes, read and written."""

import pytest

from qbench.errors import ParameterError
from qbench.quantities import byte_count, duration_text, seconds, size_text

DURATIONS = [
    *(("90", 90), ("90s", 90), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("1 h 30 m", 5400)),
    *(("2d", 172800), ("0.5h", 1800), (2.5, 2.5), (3, 3)),
]
WORDS = [
    *((0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s")),
    *((3599, "59 min 59 s"), (3600, "1 h 0 min"), (86_400, "24 h 0 min"), (200_000, "2 d 7 h")),
]


@pytest.mark.parametrize(("text", "value"), DURATIONS)
def test_durations(text: str | float, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "soon", "-3", "0", "1h30", "m", "10 parsecs", "1e3", "nan", float("inf"), True]
)
def test_what_is_no_duration(text: str | float) -> None:
    with pytest.raises(ParameterError, match="limit="):
        seconds(text, "limit")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4GiB", 2**32),
        ("4 gib", 2**32),
        ("500MB", 500_000_000),
        ("1.5kb", 1500),
        ("7", 7),
        ("7B", 7),
        (12, 12),
    ],
)
def test_sizes(text: str | int, value: int) -> None:
    assert byte_count(text) == value


@pytest.mark.parametrize("text", ["", "lots", "4G", "-1MB", "0", 0, -5, "0.1B", True])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(ParameterError, match="memory="):
        byte_count(text, "memory")


@pytest.mark.parametrize(("value", "text"), WORDS)
def test_durations_in_words(value: float, text: str) -> None:
    assert duration_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2**40, "1.1 TB")]
)
def test_sizes_in_words(value: int, text: str) -> None:
    assert size_text(value) == text
