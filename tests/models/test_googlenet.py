import pytest
import torch
from torch import nn

from qbench.errors import ParameterError
from qbench.models.googlenet import GoogLeNet


def test_parameter_count() -> None:
    """Torchvision publishes 6,624,904 without auxiliary classifiers and with a 7x7 stem."""
    module = GoogLeNet().build((3, 224, 224), 1000)
    assert sum(p.numel() for p in module.parameters()) == 6_624_904 - 64 * 3 * (49 - 9)


@pytest.mark.parametrize(("side", "last"), [(2, 1), (8, 2), (28, 7), (32, 8)])
def test_two_poolings_halve_the_picture(side: int, last: int) -> None:
    module = GoogLeNet(width=8).build((1, side, side), 10).eval()
    sizes: list[torch.Size] = []
    for name in ("inception3a", "inception5b"):
        module.get_submodule(name).register_forward_hook(lambda layer, x, y: sizes.append(y.shape))
    module(torch.zeros(2, 1, side, side))
    assert sizes == [(2, 32, side, side), (2, 128, last, last)]


def test_dropout() -> None:
    module = GoogLeNet(width=8, dropout=0.35).build((1, 8, 8), 10)
    assert [layer.p for layer in module.modules() if isinstance(layer, nn.Dropout)] == [0.35]


def test_too_small_pictures() -> None:
    with pytest.raises(ParameterError, match="2x2 pixels or more, not 1x8"):
        GoogLeNet().build((1, 1, 8), 10)


def test_widths_that_split_a_module_unevenly_are_refused() -> None:
    with pytest.raises(ParameterError, match="'googlenet': width=12.*multiple of 8"):
        GoogLeNet(width=12)
