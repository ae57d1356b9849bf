"""Sequences whose correlation and predictability are known."""

import math

import pytest
import torch
from torch import Tensor

from qbench.gradient_dynamics import (
    Ratio,
    autocorrelation,
    average_gain,
    cosine,
    drift_kept,
    gram,
    increment_gain,
    last_step_gain,
    lipschitz,
    lipschitz_kept,
    relative_increment,
)

STEPS, COORDINATES = 64, 5000


def flow(rho: float, seed: int = 0) -> Tensor:
    """The products of a stationary AR(1) of unit variance: x_t+1 = rho x_t + sqrt(1 - rho^2) noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(STEPS, COORDINATES, generator=generator)
    kept = [noise[0]]
    for x in noise[1:]:
        kept.append(rho * kept[-1] + math.sqrt(1 - rho**2) * x)
    return gram(torch.stack(kept))


def decibel(ratio: Ratio) -> float:
    return 10 * math.log10(ratio.value)


# A sum over 63 x 5,000 products of steps with correlation rho has a standard error of
# sqrt((1 + rho) / (1 - rho) / 315,000) at most.
def error(rho: float) -> float:
    return math.sqrt((1 + rho) / (1 - rho)) / math.sqrt((STEPS - 1) * COORDINATES)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_of_an_autoregressive_flow(rho: float) -> None:
    """Correlation rho^lag; increments of energy 2 (1 - rho); gain 1 / (1 - rho^2). Four standard errors."""
    x, slack = flow(rho), 4 * error(abs(rho))
    for lag in (0, 1, 2, 5):
        assert autocorrelation(x, lag).value == pytest.approx(rho**lag, abs=slack)
    assert cosine(x).value == pytest.approx(rho, abs=slack)
    assert relative_increment(x).value == pytest.approx(2 * (1 - rho), abs=3 * slack)
    # the energy of the innovation is off by 4 sqrt(2 / n), that of the signal by the flow's own error
    tolerance = 10 / math.log(10) * (4 * math.sqrt(2 / (STEPS // 2 * COORDINATES)) + 2 * slack)
    assert decibel(last_step_gain(x)) == pytest.approx(-10 * math.log10(1 - rho**2), abs=tolerance)
    assert decibel(increment_gain(x)) == pytest.approx(-10 * math.log10(2 * (1 - rho)), abs=tolerance)


def test_independent_steps_cannot_be_predicted() -> None:
    x = gram(torch.randn(STEPS, COORDINATES, generator=torch.Generator().manual_seed(1)))
    for gain in (last_step_gain(x), average_gain(x)):
        assert -0.01 < decibel(gain) < 0.01
    assert decibel(increment_gain(x)) == pytest.approx(-10 * math.log10(2), abs=0.02)


def test_a_coefficient_of_few_coordinates_does_harm() -> None:
    """It is learned from the past: chance correlations of 2 coordinates cost, they do not gain."""
    x = torch.randn(1000, 8, 2, generator=torch.Generator().manual_seed(2))
    gains = [last_step_gain(gram(series)).value for series in x]
    assert sum(gains) / len(gains) < 1


def test_of_a_random_walk() -> None:
    """After t steps of unit energy the energy is t: the last step leaves 1 of it, so do plain increments."""
    walk = torch.randn(STEPS, COORDINATES, generator=torch.Generator().manual_seed(3)).cumsum(0)
    x = gram(walk)
    energy = sum(range(STEPS // 2 + 1, STEPS + 1)) / (STEPS // 2)
    assert last_step_gain(x).value == pytest.approx(energy, rel=0.05)
    assert increment_gain(x).value == pytest.approx(sum(range(2, STEPS + 1)) / (STEPS - 1), rel=0.05)
    assert average_gain(x).value < last_step_gain(x).value


def test_an_average_finds_a_mean_below_noise() -> None:
    """x_t = m + noise of s times its energy: no more than (1 + s) / s is to be gained; the last step gets less."""
    generator = torch.Generator().manual_seed(4)
    s = 2.0
    mean = torch.randn(COORDINATES, generator=generator)
    x = gram(mean + math.sqrt(s) * torch.randn(STEPS, COORDINATES, generator=generator))
    limit, last = 10 * math.log10((1 + s) / s), -10 * math.log10(1 - (1 / (1 + s)) ** 2)
    assert last == pytest.approx(decibel(last_step_gain(x)), abs=0.05)
    assert last + 0.5 < decibel(average_gain(x)) < limit + 0.02


def test_an_average_is_what_its_weights_say() -> None:
    """A predictor of memory 1/2 by hand, with the coefficient of the steps before; of 6 steps the last three count."""
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(6), dtype=torch.float64).cumsum(0)
    means = [x[0]]
    for t in range(1, 5):
        weights = 0.5 ** torch.arange(t, -1, -1, dtype=torch.float64)
        means.append((weights @ x[: t + 1]) / weights.sum())
    signal, error = 0.0, 0.0
    for t in range(2, 5):
        a = sum(float(means[s] @ x[s + 1]) for s in range(t)) / sum(
            float(means[s] @ means[s]) for s in range(t)
        )
        signal += float(x[t + 1].square().sum())
        error += float((x[t + 1] - a * means[t]).square().sum())
    assert average_gain(gram(x), [0.5]).value == pytest.approx(signal / error, rel=1e-9)


@pytest.mark.parametrize(("steps", "scored"), [(2, 0), (3, 1), (5, 3), (8, 4), (9, 5), (32, 16)])
def test_the_second_half_of_a_series_counts(steps: int, scored: int) -> None:
    """Of the steps that have one before them to be predicted from, and one to learn from."""
    x = flow(0.5)[:steps, :steps]
    for gain in (last_step_gain(x), average_gain(x)):
        assert gain.numerator.tolist() == x.diagonal()[steps - scored :].tolist()
        assert len(gain.denominator) == scored


def test_memories_longer_than_half_a_series_are_not_tried() -> None:
    """Of 8 steps the first half holds memories of 2 and 4."""
    x = flow(0.5)[:8, :8]
    assert average_gain(x).value == average_gain(x, [0.5, 0.75]).value
    assert average_gain(x, [0.9]).value == average_gain(x, [0.9, 0.97]).value


def test_a_coefficient_that_few_steps_are_behind_costs_nothing() -> None:
    """Four directions alone are live, steps are independent: a coefficient of t steps is chance, of variance 1 / (4 t),
    and leaves 1 + 1 / (4 t). From the 16th step on that is .05 dB, over 200 windows; over all steps it would be .14."""
    x = torch.randn(200, 32, 4, generator=torch.Generator().manual_seed(8))
    products = [gram(series) for series in x]
    lost = -sum(decibel(last_step_gain(p)) for p in products) / 200
    assert 0 < lost < 0.1


def mean_and_error(gains: list[float]) -> tuple[float, float]:
    x = torch.tensor(gains, dtype=torch.float64)
    return float(x.mean()), float(x.std()) / math.sqrt(len(x))


def short_flow(rho: float, seed: int, coordinates: int = 4096) -> Tensor:
    """A window of 32 steps of a stationary AR(1)."""
    generator = torch.Generator().manual_seed(seed)
    kept = [torch.randn(coordinates, generator=generator)]
    for _ in range(31):
        noise = torch.randn(coordinates, generator=generator)
        kept.append(rho * kept[-1] + math.sqrt(1 - rho**2) * noise)
    return gram(torch.stack(kept))


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.9])
def test_predictors_of_a_window_gain_what_they_can(rho: float) -> None:
    """The last step 1 / (1 - rho^2), an average of memory m 1 / (1 - rho^2 (1 - m^2) / (1 - m^2 rho^2)), of which the
    shortest gains most: on average over 40 flows within 3 standard errors."""
    flows = [short_flow(rho, seed) for seed in range(100, 140)]
    last, error = mean_and_error([decibel(last_step_gain(x)) for x in flows])
    assert last == pytest.approx(-10 * math.log10(1 - rho**2), abs=3 * error)
    found, error = mean_and_error([decibel(average_gain(x)) for x in flows])
    share = rho**2 * 0.75 / (1 - 0.25 * rho**2)
    assert found == pytest.approx(-10 * math.log10(1 - share), abs=3 * error)


@pytest.mark.parametrize("s", [0.5, 2.0, 8.0])
def test_an_average_of_a_window_does_not_start_cold(s: float) -> None:
    """Of m + noise of s times its energy, t steps averaged with weights w have energy 1 + s v_t, v_t = sum w^2, and a
    product of 1 with the next: a coefficient a leaves 1 + s - 2 a + a^2 (1 + s v_t), and is the mean product over the
    mean energy at 8 to t - 1 steps. 20 windows, 3 standard errors. Steady state, v = (1 - m) / (1 + m), is less than
    .1 dB further."""
    m, gains = 15 / 16, []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        mean = torch.randn(4096, generator=generator)
        x = gram(mean + math.sqrt(s) * torch.randn(32, 4096, generator=generator))
        gains.append(decibel(average_gain(x, [m])))
    energy = {t: 1 + s * (1 - m) / (1 + m) * (1 + m**t) / (1 - m**t) for t in range(8, 32)}
    left = 0.0
    for t in range(16, 32):
        a = (t - 8) / sum(energy[k] for k in range(8, t))
        left += 1 + s - 2 * a + a * a * energy[t]
    known = 10 * math.log10(16 * (1 + s) / left)
    found, error = mean_and_error(gains)
    assert found == pytest.approx(known, abs=3 * error)
    steady = 10 * math.log10((1 + s) / (1 + s - 1 / (1 + s * (1 - m) / (1 + m))))
    assert known < steady < known + 0.1


def test_scale_changes_no_figure() -> None:
    x = flow(0.5)[:8, :8]
    for figure in (cosine, last_step_gain, average_gain, relative_increment):
        assert figure(x * 1e-24).value == pytest.approx(figure(x).value, rel=1e-6)


def test_zero_gradients_divide_by_nothing() -> None:
    x = gram(torch.zeros(8, 5))
    for figure in (cosine, last_step_gain, average_gain, increment_gain, relative_increment):
        assert math.isnan(figure(x).value)


def test_the_first_half_bounds_the_second() -> None:
    assert lipschitz_kept(torch.tensor([1.0, 3, 2, 3]), 2).value == 1
    assert lipschitz_kept(torch.tensor([1.0, 3, 4, 3]), 2).value == 0.5
    assert lipschitz_kept(torch.tensor([1.0, torch.nan, 2.0]), 1).value == 0
    assert lipschitz_kept(torch.tensor([1.0, 3, 4, 3]), 3).value == 1
    for first in (0, 1):
        assert math.isnan(lipschitz_kept(torch.tensor([torch.nan]), first).value)
    assert math.isnan(lipschitz_kept(torch.tensor([torch.nan, 1.0]), 1).value)


def test_exchangeable_halves_bound_all_but_one_in_n_plus_one() -> None:
    """2,000 sequences of 2 x 4 values: the share kept is 4/5, its standard error below 0.5 / sqrt(2,000)."""
    ratios = torch.rand(2000, 8, generator=torch.Generator().manual_seed(5))
    kept = torch.tensor([lipschitz_kept(row, 4).value for row in ratios]).mean()
    assert float(kept) == pytest.approx(0.8, abs=4 * 0.5 / math.sqrt(2000))


def test_ratios_and_drift_from_squared_norms() -> None:
    drift, update = torch.tensor([4.0, 1.0, 1.0, 1e-16]), torch.tensor([1.0, 4.0, 0.0, 1e-30])
    gradient = torch.tensor([400.0, 10.0, 0.0, 1.0])
    found = lipschitz(drift, update, gradient)
    assert found[:2].tolist() == [2.0, 0.5]
    assert found[2:].isnan().all()
    # |dg| / |g| = 0.1, 0.32, no gradient, 1e-8
    assert drift_kept(drift, gradient).value == pytest.approx(2 / 3)
