"""Numbers as they are printed: what their digits say about their error."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_PRINTED = re.compile(rf"({_NUMBER})(?:\((\d+)\))?([eE][+-]?\d+)?")
_RANGE = re.compile(rf"({_NUMBER}) to ({_NUMBER})")
_PERCENT = re.compile(rf"({_NUMBER}) ?%")
_RESOLUTION = 2.0**-40  # of sums in float64; what differs by less is equal
_TOLERATED = 4


@dataclass(frozen=True)
class Published:
    """A known value: a point, or all of [low, high].

    Attributes:
        error: its standard error, 0 where it is exact.
        rounding: unit of its last printed digit, of a range the finer one, 0 where it is not rounded.
    """

    low: float
    high: float
    error: float = 0.0
    rounding: float = 0.0

    @classmethod
    def read(cls, value: float | str, error: float = 0.0, tolerance: float | str = 0.0) -> "Published":
        """A number is exact; a text is rounded to its digits, ``8.048(3)`` has a standard error of 0.003.

        A tolerance, absolute or such as ``2 %``, counts as four standard errors. In a range, ``.1134 to .1164``,
        every value is right; its tolerance is one of the ends.

        >>> Published.read("8.048(3)")
        Published(low=8.048, high=8.048, error=0.003, rounding=0.001)

        Raises:
            ValueError: not of that form; says what is.
        """
        if isinstance(value, str) and (ends := _RANGE.fullmatch(value)):
            (low, _, one), (high, _, other) = _printed(ends[1]), _printed(ends[2])
            tolerated = _absolute(tolerance, high) / _TOLERATED
            return cls(low, high, math.hypot(error, tolerated), min(one, other))
        number, own, rounding = (value, 0.0, 0.0) if isinstance(value, float | int) else _printed(value)
        tolerated = _absolute(tolerance, number) / _TOLERATED
        return cls(float(number), float(number), math.hypot(own, error, tolerated), rounding)

    @property
    def is_point(self) -> bool:
        return self.low == self.high

    def nearest(self, measured: float) -> float:
        """The known value itself, of a range the one nearest to ``measured``."""
        return min(max(measured, self.low), self.high)

    def standard_error(self, own: float) -> float:
        """Of a difference: ``SE^2 = own^2 + error^2 + rounding^2 / 12``, at least what float64 resolves."""
        resolved = _RESOLUTION * (max(abs(self.low), abs(self.high)) or 1.0)
        return max(math.hypot(own, self.error, self.rounding / math.sqrt(12)), resolved)

    def z(self, measured: float, own: float) -> float:
        """``(measured - reference) / SE``; 0 inside a range."""
        return (measured - self.nearest(measured)) / self.standard_error(own)


def _printed(text: str) -> tuple[float, float, float]:
    """Value, standard error and unit of the last digit."""
    found = _PRINTED.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no printed number; write .1175, 8.048(3), 6.44e-4 or .328 to .368")
    value = Decimal(found[1] + (found[3] or ""))
    unit = float(Decimal(1).scaleb(int(value.as_tuple().exponent)))
    return float(value), int(found[2] or 0) * unit, unit


def _absolute(tolerance: float | str, value: float) -> float:
    if not isinstance(tolerance, str):
        return tolerance
    found = _PERCENT.fullmatch(tolerance)
    if not found:
        raise ValueError(f"{tolerance!r} is no tolerance; write a number or a percentage such as 2 %")
    return float(found[1]) / 100 * abs(value)
