"""Which steps and coordinates are looked at."""

import pytest
import torch

from qbench.errors import InputError
from qbench.gradient_sampling import Site, runs, shares, windows


@pytest.mark.parametrize("steps", [15, 16, 47, 96, 120, 1265, 6330, 100_000])
def test_windows_are_apart_and_early_middle_late(steps: int) -> None:
    early, middle, late = windows(steps)
    assert [w.name for w in (early, middle, late)] == ["early", "middle", "late"]
    assert 0 <= early.start < early.stop <= middle.start < middle.stop <= late.start < late.stop <= steps
    assert {w.stop - w.start for w in (early, middle, late)} == {min(32, steps // 3)}
    if steps >= 1265:
        assert [w.start for w in (early, middle, late)] == [round(p * steps) for p in (0.02, 0.5, 0.95)]


@pytest.mark.parametrize(
    ("steps", "pairs"),
    [
        (15, 2),
        (80, 2),
        (119, 2),
        (120, 2),
        (179, 2),
        (180, 3),
        (240, 4),
        (300, 5),
        (749, 5),
        (1265, 8),
        (100_000, 32),
    ],
)
def test_few_steps_are_evaluated_again(steps: int, pairs: int) -> None:
    """2 % of them, or 5 in each window where these are at most 5 %, else as many as 5 % are; two at the least."""
    found = windows(steps)
    assert [len(set(window.paired)) for window in found] == [pairs] * 3
    assert 3 * pairs <= 0.05 * steps or (pairs == 2 and steps < 120)
    for window in found:
        assert all(window.start <= step < window.stop for step in window.paired)
        assert set(window.snapshots) <= set(window.paired)
        assert len(window.snapshots) == min(6, len(window.paired))


def test_a_short_training_has_no_windows() -> None:
    with pytest.raises(InputError, match="14 steps has no room"):
        windows(14)


def test_small_layers_are_kept_whole_and_others_share_what_is_left() -> None:
    assert shares([5, 1000, 400, 10], 115) == [5, 50, 50, 10]
    assert shares([5, 10], 100) == [5, 10]
    sizes = [3, 2**21, 17, 40_000, 900]
    assert sum(shares(sizes, 2**16)) <= 2**16


@pytest.mark.parametrize(("n", "count"), [(1000, 300), (4608, 512), (129, 128), (40, 17)])
def test_runs_are_of_neighbours_and_over_all(n: int, count: int) -> None:
    """At most one gap for each 16; over many draws the first and the last fiftieth of the indices are met."""
    drawn = [runs(n, count, torch.Generator().manual_seed(seed)) for seed in range(200)]
    for chosen in drawn:
        assert len(chosen) == count
        assert chosen[0] >= 0
        assert chosen[-1] < n
        steps = chosen.diff()
        assert (steps >= 1).all()
        assert int((steps > 1).sum()) <= -(-count // 16) - 1
    assert min(int(chosen[0]) for chosen in drawn) <= n / 50
    assert max(int(chosen[-1]) for chosen in drawn) >= n - 1 - n / 50
    assert runs(7, 300, torch.Generator()).tolist() == list(range(7))


def test_coordinates_are_stratified() -> None:
    """One in each of as many equal stretches; matrices take whole rows and columns."""
    weight = torch.arange(64.0 * 300).reshape(64, 100, 3)
    site = Site.of("layer", "conv", weight, 100, 1024, seed=3)
    assert torch.equal(site.coordinates // 192, torch.arange(100))
    assert torch.equal(site.sample(weight), site.coordinates.float())
    matrix = site.matrix(weight)
    assert matrix.numel() <= 1024
    assert torch.equal(matrix, site.rows[:, None] * 300.0 + site.columns)
    assert torch.equal(Site.of("layer", "conv", weight, 100, 1024, seed=3).coordinates, site.coordinates)
    assert not torch.equal(Site.of("layer", "conv", weight, 100, 1024, seed=4).coordinates, site.coordinates)


@pytest.mark.parametrize("shape", [(10, 256), (256, 784), (512, 9), (1, 7), (7, 1)])
def test_a_layer_within_the_budget_is_kept_whole(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape)
    site = Site.of("layer", "linear", weight, weight.numel(), weight.numel(), seed=0)
    assert torch.equal(site.matrix(weight), weight)
    assert torch.equal(site.sample(weight), weight.flatten())
