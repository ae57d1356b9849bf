import pytest
import torch
from torch import nn

from qbench.errors import ParameterError
from qbench.models.mlp import Mlp


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_five_hidden_layers_and_their_parameter_count() -> None:
    module = Mlp().build((1, 28, 28), 10)
    shapes = [tuple(layer.weight.shape) for layer in linears(module)]
    assert shapes == [(256, 784), *[(256, 256)] * 4, (10, 256)]
    count = 784 * 256 + 256 + 4 * (256 * 256 + 256) + 256 * 10 + 10
    assert sum(p.numel() for p in module.parameters()) == count == 466_698


@pytest.mark.parametrize(("width", "depth"), [(7, 0), (3, 1), (16, 8)])
def test_width_and_depth(width: int, depth: int) -> None:
    module = Mlp(width=width, depth=depth).build((3, 4, 5), 6)
    assert len(linears(module)) == depth + 1
    assert module(torch.zeros(2, 3, 4, 5)).shape == (2, 6)


def test_he_initialization_keeps_the_second_moment() -> None:
    """Var(w) = 2 / fan_in; the variance of n weights has relative SE sqrt(2 / n), 5 are allowed."""
    torch.manual_seed(0)
    first = linears(Mlp().build((1, 28, 28), 10))[0]
    relative = first.weight.var().item() * 784 / 2
    assert abs(relative - 1) < 5 * (2 / first.weight.numel()) ** 0.5
    assert not first.bias.any()


@pytest.mark.parametrize("bad", [{"width": 0}, {"depth": -1}, {"layers": 3}])
def test_bad_parameters_are_named(bad: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match=f"mlp.*{next(iter(bad))}"):
        Mlp(**bad)
