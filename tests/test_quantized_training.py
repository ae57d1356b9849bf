"""Weights that are quantized while they are trained."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.activation_codes import coded_activations
from qbench.classifier import autocast_dtype, classifier, evaluate, exact_kernels
from qbench.codec import Code, from_payload, prepare
from qbench.components import Context, Examples, Model, Quantizer
from qbench.errors import InputError, ParameterError
from qbench.layers import weight_tensors
from qbench.measuring import code
from qbench.message import Message, Stream
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.momentum import Momentum
from qbench.optimizers.sgd import Sgd
from qbench.quantized_training import Inputs, QuantizedNetwork
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.quantizers.dorefa import DoReFaActivation
from qbench.quantizers.hadamard import Hadamard
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.nested_lattice import NestedLattice
from qbench.quantizers.pact import PACT
from qbench.quantizers.probabilistic_weights import ProbabilisticWeights
from qbench.quantizers.soft_to_hard import SoftToHard
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.surrogates import LearnedCodebook, learnable
from qbench.quantizers.uniform import Uniform
from qbench.quantizers.xnor import XNOR
from qbench.schema import derived_seed, digest
from qbench.staged_code import annealed
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
CONTEXTS: list[Context] = []
FITTED: list[int] = []


class Watching(Quantizer):
    """Zeros, and notes of what it was asked."""

    name = "watching"

    def fit(self, x: Tensor, *, context: Context) -> Message:
        FITTED.append(context.public["step"] if context.public else -1)
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        CONTEXTS.append(context)
        return {"codes": Stream(torch.zeros(x.shape), 2)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return torch.zeros(shape)


@pytest.fixture(scope="module")
def few(digits: Examples) -> Examples:
    return Examples(digits.train_inputs[:160], digits.train_labels[:160], *torch.empty(2, 0), classes=10)


def context(seed: int = 0) -> Context:
    return Context(torch.Generator().manual_seed(seed))


def around(*quantizers: Quantizer, seed: int = 0, **settings: int) -> Around:
    """Quantized weights; several quantizers in turn."""
    return lambda module, steps: QuantizedNetwork(
        module, weight_tensors(module), quantizers, seed=seed, steps=steps, **settings
    )


def around_inputs(data: Examples, *quantizers: Quantizer, seed: int = 0, **settings: int) -> Around:
    """Quantized inputs of all layers but the first, and float weights."""

    def network(module: nn.Module, steps: int) -> QuantizedNetwork:
        names = [weight.name for weight in weight_tensors(module)[1:]]
        inputs = Inputs(names, quantizers, data.train_inputs[:64])
        return QuantizedNetwork(module, [], [], inputs=inputs, seed=seed, steps=steps, **settings)

    return network


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
    """LSQ at |x| << 1: d x^ / d step = 2^e (round(v) - v) / sqrt(N Q_P) inside, e the exponent of x; equation 3."""
    x = gaussian(1, 64) * 2.0**-20
    code = Code(LSQ(bits=4, initial="mse"))
    codebook = learnable(code.fit(x, context()))
    inner = codebook["c"]
    assert isinstance(inner, dict)
    step, exponent = inner["step"], int(codebook["e"])  # type: ignore[arg-type]
    code.surrogate(x, codebook, context()).sum().backward()
    v = x * 2.0**-exponent / step.detach()  # type: ignore[union-attr]
    slope = torch.where(v <= -8, -8.0, torch.where(v >= 7, 7.0, v.round() - v))
    expected = slope.sum() * 2.0**exponent / math.sqrt(64 * 7)
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
    """Of weights and of inputs: bit for bit."""
    training = Training(epochs=2, batch_size=32)
    plain = train(model, Adam(), few, training, seed=1).module
    for around_it in (around(kept()), around_inputs(few, kept())):
        quantized = train(model, Adam(), few, training, seed=1, around=around_it).module
        assert isinstance(quantized, QuantizedNetwork)
        for name, tensor in plain.state_dict().items():
            assert torch.equal(tensor, quantized.module.state_dict()[name]), name
        assert torch.equal(evaluate(quantized, few.train_inputs), evaluate(plain, few.train_inputs))


def test_steps_progress_and_fits(digits: Examples) -> None:
    """Ten steps a fit: at 0, 10, 20 and so on; each evaluation fits and codes once, with a context of its own."""
    CONTEXTS.clear()
    FITTED.clear()
    training = Training(epochs=2, batch_size=64)
    steps = 2 * (round(0.9 * len(digits.train_labels)) // 64)
    train(Mlp(width=8, depth=0), Sgd(), digits, training, 0, around=around(Watching(), refit=10))
    seen = [c for c in CONTEXTS if c.public is not None]
    assert [c.public["step"] for c in seen if c.public] == list(range(steps))
    assert [c.progress for c in seen] == [step / steps for step in range(steps)]
    assert [step for step in FITTED if step >= 0] == list(range(0, steps, 10))
    assert len({id(c.generator) for c in seen}) == 1
    scored = [c for c in CONTEXTS if c.public is None]
    assert [c.progress for c in scored] == [1.0, 1.0]
    assert FITTED.count(-1) == 2


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
    module, x = layered(12, 20, 5), torch.randint(0, 256, (9, 1, 1, 12), generator=context().generator)
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
    module, x = layered(12, 20, 5), torch.randint(0, 256, (9, 1, 1, 12), generator=context().generator)
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


def test_codebooks_of_inputs_are_fitted_to_batches_every_refit_steps(few: Examples) -> None:
    CONTEXTS.clear()
    FITTED.clear()
    training = Training(epochs=1, batch_size=16, validation=0, selection="last")
    train(Mlp(width=8, depth=1), Sgd(), few, training, 0, around=around_inputs(few, Watching(), refit=4))
    assert [step for step in FITTED if step >= 0] == [0, 4, 8]
    seen = [c.public for c in CONTEXTS if c.public is not None]
    assert seen == [{"step": step, "samples": 16} for step in range(10)]


def test_inputs_that_run_away_are_no_quantizers_fault(few: Examples) -> None:
    training = Training(epochs=1, batch_size=16)
    wrapped = around_inputs(few, Uniform(bits=4, granularity="tensor"), refit=1)
    with pytest.raises(
        FloatingPointError, match=r"input of .* became NaN or infinite in step .* learning rate"
    ):
        train(Mlp(width=8), Sgd(lr=1e38), few, training, 0, around=wrapped)


def test_a_learned_codebook_of_another_shape_is_refused() -> None:
    book = LearnedCodebook({"words": torch.zeros(4), "n": torch.tensor(2)})
    assert [name for name, _ in book.named_parameters()] == ["tensor0"]
    assert len(book.state_dict()) == 2
    with pytest.raises(InputError, match=r"shapes \[\[4\], \[\]\]; the new fit has \[\[3\], \[\]\]"):
        book.assign({"words": torch.ones(3), "n": torch.tensor(1)})
    book.assign({"words": torch.ones(4), "n": torch.tensor(1)})
    message = book.message()
    assert torch.equal(message["words"], torch.ones(4))  # type: ignore[arg-type]
    assert int(message["n"]) == 1  # type: ignore[arg-type]
