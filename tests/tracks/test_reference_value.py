"""Known values as they are printed: how exact they are, and what z is."""

import math
from typing import Any

import pytest

from qbench.tracks.reference_value import Published


@pytest.mark.parametrize(
    ("printed", "value", "error", "rounding"),
    [
        (0.25, 0.25, 0.0, 0.0),  # a number is exact
        (".363380", 0.36338, 0.0, 1e-6),
        ("1.0000", 1.0, 0.0, 1e-4),
        ("-.1847734", -0.1847734, 0.0, 1e-7),
        ("6.4424e-4", 6.4424e-4, 0.0, 1e-8),
        ("8.048(3)", 8.048, 3e-3, 1e-3),
        (".09479(5)", 0.09479, 5e-5, 1e-5),
        ("6.44(12)e-4", 6.44e-4, 1.2e-5, 1e-6),
    ],
)
def test_digits_say_how_exact_a_value_is(printed: Any, value: float, error: float, rounding: float) -> None:
    read = Published.read(printed)
    assert (read.low, read.high) == (value, value)
    assert read.error == pytest.approx(error)
    assert read.rounding == pytest.approx(rounding)


def test_z_is_the_difference_over_all_three_errors() -> None:
    """SE^2 = ours^2 + reference^2 + rounding^2 / 12."""
    known, ours = Published.read("8.048(3)"), 0.004
    error = math.sqrt(0.004**2 + 0.003**2 + 0.001**2 / 12)
    assert known.z(8.06, ours) == pytest.approx((8.06 - 8.048) / error)
    assert known.z(8.04, ours) == pytest.approx((8.04 - 8.048) / error)


def test_a_tolerance_is_four_standard_errors() -> None:
    absolute, relative = Published.read("20.73", tolerance=0.02), Published.read(0.5, tolerance="2 %")
    assert absolute.error == pytest.approx(0.005)
    assert relative.z(0.5 * 1.02, 0.0) == pytest.approx(4)


def test_in_a_range_every_value_is_right() -> None:
    known = Published.read(".328 to .3680")
    assert [known.z(x, 0.01) for x in (0.328, 0.35, 0.368)] == [0, 0, 0]
    error = math.sqrt(0.01**2 + 0.0001**2 / 12)  # the ends are printed numbers, too
    assert known.z(0.308, 0.01) == pytest.approx(-0.02 / error)
    assert known.z(0.388, 0.01) == pytest.approx(0.02 / error)
    # a tolerance is one of the ends
    assert Published.read("1.0000 to 2.0000", tolerance="2 %").z(2.04, 0.0) == pytest.approx(4, rel=1e-4)


def test_exact_values_must_agree_to_what_float64_resolves() -> None:
    assert Published.read(4.5).z(4.5, 0.0) == 0
    assert abs(Published.read(4.5).z(4.5 + 1e-6, 0.0)) > 4
    assert Published.read(0.0).z(0.0, 0.0) == 0
