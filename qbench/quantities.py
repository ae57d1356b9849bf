"""Durations and sizes as people write and read them."""

import math
import re

from .errors import ParameterError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1}
_BYTES |= {prefix + "B": 1000**power for power, prefix in enumerate(("k", "M", "G", "T"), 1)}
_BYTES |= {prefix + "iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)}
_FOLDED = {unit.lower(): factor for unit, factor in _BYTES.items()}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:min|[smhd]))+", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)


def seconds(value: str | float, name: str = "duration") -> float:
    """A positive duration in seconds from ``90``, ``"90s"``, ``"10m"``, ``"1h30m"`` or ``"2d"``.

    >>> seconds("1h30m")
    5400.0

    Raises:
        ParameterError: not of that form, or not positive.
    """
    found = _seconds(value)
    if not 0 < found < math.inf:
        raise ParameterError(f"{name}={value!r} is not a positive duration; write 90s, 10m, 1h30m or seconds")
    return found


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).replace(" ", "").lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return math.nan
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([a-z]+)", text))


def byte_count(value: str | int, name: str = "size") -> int:
    """A positive number of bytes from ``4294967296``, ``"4GiB"`` or ``"500 MB"``.

    >>> byte_count("1.5KiB")
    1536

    Raises:
        ParameterError: not of that form, or not positive.
    """
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip().lower())
    factor = _FOLDED.get(match[2]) if match else None
    found = int(float(match[1]) * factor) if match and factor else 0
    if found < 1:
        raise ParameterError(f"{name}={value!r} is not a positive size; write 4GiB, 500MB or bytes")
    return found


def duration_text(value: float) -> str:
    """Two units at most.

    >>> duration_text(75), duration_text(4000), duration_text(0.31)
    ('1 min 15 s', '1 h 7 min', '0.3 s')
    """
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(value / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def size_text(value: float) -> str:
    """Powers of 1000.

    >>> size_text(30_877_000), size_text(512)
    ('30.9 MB', '512 B')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= 0.99995 * factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f} B"
