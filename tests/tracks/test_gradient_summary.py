"""Medians and bootstraps whose answers are known."""

import math

import pytest
import torch
from scipy import stats

from qbench.gradient_dynamics import Ratio
from qbench.schema import Measurement
from qbench.tracks.gradient_summary import Figure, decibel, measured, resampled_steps, weighted_median

ONE = torch.ones(1, dtype=torch.float64)


def test_a_weighted_median_has_half_the_weight_on_either_side() -> None:
    values = torch.tensor([[3.0, 1.0], [1.0, math.nan], [2.0, 5.0]])
    assert weighted_median(values, torch.tensor([1.0, 1.0, 1.0])).tolist() == [2, 1]
    assert weighted_median(values, torch.tensor([5.0, 1.0, 1.0])).tolist() == [3, 1]
    assert weighted_median(values, torch.tensor([1.0, 1.0, 2.0])).tolist() == [2, 5]
    assert weighted_median(torch.tensor([[math.nan]]), ONE).isnan().all()


@pytest.mark.parametrize(("steps", "length"), [(1, 1), (5, 2), (31, 6), (32, 6)])
def test_steps_are_drawn_in_blocks(steps: int, length: int) -> None:
    """Within a block each step follows the one before it on the circle; every step is as likely as any other."""
    drawn = resampled_steps(steps, 4000, seed=0)
    assert drawn.shape == (4000, steps)
    for place in range(1, steps):
        if place % length:
            assert torch.equal(drawn[:, place], (drawn[:, place - 1] + 1) % steps)
    counts = torch.bincount(drawn.flatten(), minlength=steps).double()
    # a block start is binomial, and a step is met by the starts of `length` places: 5 standard errors
    assert float((counts / 4000 - 1).abs().max()) <= 5 * math.sqrt(length / 4000) + 1e-12


def test_layers_are_quotients_of_sums_and_missing_steps_count_nothing() -> None:
    ratios = [
        Ratio(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])),
        Ratio(torch.tensor([5.0]), torch.tensor([2.0])),
    ]
    assert Figure.of_ratios(ratios).of_layers().tolist() == [2, 2.5]
    values = Figure.of_values(torch.tensor([[1.0, math.nan, 3.0], [math.nan] * 3]))
    assert values.of_layers()[0] == 2
    assert values.of_layers()[1].isnan()
    hundred = Figure.of_ratios([Ratio(torch.tensor([100.0]), torch.tensor([1.0]))], decibel)
    assert hundred.of_layers().tolist() == [20]


def test_value_interval_and_samples() -> None:
    values = torch.tensor([[1.0, 1.0], [2.0, 2.0], [7.0, 7.0]])
    found = measured("early.x", Figure.of_values(values), torch.tensor([1.0, 3.0, 1.0]), "dB", seed=0)
    assert [*found] == ["early.x", "early.x.low", "early.x.high"]
    assert [m.value for m in found.values()] == [2, 2, 2]
    assert found["early.x"].samples == [1, 2, 7]
    assert {m.unit for m in found.values()} == {"dB"}
    assert found["early.x"].n == 2
    assert measured("x", Figure.of_values(torch.zeros(2, 0)), torch.ones(2), "1", seed=0) == {}


def test_layers_without_a_figure_are_counted() -> None:
    """The median is of the two others, of 1 and 3 parameters; where no layer has a figure their number is all."""
    values = torch.tensor([[1.0, 1.0], [2.0, 2.0], [math.nan, math.nan]])
    found = measured("late.x", Figure.of_values(values), torch.tensor([1.0, 3.0, 100.0]), "dB", seed=0)
    assert found["late.x.left_out"] == Measurement(value=1, unit="1", n=3)
    assert (found["late.x"].value, found["late.x"].samples) == (2, [])
    none = measured("x", Figure.of_values(torch.full((2, 3), math.nan)), torch.ones(2), "1", seed=0)
    assert none == {"x.left_out": Measurement(value=2, unit="1", n=2)}
    some = measured("x", Figure.of_values(torch.tensor([[math.nan, 5.0]])), ONE, "1", seed=0)
    assert "x.left_out" not in some


@pytest.mark.parametrize(("against", "steps"), [(0, 5), (0, 72), (1, 5), (3, 8), (8, 8)])
def test_shares_of_steps_have_the_exact_interval(against: int, steps: int) -> None:
    """As scipy's, of the median layer: the others have all and none of their steps."""
    kept = torch.tensor([[1.0] * steps, [0.0] * against + [1.0] * (steps - against), [0.0] * steps])
    ratios = [Ratio(row, torch.ones(steps)) for row in kept.double()]
    weights = torch.tensor([1.0, 5.0, 1.0])
    found = measured("x", Figure.of_ratios(ratios, counted=True), weights, "1", seed=0)
    exact = stats.binomtest(steps - against, steps).proportion_ci(0.95, method="exact")
    assert found["x"].value == pytest.approx(1 - against / steps)
    assert (found["x.low"].value, found["x.high"].value) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_seventy_two_steps_are_the_fewest_that_support_a_share_of_95_percent() -> None:
    """.025^(1/n) >= .95 from n = 72 on."""
    lows = [
        measured("x", Figure.of_ratios([Ratio(torch.ones(n), torch.ones(n))], counted=True), ONE, "1", seed=0)
        for n in (71, 72)
    ]
    assert [found["x.low"].value >= 0.95 for found in lows] == [False, True]


def test_one_step_has_no_interval() -> None:
    assert [*measured("x", Figure.of_values(torch.tensor([[1.0], [2.0]])), torch.ones(2), "1", seed=0)] == [
        "x"
    ]


@pytest.mark.parametrize("steps", [3, 5, 8, 32])
def test_few_independent_steps_are_covered(steps: int) -> None:
    """A normal interval of 5 steps covers 88 %, a bootstrap of them 77 %. Ours is nominal but for the spread of the
    blocks' own variance: within five standard errors of 300 trainings, 6.3 %, of 95 %."""
    assert abs(coverage(0.0, steps) - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 300)


def coverage(correlation: float, steps: int = 64) -> float:
    """How often the interval of a mean over the steps of an AR(1) of mean 0 contains 0."""
    generator = torch.Generator().manual_seed(1)
    hits, runs = 0, 300
    for _ in range(runs):
        x = torch.randn(steps, generator=generator)
        for t in range(1, steps):
            x[t] = correlation * x[t - 1] + math.sqrt(1 - correlation**2) * x[t]
        found = measured("x", Figure.of_values(x[None]), ONE, "1", seed=int(1e6 * x[0]))
        hits += found["x.low"].value <= 0 <= found["x.high"].value
    return hits / runs


def test_the_interval_covers_the_mean() -> None:
    """Of independent steps nearly 95 %, of correlated ones more than the 74 % of single steps (z = 1.96 / sqrt 3).

    Blocks of 8 miss part of the variance, so less than nominal; the standard error of a share is at most 2.9 %.
    """
    assert 0.86 <= coverage(0.0) <= 0.99
    assert 0.80 <= coverage(0.5) <= 0.99
