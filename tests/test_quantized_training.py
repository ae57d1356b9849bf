"""Weights that are quantized while they are trained."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.classifier import autocast_dtype, evaluate, exact_kernels
from qbench.codec import Code, from_payload, prepare
from qbench.components import Context, Examples, Model, Quantizer
from qbench.layers import weight_tensors
from qbench.measuring import code
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.momentum import Momentum
from qbench.optimizers.sgd import Sgd
from qbench.quantized_training import QuantizedNetwork
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.nested_lattice import NestedLattice
from qbench.quantizers.probabilistic_weights import ProbabilisticWeights
from qbench.quantizers.soft_to_hard import SoftToHard
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.surrogates import learnable
from qbench.quantizers.uniform import Uniform
from qbench.quantizers.xnor import XNOR
from qbench.schema import derived_seed, digest
from qbench.training import Around, Training, train

QUANTIZERS = [
    Uniform(bits=3),
    Uniform(bits=2, scheme="midrise", granularity="group"),
    KMeans(bits=2),
    NestedLattice(lattice="E8", m=4, overload="shrink"),
    StochasticRounding(bits=2),
    LSQ(bits=3),
    LSQ(bits=2, granularity="channel"),
    BinaryConnect(),
    BinaryConnect(rounding="stochastic"),
    XNOR(),
    SoftToHard(bits=2),
    ProbabilisticWeights(levels=3, assignment="stochastic"),
]


def context(seed: int = 0) -> Context:
    return Context(torch.Generator().manual_seed(seed))


def around(*quantizers: Quantizer, seed: int = 0, **settings: int) -> Around:
    """Quantized weights; several quantizers in turn."""
    return lambda module, steps: QuantizedNetwork(
        module, weight_tensors(module), quantizers, seed=seed, steps=steps, **settings
    )


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 2.0**-40, 3e5])
def test_a_surrogate_has_the_value_of_the_decoded_codes(quantizer: Quantizer, scale: float) -> None:
    x, code = gaussian(12, 3, 5, 5) * scale, Code(quantizer)
    codebook = code.fit(x, context())
    value = code.surrogate(x.clone().requires_grad_(), learnable(codebook), context(7))
    assert torch.equal(value, code.decode(code.encode(x, codebook, context(7)), codebook, x.shape))
    assert value.requires_grad


@pytest.mark.parametrize("quantizer", [*QUANTIZERS[:5], BinaryConnect()], ids=str)
def test_straight_through_is_the_identity_backwards(quantizer: Quantizer) -> None:
    """Of all that are not Trainable, and of BinaryConnect, whose own gradient it is (algorithm 1)."""
    x, upstream = (gaussian(8, 16) * 100).requires_grad_(), gaussian(8, 16, seed=1)
    code = Code(quantizer)
    code.surrogate(x, code.fit(x.detach(), context()), context()).backward(upstream)
    assert torch.equal(x.grad, upstream)


def test_the_gradient_of_a_learned_step_is_in_units_of_the_data() -> None:
    """LSQ at |x| << 1: for q = 2^e step, e the exponent of x, d x^ / dq = (round(v) - v) / sqrt(N Q_P) inside (eq. 3).

    The step gets 2^-e times that, so that descent of it moves q as descent of q does.
    """
    x = gaussian(1, 64) * 2.0**-20
    code = Code(LSQ(bits=4, initial="mse"))
    codebook = learnable(code.fit(x, context()))
    inner = codebook["c"]
    assert isinstance(inner, dict)
    step, exponent = inner["step"], int(codebook["e"])  # type: ignore[arg-type]
    code.surrogate(x, codebook, context()).sum().backward()
    v = x * 2.0**-exponent / step.detach()  # type: ignore[union-attr]
    slope = torch.where(v <= -8, -8.0, torch.where(v >= 7, 7.0, v.round() - v))
    expected = slope.sum() * 2.0**-exponent / math.sqrt(64 * 7)
    assert step.grad.item() == pytest.approx(expected.item(), rel=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("model", [Mlp(width=16, depth=2), Cnn(width=4)], ids=str)
def test_what_is_evaluated_is_what_the_bytes_say(few: Examples, quantizer: Quantizer, model: Model) -> None:
    """Coding the trained weights with the learned codebooks gives the values of the forward pass, bit for bit."""
    training = Training(epochs=2, batch_size=32)
    trained = train(model, Adam(lr=0.003), few, training, 3, around=around(quantizer, seed=3)).module
    assert isinstance(trained, QuantizedNetwork)
    values, codebooks = trained.values(), trained.codebooks()
    for weight in weight_tensors(trained.module):
        generator = torch.Generator().manual_seed(derived_seed(3, weight.name))
        codebook = codebooks.get(weight.name)
        payload = code(quantizer, weight.parameter.detach(), generator=generator, codebook=codebook).payload
        decoded = from_payload(payload, lambda spec: type(quantizer)(**spec.parameters))
        assert torch.equal(decoded, values[weight.name])
    assert len(values) == len(weight_tensors(trained.module))


def test_the_network_keeps_its_names_and_its_real_weights(digits: Examples, kept: type[Quantizer]) -> None:
    """Straight through a code that doubles, one step of gradient descent moves w by lr times the gradient at 2 w."""
    data = Examples(digits.train_inputs[:64], digits.train_labels[:64], *torch.empty(2, 0), classes=10)
    model = Mlp(width=8, depth=1)
    once = Training(epochs=1, batch_size=64, validation=0, selection="last", warmup=0, schedule="constant")
    untouched = train(model, Sgd(lr=1e-20), data, once, seed=0).module
    doubled = train(model, Sgd(lr=1e-20), data, once, seed=0).module
    for weight in weight_tensors(doubled):
        weight.parameter.data *= 2
    precision = autocast_dtype(torch.device("cpu"))
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None), exact_kernels():
        logits = doubled.train()(data.train_inputs)
    doubled.zero_grad()
    nn.functional.cross_entropy(logits.float(), data.train_labels).backward()
    quantized = train(model, Sgd(lr=0.5), data, once, seed=0, around=around(kept(times=2.0))).module
    assert isinstance(quantized, QuantizedNetwork)
    assert list(quantized.module.state_dict()) == list(untouched.state_dict())
    for (name, before), gradient in zip(
        untouched.named_parameters(), [p.grad for p in doubled.parameters()], strict=True
    ):
        moved = quantized.module.get_parameter(name) - before
        assert torch.allclose(moved, -0.5 * gradient, atol=0.02 * float(gradient.abs().max()))
    assert torch.equal(evaluate(quantized, data.train_inputs), evaluate(quantized, data.train_inputs))


@pytest.mark.parametrize("model", [Mlp(width=16, depth=2), Cnn(width=4)], ids=str)
def test_a_code_that_keeps_the_numbers_trains_like_none(
    few: Examples, kept: type[Quantizer], model: Model
) -> None:
    """Bit for bit."""
    training = Training(epochs=2, batch_size=32)
    plain = train(model, Adam(), few, training, seed=1).module
    quantized = train(model, Adam(), few, training, seed=1, around=around(kept())).module
    assert isinstance(quantized, QuantizedNetwork)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, quantized.module.state_dict()[name]), name
    assert torch.equal(evaluate(quantized, few.train_inputs), evaluate(plain, few.train_inputs))


def test_steps_progress_and_fits(digits: Examples, watching: Any) -> None:
    """Ten steps a fit: at 0, 10, 20 and so on; each evaluation fits and codes once, with a context of its own."""
    training = Training(epochs=2, batch_size=64)
    steps = 2 * (round(0.9 * len(digits.train_labels)) // 64)
    train(Mlp(width=8, depth=0), Sgd(), digits, training, 0, around=around(watching(), refit=10))
    seen = [c for c in watching.contexts if c.public is not None]
    assert [c.public["step"] for c in seen if c.public] == list(range(steps))
    assert [c.progress for c in seen] == [step / steps for step in range(steps)]
    assert [step for step in watching.fitted if step >= 0] == list(range(0, steps, 10))
    assert len({id(c.generator) for c in seen}) == 1
    scored = [c for c in watching.contexts if c.public is None]
    assert [c.progress for c in scored] == [1.0, 1.0]
    assert watching.fitted.count(-1) == 2


@pytest.mark.parametrize("quantizer", [LSQ(bits=3), SoftToHard(bits=2), BinaryConnect()], ids=str)
def test_codebooks_are_learned_without_weight_decay(digits: Examples, quantizer: Quantizer) -> None:
    """A decay that takes every weight to zero leaves a codebook of the size of the first one."""
    rules: list[torch.optim.Optimizer] = []

    class Noted(Momentum):
        def build(self, parameters: Any) -> torch.optim.Optimizer:
            rules.append(super().build(parameters))
            return rules[-1]

    optimizer, training = Noted(lr=0.01, weight_decay=0.1), Training(epochs=1)
    trained = train(Mlp(width=8, depth=1), optimizer, digits, training, 0, around=around(quantizer)).module
    assert isinstance(trained, QuantizedNetwork)
    first, second = rules[0].param_groups
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)
    learned = list(trained.codes.parameters())
    assert [id(p) for p in second["params"]] == [id(p) for p in learned]
    assert len(learned) == 2
    fitted = Code(quantizer).fit(prepare(weight_tensors(trained.module)[0].parameter), context())
    held = trained.codebooks()["network.1.weight"]
    assert not torch.equal(*(next(iter(book["c"].values())) for book in (fitted, held)))  # type: ignore[union-attr]
    assert all(torch.isfinite(p).all() for p in learned)


def test_weights_that_run_away_are_no_quantizers_fault(few: Examples) -> None:
    training = Training(epochs=1, batch_size=16)
    with pytest.raises(FloatingPointError, match=r"weight became NaN or infinite in step .* learning rate"):
        train(Mlp(width=8), Sgd(lr=1e38), few, training, 0, around=around(Uniform(bits=4), refit=1))


def test_the_chosen_epochs_codebook_comes_back_with_its_weights(digits: Examples) -> None:
    """Accuracy on the held-back pictures is that of the epoch that was selected, evaluated afterwards."""
    training = Training(epochs=4, batch_size=16, validation=0.3, schedule="constant")
    trained = train(Mlp(width=6, depth=1), Adam(lr=0.1), digits, training, 2, around=around(LSQ(bits=2)))
    best = max(trained.metrics["validation_accuracy"])
    generator = torch.Generator().manual_seed(int(digest([2, "split"])[:15], 16))
    held = torch.randperm(len(digits.train_labels), generator=generator)[
        : round(0.3 * len(digits.train_labels))
    ]
    hits = evaluate(trained.module, digits.train_inputs[held]).argmax(1) == digits.train_labels[held]
    assert int(hits.sum()) / len(held) == best
    assert trained.metrics["validation_accuracy"][-1] != best


@pytest.mark.parametrize("scale", ["mean", "max", "unit"])
def test_real_weights_of_binaryconnect_stay_within_its_scale(few: Examples, scale: str) -> None:
    """Algorithm 1 of Courbariaux et al.; after steps of this size some lie on the bound."""
    quantizer, training = BinaryConnect(scale=scale), Training(epochs=3, batch_size=16, selection="last")
    optimizer = Adam(lr=1.0 if scale == "unit" else 0.1)
    trained = train(Mlp(width=16, depth=1), optimizer, few, training, 0, around=around(quantizer)).module
    assert isinstance(trained, QuantizedNetwork)
    for weight in weight_tensors(trained.module):
        book = trained.codebooks()[weight.name]
        inner, unit = book["c"], 2.0 ** int(book["e"])  # type: ignore[arg-type]
        assert isinstance(inner, dict)
        bound = unit * abs(float(inner["scale"])) if inner else unit  # type: ignore[arg-type]
        assert float(weight.parameter.detach().abs().max()) == pytest.approx(bound, rel=1e-6)
