import pytest
import torch

from qbench.errors import ParameterError
from qbench.optimizers.sgd import Sgd


def steps(optimizer: Sgd, gradients: list[float], start: float = 1.0) -> list[float]:
    weight = torch.nn.Parameter(torch.tensor([start]))
    rule, found = optimizer.build([weight]), []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        rule.step()
        found.append(weight.item())
    return found


def test_steps_forget_what_was_before() -> None:
    assert steps(Sgd(lr=0.5, weight_decay=0), [2.0, 1.0, -1.0]) == [0.0, -0.5, 0.0]


def test_weight_decay_is_added_to_the_gradient() -> None:
    assert steps(Sgd(lr=0.5, weight_decay=0.5), [0.0]) == [0.75]


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="'sgd': lr=0"):
        Sgd(lr=0)
