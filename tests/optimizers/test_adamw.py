import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.optimizers.adamw import AdamW


def test_three_steps_of_algorithm_2() -> None:
    """The paper's recursion in float64, its alpha and lambda lr and lr weight_decay; float32 leaves 1e-6."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    rule = AdamW(lr=0.1, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.5).build([weight])
    w, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate([0.3, -1.0, 2.0], 1):
        weight.grad = torch.tensor([g])
        rule.step()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        w -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-3) + 0.1 * 0.5 * w
        assert weight.item() == pytest.approx(w, rel=1e-5)


def test_decay_alone_shrinks_geometrically() -> None:
    """Without gradients w is multiplied by 1 - lr weight_decay a step, where L2 in Adam would take lr-long steps."""
    weight = torch.nn.Parameter(torch.tensor([8.0]))
    rule = AdamW(lr=0.5, weight_decay=1.0).build([weight])
    for expected in (4.0, 2.0, 1.0):
        weight.grad = torch.zeros(1)
        rule.step()
        assert weight.item() == expected


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="'adamw': weight_decay=-1"):
        AdamW(weight_decay=-1)
