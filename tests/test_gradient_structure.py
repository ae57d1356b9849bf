"""Scales of rows and columns, and dependence between coordinates: closed forms and controls."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special

from qbench.distributions import kolmogorov_smirnov
from qbench.gradient_structure import (
    block,
    decorrelation_gain_db,
    dependence_figures,
    normalized,
    variance_spread_db,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3000, 2000), (512, 128)), ((10, 100_000), (10, 6553)), ((50, 40), (50, 40)), ((1, 9), (1, 9))],
)
def test_a_block_is_rows_meeting_columns(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    matrix = torch.arange(shape[0], dtype=torch.float64)[:, None] * 1e6 + torch.arange(shape[1])
    found = block(matrix, generator())
    assert found.shape == expected
    rows, columns = found // 1e6, found % 1e6
    assert (rows == rows[:, :1]).all()
    assert (columns == columns[:1]).all()
    assert (np.diff(rows[:, 0]) > 0).all()
    assert (np.diff(columns[0]) > 0).all()


def test_scales_are_found_and_divided_out() -> None:
    """Row powers of n = 4096 coordinates are known to sqrt(2 / n) = 2.2 %, scales to 1.1 %: 4 of these."""
    rows, columns = np.exp(gaussian(64, 1, seed=1)), np.exp(gaussian(1, 4096, seed=2) / 4)
    x = gaussian(64, 4096) * rows * columns
    found = normalized(x)
    assert np.allclose(found.scales * found.units, x, rtol=1e-12, atol=0)
    ratio = found.scales / (rows * columns)
    assert ratio.mean(1) / ratio.mean() == pytest.approx(np.ones(64), abs=4 * math.sqrt(0.5 / 4096))
    assert np.square(found.units).mean(1) == pytest.approx(np.ones(64), abs=1e-9)
    assert np.square(found.units).mean(0) == pytest.approx(np.ones(4096), abs=1e-9)


def test_zeros_count_neither_in_the_scales_nor_among_the_values() -> None:
    x = gaussian(64, 512)
    x[np.random.default_rng(3).random(x.shape) < 0.6] = 0
    x[:20] = 0
    x[:, 100:] *= np.arange(412) > 200
    found = normalized(x)
    mask = found.units != 0
    assert found.units.shape == (44, 311)
    assert (np.square(found.units).sum(1) / mask.sum(1)) == pytest.approx(np.ones(44), abs=1e-6)
    assert found.gaussian.shape == (mask.sum(),)


@pytest.mark.parametrize("shape", [(4000, 9), (10, 4000), (400, 100)])
def test_gaussian_coordinates_stay_gaussian_however_few_share_a_scale(shape: tuple[int, int]) -> None:
    """Divided by a root mean square they are part of, 9 have excess kurtosis 3 * 9 / 11 - 3 = -.55. Mapped back: 0
    within 5 sqrt(24 / n), and a distance below 1.63 / sqrt(n), the 1 % point of a given distribution."""
    found = normalized(gaussian(*shape) * np.exp(gaussian(shape[0], 1, seed=4)))
    z, n = found.gaussian, found.gaussian.size
    assert abs(np.mean(z**4) / np.mean(z**2) ** 2 - 3) < 5 * math.sqrt(24 / n) + 0.05
    assert kolmogorov_smirnov(special.ndtr(z)) < 1.63 / math.sqrt(n)


def test_units_alone_would_have_short_tails() -> None:
    """E u^4 = 3 k / (k + 2) for k = 9; the columns' 4000 coordinates add nothing. Standard error sqrt(24 / n) / 2."""
    units = normalized(gaussian(4000, 9)).units
    assert np.mean(units**4) == pytest.approx(3 * 9 / 11, abs=0.05)


def test_few_rows_leave_columns_without_scales() -> None:
    x = gaussian(3, 500) * np.array([[1.0], [10], [100]])
    found = normalized(x)
    assert np.square(found.units).mean(1) == pytest.approx(np.ones(3))
    assert (found.scales == found.scales[:, :1]).all()
    tiny = normalized(gaussian(2, 3))
    assert np.square(tiny.units).mean() == pytest.approx(1)


