import pytest
import torch
from torch import nn

from qbench.errors import ParameterError
from qbench.models.cnn import Cnn


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 5, 7)])
def test_pictures_of_every_size(shape: tuple[int, int, int]) -> None:
    module = Cnn(width=4).build(shape, 7)
    assert module(torch.randn(3, *shape)).shape == (3, 7)


def test_parameter_count() -> None:
    """Four convolutions 1-32-32-64-64 of 9 taps without bias, scale and shift by channel, 7x7x64 -> 10."""
    module = Cnn().build((1, 28, 28), 10)
    convolutions = 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64)
    normalization = 2 * (32 + 32 + 64 + 64)
    linear = 7 * 7 * 64 * 10 + 10
    assert sum(p.numel() for p in module.parameters()) == convolutions + normalization + linear
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()) == 4


def test_too_small_pictures() -> None:
    with pytest.raises(ParameterError, match="4x4 pixels or more, not 3x8"):
        Cnn().build((1, 3, 8), 10)
