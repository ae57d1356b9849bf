"""Quantizers in turn: fewer and fewer bits while a network is trained."""

import itertools
from typing import Any

import pytest
import torch

from qbench.classifier import classifier
from qbench.codec import Code, prepare
from qbench.components import Context, Examples, Quantizer
from qbench.errors import ParameterError
from qbench.layers import weight_tensors
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.sgd import Sgd
from qbench.quantized_training import QuantizedNetwork
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.quantizers.hadamard import Hadamard
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.uniform import Uniform
from qbench.staged_code import annealed
from qbench.training import Around, Training, train


def context() -> Context:
    return Context(torch.Generator().manual_seed(0))


def around(*quantizers: Quantizer) -> Around:
    return lambda module, steps: QuantizedNetwork(
        module, weight_tensors(module), quantizers, seed=0, steps=steps
    )


@pytest.mark.parametrize("bits", [2, 8])
def test_one_quantizer_in_two_turns_is_one(digits: Examples, bits: int) -> None:
    """Annealed from as many bits as there are at the end: the same bits of every weight as without."""
    model, training = Mlp(width=8, depth=1), Training(epochs=3, batch_size=64)
    for kind in (LSQ, Uniform):
        turns = annealed(kind(bits=bits), [bits])
        plain, other = (
            train(model, Adam(), digits, training, 5, around=around(*q)).module for q in (turns[1:], turns)
        )
        for one, two in zip(plain.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(one, two)


def test_bits_in_turn_for_equal_shares_of_the_steps(digits: Examples) -> None:
    """30 steps of 8, 4, 2 bits: ten each; learned steps start where a fit to the weights at that moment puts them."""
    network = around(*annealed(LSQ(bits=2), [8, 4]))(classifier(Mlp(width=8, depth=1), (1, 8, 8), 10), 30)
    network.train()
    (first, _) = weight_tensors(network.module)
    levels = []
    for step in range(30):
        with torch.no_grad():
            first.parameter.mul_(1.01)
        before = first.parameter.detach().clone()
        code = network._codes[first.name]
        network(digits.train_inputs[:4])
        value = code.surrogate(before, step=step, steps=30, refit=10, public={})
        levels.append(len(value.unique()))
        if step in (10, 20):
            fitted = Code(LSQ(bits=4 if step == 10 else 2)).fit(before, context())
            expected = Code(LSQ(bits=4 if step == 10 else 2)).surrogate(before, fitted, context())
            assert torch.equal(value, expected)
    assert min(levels[:10]) > 16
    assert all(4 < count <= 16 for count in levels[10:20])
    assert all(count <= 4 for count in levels[20:])


def test_before_its_turn_the_last_quantizer_is_fitted_to_what_is_evaluated(digits: Examples) -> None:
    """Selected in the first of three epochs, of 8 bits: what is stored are 2 bits fitted to that epoch's weights."""

    class Falling(Sgd):
        """Learns in the first epoch and forgets everything in the others."""

        def build(self, parameters: Any) -> torch.optim.Optimizer:
            rule = super().build(parameters)
            steps = itertools.count()

            def forget(*_: Any) -> None:
                if next(steps) >= 20:
                    for parameter in rule.param_groups[0]["params"]:
                        parameter.data.zero_()

            rule.register_step_post_hook(forget)
            return rule

    training = Training(epochs=3, batch_size=64, schedule="constant", warmup=0)
    wrapped = around(*annealed(LSQ(bits=2, initial="mse"), [8, 4]))
    trained = train(Mlp(width=32, depth=1), Falling(lr=0.2), digits, training, 0, around=wrapped)
    assert trained.metrics["selected_epoch"] == 1
    network = trained.module
    assert isinstance(network, QuantizedNetwork)
    for weight in weight_tensors(network.module):
        x = prepare(weight.parameter)
        fitted = Code(LSQ(bits=2, initial="mse")).fit(x, context())
        step, held = fitted["c"]["step"], network.codebooks()[weight.name]["c"]["step"]  # type: ignore[index, call-overload]
        assert torch.equal(step, held)
        assert torch.equal(Code(LSQ(bits=2)).surrogate(x, fitted, context()), network.values()[weight.name])


def test_annealing_needs_bits() -> None:
    assert [str(q) for q in annealed(Uniform(bits=3), [])] == [str(Uniform(bits=3))]
    assert [str(q) for q in annealed(Hadamard(inner=Uniform(bits=2)), [8, 2])] == [
        str(Hadamard(inner=Uniform(bits=bits))) for bits in (8, 2, 2)
    ]
    with pytest.raises(
        ParameterError, match="binaryconnect.* cannot be annealed to 8 bits.*leave anneal empty"
    ):
        annealed(BinaryConnect(), [8])
    with pytest.raises(ParameterError, match="'lsq': bits=99"):
        annealed(LSQ(bits=2), [99])