def spreads(
    draw: Callable[[tuple[int, int]], np.ndarray], scales: np.ndarray, columns: int, draws: int = 24
) -> np.ndarray:
    """Of independent matrices with these standard deviations of rows."""
    shape = (len(scales), columns)
    return np.array([variance_spread_db(draw(shape) * scales[:, None], generator(i)) for i in range(draws)])


def true_spread(scales: np.ndarray) -> float:
    powers = np.square(scales)
    return float(10 * np.log10(powers.mean()) - 10 * np.log10(powers).mean())


ONE = np.ones(128)
TWO = np.repeat([1.0, 2.0], 64)
MANY = np.exp(np.linspace(-1.6, 1.6, 128))


@pytest.mark.parametrize("columns", [16, 64, 512])
@pytest.mark.parametrize(("scales", "known"), [(ONE, 0.0), (TWO, 0.9691), (MANY, 5.904)])
def test_spread_of_known_variances(columns: int, scales: np.ndarray, known: float) -> None:
    """Half the rows of variance 1, half of 4: 2.5 over 2. On average over 24 matrices within 3 standard errors, of
    which a matrix's own is at least that of rows of one variance, 4.34 sqrt((trigamma(k/2) - 2/k) / n), and .5 % for
    what the control's own bisection and rotation leave."""
    assert true_spread(scales) == pytest.approx(known, abs=1e-3)
    found = spreads(np.random.default_rng(columns).standard_normal, scales, columns)
    least = 4.343 * math.sqrt((special.polygamma(1, columns / 2) - 2 / columns) / 128)
    error = max(found.std(ddof=1), least) / math.sqrt(len(found))
    assert found.mean() == pytest.approx(known, abs=3 * error + 0.005 * known)


@pytest.mark.parametrize("columns", [8, 16, 64])
@pytest.mark.parametrize("scales", [ONE, MANY], ids=["one", "many"])
def test_what_is_taken_off_is_the_chance_spread_of_chi_squares(columns: int, scales: np.ndarray) -> None:
    """E log of a chi-square over its k degrees is digamma(k/2) - log(k/2): 4.34 times that less the same of all n k,
    where rows are alike. Standard error as above over 24 matrices; where rows differ the control is that of like ones
    within a tenth."""
    n, draw = len(scales), np.random.default_rng(1).standard_normal
    taken = []
    for seed in range(24):
        x = draw((n, columns)) * scales[:, None]
        taken.append(true_spread(np.sqrt(np.square(x).mean(1))) - variance_spread_db(x, generator(seed)))
    degrees = np.array([columns, n * columns]) / 2
    known = 4.3429 * float(np.subtract(*(np.log(degrees) - special.digamma(degrees))))
    error = 4.343 * math.sqrt((special.polygamma(1, columns / 2) - 2 / columns) / n / 24)
    assert np.mean(taken) == pytest.approx(known, abs=3 * error + (0.1 * known if scales is MANY else 0))


def test_long_tails_are_no_spread_of_rows_whatever_the_rows_variances() -> None:
    """Laplace rows of 64: their mean squares differ by (6 - 1) / (3 - 1) times as much by chance as Gaussian ones."""
    for scales in (ONE, TWO, MANY):
        found = spreads(lambda shape: np.random.default_rng(5).laplace(size=(24, *shape))[0], scales, 64, 1)
        assert found[0] == pytest.approx(true_spread(scales), abs=0.1 + 0.08 * true_spread(scales))


