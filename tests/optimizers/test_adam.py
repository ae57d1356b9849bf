import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.optimizers.adam import Adam


def test_three_steps_of_algorithm_1() -> None:
    """The paper's recursion in float64; float32 leaves 1e-6."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    rule = Adam(lr=0.1, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.5).build([weight])
    w, m, v = 1.0, 0.0, 0.0
    for t, gradient in enumerate([0.3, -1.0, 2.0], 1):
        weight.grad = torch.tensor([gradient])
        rule.step()
        g = gradient + 0.5 * w
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        w -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-3)
        assert weight.item() == pytest.approx(w, rel=1e-5)


def test_the_first_step_is_as_long_as_the_learning_rate() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    rule = Adam().build([weight])
    weight.grad = torch.tensor([1e-3, -70.0])
    rule.step()
    assert weight.tolist() == pytest.approx([-1e-3, 1e-3], rel=1e-4)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="'adam': beta2=1"):
        Adam(beta2=1.0)
