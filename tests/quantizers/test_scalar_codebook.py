import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as ReferenceKMeans

from qbench.quantizers.scalar_codebook import ascending, companded, lloyd, look_up, nearest, optimal


def squared_error(values, levels):
    return float((values[:, None] - levels[None]).square().amin(1).sum())


def least_squared_error(values, count):
    """By trying every way to cut the ascending values into runs."""
    ordered, best = np.sort(values), math.inf
    for cuts in itertools.combinations(range(1, len(ordered)), count - 1):
        best = min(best, sum(((run - run.mean()) ** 2).sum() for run in np.split(ordered, cuts)))
    return best


def test_nearest_level_by_hand():
    rows = torch.tensor([[-9.0, 0.49, 0.51, 1.6, 9.0]])
    levels = torch.tensor([[0.0, 1.0, 2.0]])
    codes = nearest(rows, levels)
    assert codes.tolist() == [[0, 0, 1, 2, 2]]
    assert look_up(codes, levels).tolist() == [[0, 0, 1, 2, 2]]


def test_nearest_level_is_nearest(gaussian):
    rows, levels = gaussian(3, 500), gaussian(3, 17, seed=1).sort(1).values
    chosen = look_up(nearest(rows, levels), levels)
    best = (rows[:, :, None] - levels[:, None]).abs().amin(2)
    assert torch.allclose((rows - chosen).abs(), best, atol=1e-6)


@pytest.mark.parametrize("integers", [False, True])
def test_optimal_levels_equal_brute_force(integers):
    random = np.random.default_rng(0)
    for _ in range(150):
        size = int(random.integers(1, 13))
        values = random.integers(-3, 4, size).astype(float) if integers else random.standard_normal(size)
        count = int(random.integers(1, min(size, 5) + 1))
        levels = optimal(torch.tensor(values, dtype=torch.float32), count)
        assert levels.shape == (count,)
        assert bool((levels.diff() >= 0).all())
        found = squared_error(torch.tensor(values, dtype=torch.float32).double(), levels)
        assert found == pytest.approx(
            least_squared_error(values.astype(np.float32).astype(float), count), abs=1e-12
        )


@pytest.mark.parametrize("count", [2, 5, 16, 61])
def test_optimal_levels_are_never_worse_than_sklearn(gaussian, laplacian, count):
    for values in (gaussian(1 << 14), laplacian(1 << 14, seed=1), gaussian(1 << 14, seed=2) ** 3):
        reference = ReferenceKMeans(count, n_init=1, random_state=0, tol=0.0).fit(
            values[:, None].double().numpy()
        )
        levels = optimal(values, count)[None]
        ours = float((look_up(nearest(values[None].double(), levels), levels) - values).square().sum())
        assert ours <= reference.inertia_ * (1 + 1e-6)


def test_a_level_for_every_distinct_value():
    values = torch.tensor([0.25, -0.5, 0.25, 0.75])
    assert optimal(values, 5).tolist() == [-0.5, 0.25, 0.75, 0.75, 0.75]
    assert optimal(torch.zeros(0), 3).tolist() == [0, 0, 0]


def test_exact_beyond_one_bin_each(gaussian):
    """4096 values are solved exactly, 4097 on bins: one value more costs .1 % at most (a bound)."""
    values = gaussian(4096)
    more = torch.cat([values, values.median()[None] + 1e-6])
    exact, binned = optimal(values, 8), optimal(more, 8)
    assert squared_error(values.double(), binned) == pytest.approx(
        squared_error(values.double(), exact), rel=1e-3
    )


def test_lloyd_never_gets_worse_and_ends_at_centroids(laplacian):
    ordered = ascending(laplacian(2, 4000))
    levels = torch.linspace(-1, 1, 9, dtype=torch.float64).expand(2, -1)
    errors = []
    for _ in range(6):
        errors.append((look_up(nearest(ordered, levels), levels) - ordered).square().sum(1))
        levels = lloyd(ordered, levels, iterations=10)
    assert bool((torch.stack(errors).diff(dim=0) <= 1e-9).all())
    levels = lloyd(ordered, levels, iterations=2000)
    codes = nearest(ordered, levels)
    for row in range(2):
        for code in range(9):
            assert float(ordered[row][codes[row] == code].mean()) == pytest.approx(
                float(levels[row, code]), abs=1e-9
            )


def test_lloyd_keeps_the_level_of_an_empty_cell():
    levels = lloyd(torch.tensor([[0.0, 0.0, 1.0]]).double(), torch.tensor([[0.0, 0.25, 1.25]]).double(), 3)
    assert levels.tolist() == [[0.0, 0.25, 1.0]]


def test_companded_levels_of_uniform_values_are_equally_spaced():
    """An empirical quantile is off by at most .5 / sqrt(n) in standard deviation, here .002; five of them."""
    values = torch.rand(1, 1 << 16, generator=torch.Generator().manual_seed(0))
    levels = companded(ascending(values), 10)
    assert torch.allclose(levels, (torch.arange(10).double() + 0.5)[None] / 10, atol=0.01)
    assert companded(torch.tensor([[0.5]]), 3).tolist() == [[0.5] * 3]
    assert companded(torch.zeros(1, 9).double(), 2).tolist() == [[0.0] * 2]
