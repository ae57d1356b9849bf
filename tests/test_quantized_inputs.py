"""Inputs of layers that are quantized while a network is trained."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.activation_codes import coded_activations
from qbench.classifier import evaluate
from qbench.components import Examples, Model, Quantizer
from qbench.layers import weight_tensors
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.sgd import Sgd
from qbench.quantized_training import Inputs, QuantizedNetwork
from qbench.quantizers.dorefa import DoReFaActivation
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.pact import PACT
from qbench.quantizers.soft_to_hard import SoftToHard
from qbench.quantizers.uniform import Uniform
from qbench.quantizers.xnor import XNOR
from qbench.training import Around, Training, train


def around_inputs(data: Examples, *quantizers: Quantizer, seed: int = 0, **settings: int) -> Around:
    """Quantized inputs of all layers but the first, and float weights."""

    def network(module: nn.Module, steps: int) -> QuantizedNetwork:
        names = [weight.name for weight in weight_tensors(module)[1:]]
        inputs = Inputs(names, quantizers, data.train_inputs[:64])
        return QuantizedNetwork(module, [], [], inputs=inputs, seed=seed, steps=steps, **settings)

    return network


@pytest.mark.parametrize("model", [Mlp(width=16, depth=2), Cnn(width=4)], ids=str)
def test_a_code_that_keeps_the_inputs_trains_like_none(
    few: Examples, kept: type[Quantizer], model: Model
) -> None:
    """Bit for bit."""
    training = Training(epochs=2, batch_size=32)
    plain = train(model, Adam(), few, training, seed=1).module
    quantized = train(model, Adam(), few, training, seed=1, around=around_inputs(few, kept())).module
    assert isinstance(quantized, QuantizedNetwork)
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.state_dict().values(), quantized.module.state_dict().values(), strict=True)
    )
    assert torch.equal(evaluate(quantized, few.train_inputs), evaluate(plain, few.train_inputs))


def layered(*widths: int) -> nn.Module:
    """Linear layers with rectifiers between them that take uint8 numbers, [n, 1, 1, width]."""

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = itertools.pairwise(widths)
            layers = [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU())][:-1]
            self.network = nn.Sequential(nn.Flatten(), *layers)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x.float() / 255)
            return logits

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Layers()


def hidden(module: nn.Module, x: Tensor) -> Tensor:
    """What the first layer and its rectifier make of ``x``."""
    found: Tensor = module.network[:3](x.float() / 255)
    return found


def test_pact_learns_by_equation_4_through_a_network() -> None:
    """d L / d alpha = sum of d L / d y where x >= alpha, d L / d x = d L / d y where 0 <= x < alpha."""
    module, x = (
        layered(12, 20, 5),
        torch.randint(0, 256, (9, 1, 1, 12), generator=torch.Generator().manual_seed(0)),
    )
    name = "network.3.weight"
    inputs = Inputs([name], [PACT(bits=2, initial="percentile", percentile=80)], x.to(torch.uint8))
    network = QuantizedNetwork(module, [], [], inputs=inputs, seed=0, steps=10).train()
    logits = network(x.to(torch.uint8))
    logits.square().sum().backward()
    (alpha,) = network.codes.parameters()
    h = hidden(module, x).detach()
    exponent = math.frexp(float(h.max()))[1]
    end = float(alpha.detach()) * 2.0**exponent
    assert 0 < int((h >= end).sum()) < h.numel()
    coded = (h.clamp(max=end) / (end / 3)).round() * (end / 3)
    last = module.network[3]
    expected = coded @ last.weight.T + last.bias
    torch.testing.assert_close(logits, expected)
    upstream = (2 * expected @ last.weight).detach()
    slope = 2.0**exponent * upstream[h >= end].sum()
    assert float(alpha.grad) == pytest.approx(float(slope), rel=1e-4)
    first = module.network[1]
    through = upstream * ((h > 0) & (h < end))
    torch.testing.assert_close(first.weight.grad, through.T @ (x.reshape(9, 12).float() / 255))


def test_lsq_learns_by_equation_3_through_a_network() -> None:
    """d x^ / d s = -v + round(v) inside, 0 or Q_P = 3 outside, times 1 / sqrt(N Q_P) with N of one sample: 20."""
    module, x = (
        layered(12, 20, 5),
        torch.randint(0, 256, (9, 1, 1, 12), generator=torch.Generator().manual_seed(0)),
    )
    inputs = Inputs(["network.3.weight"], [LSQ(bits=2, signed="auto")], x.to(torch.uint8))
    network = QuantizedNetwork(module, [], [], inputs=inputs, seed=0, steps=10).train()
    logits = network(x.to(torch.uint8))
    logits.square().sum().backward()
    (step,) = network.codes.parameters()
    h = hidden(module, x).detach()
    exponent = math.frexp(float(h.max()))[1]
    s = float(step.detach()) * 2.0**exponent
    assert s == pytest.approx(2 * float(h.mean()) / math.sqrt(3), rel=1e-5)
    v = h / s
    coded = v.clamp(0, 3).round() * s
    last = module.network[3]
    upstream = (2 * (coded @ last.weight.T + last.bias) @ last.weight).detach()
    slopes = torch.where(v >= 3, 3.0, torch.where(v <= 0, 0.0, v.round() - v))
    expected = 2.0**exponent * (upstream * slopes).sum() / math.sqrt(20 * 3)
    assert float(step.grad) == pytest.approx(float(expected), rel=1e-4)
    through = upstream * ((v > 0) & (v < 3))
    torch.testing.assert_close(module.network[1].weight.grad, through.T @ (x.reshape(9, 12).float() / 255))


@pytest.mark.parametrize(
    "quantizer",
    [
        LSQ(bits=3, signed="auto"),
        PACT(bits=2),
        SoftToHard(bits=2),
        DoReFaActivation(bits=3),
        Uniform(bits=3, granularity="tensor"),
        KMeans(bits=2),
        XNOR(),
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [Mlp(width=16, depth=2), Cnn(width=4)], ids=str)
def test_inputs_are_evaluated_as_their_codes_are_scored(
    few: Examples, quantizer: Quantizer, model: Model
) -> None:
    """The evaluation of the network that was trained is that of its module under ``coded_activations``, bit for bit."""
    training = Training(epochs=1, batch_size=32)
    trained = train(model, Adam(lr=0.003), few, training, 3, around=around_inputs(few, quantizer, seed=3))
    network = trained.module
    assert isinstance(network, QuantizedNetwork)
    codebooks = network.input_codebooks()
    names = [weight.name for weight in weight_tensors(network.module)[1:]]
    assert list(codebooks) == names
    with coded_activations(network.module, quantizer, names, codebooks, seed=3):
        expected = evaluate(network.module, few.train_inputs)
    assert torch.equal(evaluate(network, few.train_inputs), expected)
    assert not torch.equal(evaluate(network.module, few.train_inputs), expected)


def test_codebooks_of_inputs_are_fitted_to_batches_every_refit_steps(few: Examples, watching: Any) -> None:
    training = Training(epochs=1, batch_size=16, validation=0, selection="last")
    train(Mlp(width=8, depth=1), Sgd(), few, training, 0, around=around_inputs(few, watching(), refit=4))
    assert [step for step in watching.fitted if step >= 0] == [0, 4, 8]
    seen = [c.public for c in watching.contexts if c.public is not None]
    assert seen == [{"step": step, "samples": 16} for step in range(10)]


def test_inputs_that_run_away_are_no_quantizers_fault(few: Examples) -> None:
    training = Training(epochs=1, batch_size=16)
    wrapped = around_inputs(few, Uniform(bits=4, granularity="tensor"), refit=1)
    with pytest.raises(
        FloatingPointError, match=r"input of .* became NaN or infinite in step .* learning rate"
    ):
        train(Mlp(width=8), Sgd(lr=1e38), few, training, 0, around=wrapped)
