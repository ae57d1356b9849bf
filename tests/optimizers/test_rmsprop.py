import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.optimizers.rmsprop import RmsProp


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_four_steps_of_the_lecture(momentum: float) -> None:
    """The recursion in float64; float32 leaves 1e-6."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    rule = RmsProp(lr=0.1, alpha=0.9, eps=1e-3, momentum=momentum, weight_decay=0.5).build([weight])
    w, v, b = 1.0, 0.0, 0.0
    for gradient in [0.3, -1.0, 2.0, 0.1]:
        weight.grad = torch.tensor([gradient])
        rule.step()
        g = gradient + 0.5 * w
        v = 0.9 * v + 0.1 * g * g
        b = momentum * b + g / (math.sqrt(v) + 1e-3)
        w -= 0.1 * b
        assert weight.item() == pytest.approx(w, rel=1e-5)


def test_the_first_step_is_ten_learning_rates_long() -> None:
    """1 / sqrt(1 - 0.99) of them, whatever the gradient."""
    weight = torch.nn.Parameter(torch.zeros(2))
    rule = RmsProp(lr=0.01).build([weight])
    weight.grad = torch.tensor([1e-3, -70.0])
    rule.step()
    assert weight.tolist() == pytest.approx([-0.1, 0.1], rel=1e-3)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="'rmsprop': alpha=1"):
        RmsProp(alpha=1.0)
