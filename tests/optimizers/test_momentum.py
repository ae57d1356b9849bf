import pytest
import torch

from qbench.errors import ParameterError
from qbench.optimizers.momentum import Momentum


def steps(optimizer: Momentum, gradients: list[float], start: float = 1.0) -> list[float]:
    weight = torch.nn.Parameter(torch.tensor([start]))
    rule, found = optimizer.build([weight]), []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        rule.step()
        found.append(weight.item())
    return found


def test_polyaks_two_step_form() -> None:
    """w(t+1) = w(t) - lr g + momentum (w(t) - w(t-1)) in float64; float32 leaves 1e-6."""
    gradients = [0.3, -1.0, 2.0, 0.7]
    before = w = 1.0
    expected = []
    for gradient in gradients:
        before, w = w, w - 0.1 * (gradient + 0.5 * w) + 0.8 * (w - before)
        expected.append(w)
    assert steps(Momentum(lr=0.1, momentum=0.8, weight_decay=0.5), gradients) == pytest.approx(
        expected, rel=1e-5
    )


def test_nesterov_looks_one_step_ahead() -> None:
    """Sutskever et al., equations 3 and 4, on f(w) = 2 w^2: the gradient is taken at w + momentum v.

    Their w + momentum v is the weight that is kept here; float32 leaves 1e-6 of what it starts from.
    """
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    rule = Momentum(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0).build([weight])
    w, v = 1.0, 0.0
    for _ in range(5):
        weight.grad = 4 * weight.detach()
        rule.step()
        v = 0.8 * v - 0.05 * 4 * (w + 0.8 * v)
        w = w + v
        assert weight.item() == pytest.approx(w + 0.8 * v, abs=1e-6)


def test_it_needs_momentum() -> None:
    with pytest.raises(ParameterError, match="'momentum': momentum=0"):
        Momentum(momentum=0)
