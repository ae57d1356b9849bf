import math

import pytest
import torch

from qbench.quantizers.scale_search import best_scale, fitted_scale


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


def test_zeros_have_no_scale_and_others_what_the_search_makes_of_their_root_mean_square():
    x = torch.tensor([3.0, -4.0, 0.0, 0.0])
    assert fitted_scale(x, lambda _, scale: 2 * scale) == 2 * 2.5
    assert fitted_scale(torch.zeros(4), lambda _, scale: 1 / scale) == 0
