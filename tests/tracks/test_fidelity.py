"""Correlations of dot products against their closed forms."""

import math

import pytest
import torch
from torch import nn

from qbench.tracks.fidelity import DOT_LENGTH, correlation, dot_correlations, layer_products


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_correlation_is_pearsons() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert correlation(x, 5 - 2 * x) == pytest.approx(-1)
    # by hand: covariance 4, squared deviations 5 and 5
    assert correlation(x, torch.tensor([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    assert correlation(x, torch.ones(4)) is None


def test_signs_keep_the_share_of_dot_products_that_theory_says() -> None:
    """corr(a.b, a.sgn b) = sqrt(2/pi), corr(a.b, sgn a.sgn b) = 2/pi; standard error (1 - r^2) / sqrt(pairs)."""
    draws = [gaussian(DOT_LENGTH * 2048, seed=seed) for seed in range(8)]
    one, both = dot_correlations(draws, [x.sign() for x in draws])
    for found, expected in ((one, math.sqrt(2 / math.pi)), (both, 2 / math.pi)):
        assert found == pytest.approx(expected, abs=4 * (1 - expected**2) / math.sqrt(8 * 2048))


def test_scale_and_a_lost_remainder_do_not_matter() -> None:
    draws = [gaussian(DOT_LENGTH * 4 + 5, seed=seed) for seed in range(2)]
    assert dot_correlations(draws, [3 * x for x in draws]) == pytest.approx((1, 1))


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Linear(6, 4), (5, 6)), (nn.Conv2d(2, 3, 3, stride=2, padding=1), (5, 2, 7, 7))]
)
def test_products_of_a_layer_leave_its_bias_out(layer: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = gaussian(*shape)
    bias = layer.bias.detach().reshape(-1, *[1] * (len(shape) - 2))
    with torch.no_grad():
        expected = layer(inputs) - bias
    torch.testing.assert_close(layer_products(layer, layer.weight, inputs), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(
        layer_products(layer, torch.zeros_like(layer.weight), inputs), torch.zeros_like(expected)
    )
