import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.optimizers.adagrad import Adagrad


def test_four_steps_of_equation_1() -> None:
    """The recursion in float64; float32 leaves 1e-6."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    rule = Adagrad(lr=0.1, eps=1e-3, initial=0.2, weight_decay=0.5).build([weight])
    w, s = 1.0, 0.2
    for gradient in [0.3, -1.0, 2.0, 0.1]:
        weight.grad = torch.tensor([gradient])
        rule.step()
        g = gradient + 0.5 * w
        s += g * g
        w -= 0.1 * g / (math.sqrt(s) + 1e-3)
        assert weight.item() == pytest.approx(w, rel=1e-5)


def test_steps_shrink_as_one_over_the_root_of_their_number() -> None:
    """Of a constant gradient: lr / sqrt(t), however large it is."""
    weight = torch.nn.Parameter(torch.zeros(2))
    rule = Adagrad(lr=0.5).build([weight])
    for _ in range(9):
        weight.grad = torch.tensor([1e-3, -70.0])
        rule.step()
    length = 0.5 * sum(t**-0.5 for t in range(1, 10))
    assert weight.tolist() == pytest.approx([-length, length], rel=1e-5)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="'adagrad': lr=0"):
        Adagrad(lr=0)
