"""Observers against sums done by hand, torch's quantiles, and Max's optimal quantizers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qbench.codec import Code
from qbench.components import Context
from qbench.measuring import fit
from qbench.observers import (
    least_squares,
    magnitude_percentile,
    min_max,
    moving_average,
    observed_range,
)
from qbench.quantizers.uniform import Uniform

BATCHES = [torch.tensor([[-1.0, 4.0], [0.5, 2.0]]), torch.tensor([[-3.0, 1.0]]), torch.tensor([[0.0, 10.0]])]


def drawn(seed: int) -> Callable[[], torch.Generator]:
    return lambda: torch.Generator().manual_seed(seed)


def test_min_max_spans_all_batches() -> None:
    assert min_max(BATCHES) == (-3, 10)


def test_moving_average_by_hand() -> None:
    """-1, then 0.99 (-1) + 0.01 (-3) = -1.02, then 0.99 (-1.02); 4, then 3.97, then 0.99 * 3.97 + 0.1."""
    low, high = moving_average(BATCHES)
    assert low == pytest.approx(-1.0098, abs=1e-12)
    assert high == pytest.approx(4.0303, abs=1e-12)
    assert moving_average(BATCHES, momentum=0) == (0, 10)
    assert moving_average(BATCHES[:1]) == (-1, 4)


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_percentile_is_torchs_quantile_of_the_magnitudes(percent: float) -> None:
    """10,001 values: the rank is a whole number, so that nothing is interpolated."""
    x = torch.randn(10_001, generator=drawn(1)())
    low, high = magnitude_percentile([x[:4000].reshape(40, 100), x[4000:]], percent)
    expected = torch.quantile(x.abs().double(), percent / 100, interpolation="nearest")
    assert high == -low == pytest.approx(float(expected), abs=0)


def test_a_hundred_percent_is_the_largest_magnitude() -> None:
    assert magnitude_percentile(BATCHES, 100) == (-10, 10)


@pytest.mark.parametrize(
    ("bits", "step", "mse"), [(2, 0.995687, 0.118846), (3, 0.586019, 0.0374397), (4, 0.335201, 0.0115429)]
)
def test_the_clip_of_least_error_of_a_gaussian_is_maxs(bits: int, step: float, mse: float) -> None:
    """The optimal range is 2^b steps; the grid's points lie 4.4 % apart, so the best is at most that far off.

    Half that far from the optimum the error is within 1 % of it; on 2^18 draws its standard error is below 0.4 %
    (squared errors have a deviation of about twice their mean), five of which are 2 %.
    """
    x = torch.randn(1, 1 << 18, generator=drawn(2)())
    quantizer = Uniform(bits=bits, scheme="midrise", granularity="tensor", scale_dtype="float32")
    low, high = least_squares(x, float(x.abs().max()), quantizer, drawn(0))
    assert low == -high
    optimal = 2 ** (bits - 1) * step
    assert optimal / 2 ** (1 / 16) < high < optimal * 2 ** (1 / 16)
    code, context = Code(quantizer), Context(drawn(0)())
    codebook = fit(quantizer, x.clamp(low, high), generator=drawn(0)())
    decoded = code.decode(code.encode(x, codebook, context), codebook, x.shape)
    assert float((decoded - x).square().mean()) == pytest.approx(mse, rel=0.03)


def test_nothing_is_clipped_where_that_costs_least() -> None:
    """Levels of 3 symmetric bits on [-1, 1], multiples of 1/3: an error of 0 at the extremes and nowhere below."""
    x = torch.arange(-3, 4)[None].repeat(1, 50) / 3
    quantizer = Uniform(bits=3, scheme="symmetric", granularity="tensor", scale_dtype="float32")
    assert least_squares(x, 1.0, quantizer, drawn(0)) == (-1, 1)


def test_one_huge_value_does_not_hide_the_rest() -> None:
    """At the extremes all but one of 3 bits' codes are spent on it, and every other element decodes to 0."""
    x = torch.randn(1, 100_000, generator=drawn(3)())
    x[0, 0] = 60.0
    quantizer = Uniform(bits=3, scheme="symmetric", granularity="tensor", scale_dtype="float32")
    _, high = least_squares(x, 60.0, quantizer, drawn(0))
    assert 1.5 < high < 6


def test_zeros_have_no_range() -> None:
    x = torch.zeros(1, 64)
    assert least_squares(x, 0.0, Uniform(bits=4, granularity="tensor"), drawn(0)) == (0, 0)


def test_an_observer_by_its_name() -> None:
    quantizer = Uniform(bits=8, granularity="tensor")

    def found(observer: str) -> tuple[float, float]:
        def together(x: Tensor) -> Tensor:
            return x.reshape(1, -1)

        return observed_range(BATCHES, observer, 99.99, quantizer, drawn(0), together)  # type: ignore[arg-type]

    assert found("min-max") == (-3, 10)
    assert found("moving-average") == moving_average(BATCHES)
    assert found("percentile") == (-10, 10)
    low, high = found("mse")
    assert low == -high
    assert 9 < high <= 10
