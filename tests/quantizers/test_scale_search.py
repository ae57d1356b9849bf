import math

import pytest
import torch

from qbench.quantizers.scale_search import best_scale, strided


@pytest.mark.parametrize("best", [0.01, 0.3, 1.0, 7.9])
def test_finds_the_lowest_of_many_minima(best):
    """cos adds minima of their own 1.5 apart in log2 s; the parabola's is the lowest. The grid is 2^(1/16) wide."""

    def errors(scales):
        distance = torch.log2(scales / best)
        return distance.square() - 0.5 * torch.cos(2 * math.pi / 1.5 * distance)

    assert abs(math.log2(best_scale(errors, 0.005, 16.0) / best)) <= 1 / 32 + 1e-6


def test_one_scale_where_the_range_is_a_point():
    found = best_scale(lambda scales: (scales - 2.0).abs(), 2.0, 2.0)
    assert found == 2.0


def test_strided_rows_are_equally_spaced_and_at_most_so_many():
    rows = torch.arange(10)[:, None]
    assert strided(rows, 5)[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert strided(rows, 3)[:, 0].tolist() == [0, 3, 6]
    assert torch.equal(strided(rows, 10), rows)
