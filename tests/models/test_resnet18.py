import pytest
import torch

from qbench.errors import ParameterError
from qbench.models.resnet18 import ResNet18


def test_parameter_count() -> None:
    """Torchvision publishes 11,689,512 with a 7x7 stem; the 3x3 one has 64 x 3 x (49 - 9) fewer."""
    module = ResNet18().build((3, 224, 224), 1000)
    assert sum(p.numel() for p in module.parameters()) == 11_689_512 - 64 * 3 * (49 - 9)


def test_the_small_form_for_ten_classes() -> None:
    """990 classes of 512 weights and a bias fewer; one channel of the picture instead of three: 2 x 64 x 9 fewer."""
    counts = [
        sum(p.numel() for p in ResNet18().build((channels, 32, 32), 10).parameters()) for channels in (3, 1)
    ]
    assert counts[0] == 11_689_512 - 64 * 3 * (49 - 9) - 990 * 513
    assert counts[0] - counts[1] == 2 * 64 * 9


@pytest.mark.parametrize(("side", "last"), [(8, 1), (28, 4), (32, 4), (1, 1)])
def test_stages_halve_the_picture(side: int, last: int) -> None:
    module = ResNet18(width=2).build((1, side, side), 10).eval()
    sizes: list[torch.Size] = []
    for name in ("layer1", "layer4"):
        module.get_submodule(name).register_forward_hook(lambda layer, x, y: sizes.append(y.shape))
    module(torch.zeros(2, 1, side, side))
    assert sizes == [(2, 2, side, side), (2, 16, last, last)]


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="'resnet18': width=0"):
        ResNet18(width=0)