@pytest.mark.parametrize("columns", [9, 512])
@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_rows_of_one_distribution_have_no_spread(columns: int, family: str) -> None:
    """By chance alone 9 Gaussian coordinates spread by 4.34 / 9 = .48 dB, Laplace ones by more."""
    draw = getattr(np.random.default_rng(9), {"gaussian": "normal", "laplace": "laplace"}[family])
    assert abs(variance_spread_db(draw(size=(4096 // columns * 8, columns)), generator())) < 0.1


def test_columns_of_unlike_variance_are_no_spread_of_rows() -> None:
    x = gaussian(256, 256) * np.exp(gaussian(1, 256, seed=1))
    assert abs(variance_spread_db(x, generator())) < 0.1


def test_dead_rows_are_left_out_of_the_spread() -> None:
    x = gaussian(128, 512)
    x[::2] = 0
    assert abs(variance_spread_db(x, generator())) < 0.05
    assert math.isnan(variance_spread_db(x[:2], generator()))
    assert math.isnan(variance_spread_db(gaussian(100, 7), generator()))


def figures_of(x: np.ndarray) -> dict[str, float]:
    gain = decorrelation_gain_db(torch.from_numpy(x), generator())
    return {**dependence_figures(normalized(x), generator()), "decorrelation_gain_db": gain}


@pytest.mark.parametrize("rows", ["equal", "unequal"])
def test_independent_coordinates_are_like_their_control(rows: str) -> None:
    """Log determinants of 128 by 512 and of 64 by 128 have standard deviations of .05 and .14 dB with their controls';
    the larger of two such is .06 on average, and of eight draws within four times .03 of it."""
    scale = np.exp(gaussian(128, 1, seed=1)) if rows == "unequal" else 1.0
    found = [figures_of(gaussian(128, 512, seed=seed) * scale) for seed in range(8)]
    assert found[0]["top4_energy_ratio"] == pytest.approx(1, abs=0.15)
    assert found[0]["effective_rank"] == pytest.approx(1, abs=0.2)
    assert np.mean([one["decorrelation_gain_db"] for one in found]) == pytest.approx(0.06, abs=0.12)


@pytest.mark.parametrize("family", ["generalized", "laplace", "student", "lognormal"])
def test_long_tails_are_no_dependence(family: str) -> None:
    """The control has the same tails in the same places. Within 4 standard errors of eight independent matrices; a gain
    is the larger of two, of rows and of columns: of two alike normal ones .564 sigma on average, deviation .826."""
    rng = np.random.default_rng(7)
    draw = {
        "generalized": lambda shape: rng.choice([-1.0, 1.0], shape) * rng.gamma(2, size=shape) ** 2,
        "laplace": lambda shape: rng.laplace(size=shape),
        "student": lambda shape: rng.standard_t(3, shape),
        "lognormal": lambda shape: rng.choice([-1.0, 1.0], shape) * np.exp(1.5 * rng.standard_normal(shape)),
    }[family]
    found = [figures_of(draw((256, 256))) for _ in range(8)]
    for name, known, larger in (
        ("decorrelation_gain_db", 0.0, 0.564 / 0.826),
        ("top4_energy_ratio", 1.0, 0.0),
        ("effective_rank", 1.0, 0.0),
    ):
        values = np.array([one[name] for one in found])
        deviation = values.std(ddof=1)
        assert abs(values.mean() - known - larger * deviation) < 4 * deviation / math.sqrt(8)


def coupled(rows: int, groups: int, size: int, r: float) -> np.ndarray:
    """[rows, groups size]: ``size`` neighbours share a part r of their variance."""
    shared, own = gaussian(rows, groups, 1), gaussian(rows, groups, size, seed=1)
    return np.asarray(math.sqrt(r) * shared + math.sqrt(1 - r) * own).reshape(rows, -1)


@pytest.mark.parametrize(
    ("rows", "groups", "size", "r"), [(256, 128, 2, 0.8), (512, 512, 9, 0.9), (64, 64, 9, 0.9)]
)
def test_neighbours_that_are_alike_show_in_a_part_of_a_large_matrix(
    rows: int, groups: int, size: int, r: float
) -> None:
    """Pairs, and kernels of 3 x 3: -10 log10 of det^(1/size). Runs of 16 cut some kernels in two: at least 3/4 is left;
    chance adds less than .3 dB."""
    gain = -10 / size * ((size - 1) * math.log10(1 - r) + math.log10(1 + (size - 1) * r))
    x = coupled(rows, groups, size, r)
    for part in (x, x.T):
        assert 0.75 * gain < figures_of(part)["decorrelation_gain_db"] < gain + 0.3


def test_an_outlier_hides_no_dependence() -> None:
    """Pairs gain 2.22 dB; 4 coordinates a thousand or a million times as large as the others."""
    x = coupled(256, 128, 2, 0.8)
    for size in (1e3, 1e6):
        x[[3, 60, 140, 200], [5, 6, 7, 8]] = size
        assert figures_of(x)["decorrelation_gain_db"] > 1.5


def test_structure_of_rank_one_is_all_of_the_energy() -> None:
    """Signs a b': one direction. The control, signs at random, has 4 of 128, each at most (1 + sqrt(p/n))^2 / p."""
    signs = np.sign(gaussian(128, 1)) * np.sign(gaussian(1, 512, seed=1))
    found = figures_of(signs)
    least = 1 / (4 * (1 + math.sqrt(128 / 512)) ** 2 / 128)
    assert least <= found["top4_energy_ratio"] <= 128 / 4
    assert found["effective_rank"] < 1.2 / 100
    assert found["decorrelation_gain_db"] > 15


def test_correlated_rows_have_the_gain_of_their_covariance() -> None:
    """Rows share a part r of their variance: det = (1 - r)^(p-1) (1 + (p-1) r). The sample's log determinant is
    off by about p / (2 n) nat a dimension, .03 dB, and so is the control's."""
    p, n, r = 32, 2048, 0.5
    x = math.sqrt(1 - r) * gaussian(p, n) + math.sqrt(r) * gaussian(1, n, seed=1)
    gain = -10 / p * ((p - 1) * math.log10(1 - r) + math.log10(1 + (p - 1) * r))
    assert gain == pytest.approx(2.54, abs=0.01)
    for part in (x, x.T, 1e-20 * x):
        assert figures_of(part)["decorrelation_gain_db"] == pytest.approx(gain, abs=0.1)


@pytest.mark.parametrize(("p", "n", "rho"), [(128, 512, 0.25), (128, 512, 0.45), (32, 144, 0.35)])
def test_a_small_gain_is_not_shrunk_away(p: int, n: int, rho: float) -> None:
    """Rows of an AR(1) along p, gain -10 log10(1 - rho^2) (p - 1) / p: the mean of eight draws. A sample's log
    determinant has a standard deviation of about sqrt(2 p / n) nat, and so has the control's."""
    gains = []
    for seed in range(8):
        noise, x = gaussian(p, n, seed=seed), np.zeros((p, n))
        x[0] = noise[0]
        for i in range(1, p):
            x[i] = rho * x[i - 1] + math.sqrt(1 - rho**2) * noise[i]
        gains.append(figures_of(x)["decorrelation_gain_db"])
    gain = -10 * math.log10(1 - rho**2) * (p - 1) / p
    deviation = 4.343 * 2 * math.sqrt(2 * p / n) / p / math.sqrt(len(gains))
    assert np.mean(gains) == pytest.approx(gain, abs=4 * deviation)


def test_low_rank_shows_whatever_the_scales() -> None:
    """Rank 1 times scales of rows and columns over a factor of e^4."""
    rows, columns = np.exp(gaussian(32, 1, seed=3)), np.exp(gaussian(1, 144, seed=4))
    found = figures_of(rows * columns * np.sign(gaussian(32, 1)) * np.sign(gaussian(1, 144, seed=1)))
    assert found["top4_energy_ratio"] > 2
    assert found["effective_rank"] < 0.1


def test_low_rank_and_noise_fails_by_both_figures() -> None:
    x = gaussian(128, 4) @ gaussian(4, 512, seed=1) + 0.5 * gaussian(128, 512, seed=2)
    found = figures_of(x)
    assert found["top4_energy_ratio"] > 2
    assert found["decorrelation_gain_db"] > 0.25
    assert found["effective_rank"] < 0.5


def test_a_narrow_matrix_has_no_such_figures() -> None:
    assert all(map(math.isnan, figures_of(gaussian(7, 100)).values()))
    assert all(map(math.isnan, figures_of(np.zeros((64, 64))).values()))
