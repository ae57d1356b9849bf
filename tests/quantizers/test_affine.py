"""The affine grid by hand; its use is tested with uniform, gptq and adaround."""

import pytest
import torch

from qbench.quantizers.affine import AffineGrid, AffineParameters, range_of


@pytest.mark.parametrize(
    ("scheme", "high", "levels"),
    [
        ("symmetric", 1.0, [-4 / 3, -1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 1]),
        ("midrise", 1.0, [-7 / 8, -5 / 8, -3 / 8, -1 / 8, 1 / 8, 3 / 8, 5 / 8, 7 / 8]),
        ("asymmetric", 0.75, [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]),
    ],
)
def test_eight_levels_over_a_range(scheme, high, levels):
    """From -1: steps of 2/6, 2/8 and 1.75/7."""
    grid = AffineGrid(3, scheme, "float32")
    scale, zero_point = grid.read(grid.message(*grid.spanning(torch.tensor([-1.0]), torch.tensor([high]))))
    points = grid.points(torch.arange(8.0)[None], scale, zero_point)
    assert points[0].tolist() == pytest.approx(levels, abs=1e-6)
    assert grid.codes(points, scale, zero_point).tolist() == [list(range(8))]
    assert grid.codes(torch.tensor([[-9.0, 9.0]]), scale, zero_point).tolist() == [[0, 7]]


def test_squared_error_is_that_of_the_nearest_levels():
    """Levels 0, 1, 2, 3: .25^2 + .5^2 + 0 + 1^2."""
    grid = AffineGrid(2, "asymmetric", "float32")
    rows = torch.tensor([[0.25, 1.5, 2.0, 4.0]])
    error = grid.squared_error(rows, torch.zeros(1), torch.tensor([3.0]))
    assert float(error) == pytest.approx(0.0625 + 0.25 + 1)


def test_the_best_range_clips_where_the_extremes_do_not():
    """100,000 values over [-.1, .1] and one of .5: clipped, it costs .16; kept, steps of 1/14 cost 42.

    The cells reach half a step beyond the outer level, 7.5 for 7: a range of .1 * 14/15 is enough. 1 % is a bound: the
    search ends on a grid of .6 %.
    """
    rows = torch.cat([torch.linspace(-0.1, 0.1, 100_000), torch.tensor([0.5])])[None]
    grid = AffineGrid(4, "symmetric", "float32")
    assert [float(end) for end in range_of(rows, grid, "minmax")] == [-0.5, 0.5]
    assert float(range_of(rows, grid, "mse")[1]) == pytest.approx(0.1 * 14 / 15, rel=0.01)


def test_parameters_name_grid_and_layout():
    parameters = AffineParameters(bits=3, scheme="midrise", granularity="channel", scale_dtype="float32")
    assert parameters.grid == AffineGrid(3, "midrise", "float32")
    assert parameters.layout.granularity == "channel"
