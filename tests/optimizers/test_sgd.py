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


def test_plain_step() -> None:
    assert steps(Sgd(lr=0.5, momentum=0, nesterov=False, weight_decay=0), [2.0]) == [0.0]


def test_heavy_ball() -> None:
    """v = 1, then 1.5, then 1.75 at momentum 1/2."""
    plain = Sgd(lr=0.25, momentum=0.5, nesterov=False, weight_decay=0)
    assert steps(plain, [1.0, 1.0, 1.0], 2.0) == [1.75, 1.375, 0.9375]


def test_nesterov_looks_one_step_ahead() -> None:
    """w moves by lr (g + momentum v)."""
    assert steps(Sgd(lr=0.25, momentum=0.5, nesterov=True, weight_decay=0), [1.0, 1.0], 2.0) == [
        1.625,
        1.1875,
    ]


def test_weight_decay_is_added_to_the_gradient() -> None:
    assert steps(Sgd(lr=0.5, momentum=0, nesterov=False, weight_decay=0.5), [0.0]) == [0.75]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ParameterError, match="needs momentum above 0"):
        Sgd(momentum=0)
