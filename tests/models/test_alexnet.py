import pytest
import torch
from torch import nn

from qbench.models.alexnet import AlexNet


def test_parameter_count() -> None:
    """Torchvision publishes 61,100,840 with an 11x11 stem and 6x6 places before 4096 units; here 3x3 and 4x4."""
    module = AlexNet().build((3, 32, 32), 1000)
    stem, linear = 64 * 3 * (121 - 9), (36 - 16) * 256 * 4096
    assert sum(p.numel() for p in module.parameters()) == 61_100_840 - stem - linear


@pytest.mark.parametrize(("side", "last"), [(1, 1), (8, 1), (28, 4), (32, 4), (33, 5)])
def test_three_poolings_halve_the_picture(side: int, last: int) -> None:
    module = AlexNet(width=2).build((1, side, side), 10)
    assert module.features(torch.zeros(2, 1, side, side)).shape == (2, 8, last, last)
    assert module(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_dropout() -> None:
    module = AlexNet(width=1, dropout=0.25).build((1, 8, 8), 10)
    assert [layer.p for layer in module.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
