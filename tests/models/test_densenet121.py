import pytest
import torch

from qbench.errors import ParameterError
from qbench.models.densenet121 import DenseNet121


def test_parameter_count() -> None:
    """Torchvision publishes 7,978,856 with a 7x7 stem; the 3x3 one has 64 x 3 x (49 - 9) fewer."""
    module = DenseNet121().build((3, 224, 224), 1000)
    assert sum(p.numel() for p in module.parameters()) == 7_978_856 - 64 * 3 * (49 - 9)


@pytest.mark.parametrize(("side", "last"), [(8, 1), (28, 3), (32, 4)])
def test_transitions_halve_the_picture(side: int, last: int) -> None:
    module = DenseNet121(width=4).build((1, side, side), 10).eval()
    sizes: list[torch.Size] = []
    for name in ("features.pool0", "features.norm5"):
        module.get_submodule(name).register_forward_hook(lambda layer, x, y: sizes.append(y.shape))
    module(torch.zeros(2, 1, side, side))
    assert sizes == [(2, 4, side, side), (2, 64, last, last)]


def test_too_small_pictures() -> None:
    with pytest.raises(ParameterError, match="8x8 pixels or more, not 28x7"):
        DenseNet121().build((1, 28, 7), 10)


def test_odd_widths_have_no_growth_rate() -> None:
    with pytest.raises(ParameterError, match="'densenet121': width=3.*multiple of 2"):
        DenseNet121(width=3)
