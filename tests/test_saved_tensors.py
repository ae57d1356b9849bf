"""What a network keeps for its backward pass, as messages."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from qbench.classifier import classifier, cross_entropy
from qbench.components import Context, Examples, Model, Parameters, Quantizer
from qbench.message import Message, Stream
from qbench.models.cnn import Cnn
from qbench.models.gpt import Gpt
from qbench.models.mlp import Mlp
from qbench.models.vit import Vit
from qbench.optimizers.adam import Adam
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.uniform import Uniform
from qbench.saved_tensors import CodedActivations, Kept
from qbench.training import Training, train


class TimesParameters(Parameters):
    by: float = 1.0


class Times(Quantizer):
    """Keeps a tensor, times a number."""

    name = "times"
    Parameters = TimesParameters

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"x": x * self.parameters.by}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x = codes["x"]
        assert isinstance(x, Tensor)
        return x


CONTEXTS: list[Context] = []


class Signs(Quantizer):
    """+-1 in units of the core's power of two, and notes of what it was asked."""

    name = "signs"

    def fit(self, x: Tensor, *, context: Context) -> Message:
        CONTEXTS.append(context)
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"codes": Stream(x > 0, 2)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        stream = codes["codes"]
        assert isinstance(stream, Stream)
        return 2 * stream.values.float().reshape(shape) - 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator())


def network(model: Model, count: int = 64) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return classifier(model, (1, 8, 8), 10, pictures(count)).train()


def coded(module: nn.Module, quantizer: Quantizer, **options: Any) -> CodedActivations:
    return CodedActivations(module, quantizer, **{"seed": 0, "steps": 10, **options}).train()


def gradients(run: nn.Module, inputs: Tensor) -> list[Tensor]:
    labels = torch.arange(len(inputs)) % 10
    return list(torch.autograd.grad(cross_entropy(run(inputs), labels), list(run.parameters())))


def test_bytes_of_a_small_mlp_by_hand() -> None:
    """64 pictures of 64 pixels and twice 32 units, each kept by two layers; the first tensor has negative values.

    Codebook {e: int16, c: {}}: schema 1 + 3 + 4, exponent 1 + 2. Codes {x: {codes: 2 levels}, positive: 2 levels}:
    schema 1 + 3 + 9, and 11 for positive; each stream a count of 2 bytes and an eighth of a byte for each element.
    """
    run = coded(network(Mlp(width=32, depth=2)), Signs())
    gradients(run, pictures(64))
    first = 11 + 13 + 2 + 64 * 64 // 8
    hidden = 11 + 13 + 11 + 2 * (2 + 64 * 32 // 8)
    elements = 64 * (64 + 32 + 32)
    assert run.kept == Kept(1, 3, elements, 4 * elements, first + 2 * hidden, 0, False)


def test_small_tensors_indices_and_statistics_stay_as_they_are() -> None:
    """A picture's input, twice a normalization's input and a ReLU's output of 4 channels, what is pooled of them, the
    same of 8 channels of a quarter of the places. Pooling keeps int64 places of 4 x 16 and 8 x 4 maxima, the four
    normalizations mean and deviation of each channel, LayerNorms those of 17 positions.
    """
    run = coded(network(Cnn(width=4)), Signs(), least=16)
    gradients(run, pictures(16))
    each = 64 + 2 * 2 * (4 * 64) + 4 * 16 + 2 * 2 * (8 * 16) + 8 * 4
    assert run.kept.elements == 16 * each
    assert run.kept.left_nbytes == 16 * 8 * (4 * 16 + 8 * 4) + 2 * 4 * (4 + 4 + 8 + 8)
    vit = coded(network(Vit(width=8, depth=1, heads=2)), Signs(), least=16)
    gradients(vit, pictures(16))
    assert vit.kept.left_nbytes == 3 * 2 * 4 * 16 * 17


def test_statistics_of_many_channels_are_no_activations() -> None:
    """A batch normalization's mean and deviation, one number a channel, whatever ``least`` is."""
    module = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32))
    run = coded(module, Times(by=2.0), least=16)
    run(torch.randn(16, 4, generator=generator())).sum().backward()
    assert (run.kept.elements, run.kept.left_nbytes) == (16 * (4 + 32), 2 * 4 * 32)


def test_what_is_coded_is_let_go() -> None:
    """Before the backward pass every activation's memory is free; a network that is not coded holds it."""
    held = []
    for run in (network(Cnn(width=4)), coded(network(Cnn(width=4)), Signs(), least=16)):
        seen: list[StorageWeakRef] = []

        def note(layer: nn.Module, inputs: Any, output: Tensor, seen: list[StorageWeakRef] = seen) -> None:
            seen.append(StorageWeakRef(output.untyped_storage()))  # type: ignore[no-untyped-call]

        handles = [m.register_forward_hook(note) for m in run.modules() if isinstance(m, nn.Conv2d | nn.ReLU)]
        logits = run(pictures(16))
        held.append([not one.expired() for one in seen])  # type: ignore[no-untyped-call]
        assert len(handles) == len(seen) == 8
        logits.sum().backward()
    assert all(held[0])
    assert not any(held[1])


class InPlace(nn.Module):
    """y b + (y + 1)^2, the second y written over the first, as autograd alone would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        first = y.detach() * self.layer.bias
        y += 1
        return first + y.square()


def test_a_tensor_that_was_written_into_is_another_one() -> None:
    module, x = InPlace(), torch.randn(5, 6, generator=generator())
    run = coded(module, Times(), least=1)
    found = torch.autograd.grad(run(x).sum(), list(run.parameters()))
    y = (x @ module.layer.weight.T + module.layer.bias).detach()
    assert torch.allclose(found[1], (y + 2 * (y + 1)).sum(0))


class Square(nn.Module):
    """Y Y^T of a rectified layer: one memory, seen from two sides."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x).relu()
        return (y @ y.T)[:, :5] + y[:, 1:3].square().sum()


def test_views_of_one_memory_are_one_message() -> None:
    """x, y and the part of y that is squared."""
    module, x = Square(), torch.randn(5, 6, generator=generator())
    run = coded(module, Times(), least=1)
    for one, other in zip(gradients(run, x), gradients(module, x), strict=True):
        assert torch.equal(one, other)
    assert (run.kept.tensors, run.kept.elements) == (3, 30 + 25 + 10)


def test_the_forward_pass_is_exact_and_the_backward_pass_sees_what_was_decoded() -> None:
    """dL/dW = g^T x^: doubled inputs double it, and leave the bias alone."""
    module, inputs = network(Mlp(depth=0)), pictures(64)
    run = coded(module, Times(by=2.0))
    assert torch.equal(run(inputs), module(inputs))
    (weight, bias), (twice, same) = gradients(module, inputs), gradients(run, inputs)
    assert torch.equal(twice, 2 * weight)
    assert torch.equal(same, bias)


def test_gradients_of_an_unbiased_code_are_unbiased() -> None:
    """Of one layer the mean over 400 draws is the float gradient: 640 elements within 5 standard errors.

    Errors of a weight depend on its pixel's draws, so that there are 64 independent squares at least.
    """
    module, inputs = network(Mlp(depth=0)), pictures(64)
    run = coded(module, StochasticRounding(bits=2))
    drawn = torch.stack([gradients(run, inputs)[0] for _ in range(400)])
    error = drawn.std(0) / 20
    z = (drawn.mean(0) - gradients(module, inputs)[0]) / error
    assert float(z.abs().max()) < 5
    assert float(z.square().mean()) == pytest.approx(1, abs=5 * (2 / 64) ** 0.5)


def test_a_further_bit_lets_a_relu_pass_the_same_gradients() -> None:
    """The first bias sees weights and ReLU only; where all that is decoded is 0, a ReLU without the bit blocks."""
    module, inputs = network(Mlp(width=32, depth=1)), pictures(64)
    exact = gradients(module, inputs)[1]
    assert exact.any()
    assert torch.equal(gradients(coded(module, Times(by=0.0)), inputs)[1], exact)
    assert not gradients(coded(module, Times(by=0.0), rectified=False), inputs)[1].any()


def test_autocast_copies_of_weights_are_no_activations() -> None:
    """A float is 2 bytes there; 64 x 64 and 64 x 32 elements are kept, the 32 x 64 weight is not."""
    module, inputs = network(Mlp(width=32, depth=1)), pictures(64)
    run = coded(module, Times(), least=1)
    found = []
    for one in (module, run):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = one(inputs)
        loss = cross_entropy(logits, torch.arange(64) % 10)
        found.append(torch.autograd.grad(loss, list(one.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert (run.kept.elements, run.kept.float_nbytes) == (64 * 96, 2 * 64 * 96)
    assert run.kept.left_nbytes == 0


def examples(text: bool) -> Examples:
    inputs = torch.randint(0, 9, (96, 12), dtype=torch.uint8, generator=generator()) if text else pictures(96)
    labels = inputs.long() if text else inputs[:, 0, 0, 0].long() % 10
    return Examples(inputs, labels, inputs[:8], labels[:8], classes=10)


@pytest.mark.parametrize(
    "model",
    [
        Mlp(width=16, depth=2),
        Cnn(width=4),
        Vit(width=12, depth=1, heads=3, dropout=0.1),
        Gpt(width=8, depth=1, heads=2),
    ],
    ids=str,
)
def test_a_code_that_keeps_everything_trains_like_none(model: Model) -> None:
    data = examples(model.inputs == "text")
    training = Training(epochs=2, batch_size=16)
    plain = train(model, Adam(), data, training, seed=1).module
    kept = train(
        model,
        Adam(),
        data,
        training,
        seed=1,
        around=lambda module, steps: coded(module, Times(), least=1, steps=steps),
    ).module
    assert isinstance(kept, CodedActivations)
    assert kept.kept.steps == 2 * (86 // 16)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, kept.module.state_dict()[name]), name


def test_evaluation_keeps_nothing() -> None:
    module, inputs = network(Cnn(width=4)), pictures(8)
    run = coded(module, Signs(), least=1).eval()
    assert torch.equal(run(inputs), module.eval()(inputs))
    with torch.no_grad():
        run.train()(inputs)
    assert run.kept == Kept()


def test_every_tensor_has_a_context_of_its_step() -> None:
    """Three tensors a step, one generator, no memory between them."""
    CONTEXTS.clear()
    run = coded(network(Mlp(width=32, depth=2)), Signs(), steps=4)
    for _ in range(4):
        gradients(run, pictures(64))
    steps = [step for step in range(4) for _ in range(3)]
    assert [c.public["step"] for c in CONTEXTS if c.public] == steps
    assert [c.progress for c in CONTEXTS] == [step / 4 for step in steps]
    assert len({id(c.generator) for c in CONTEXTS}) == 1
    assert not any(c.state for c in CONTEXTS)


def test_what_the_quantizer_computes_is_not_kept() -> None:
    """A range learned by gradient descent has a backward pass of its own."""
    run = coded(network(Mlp(width=32, depth=2)), Uniform(bits=4, range="learned"))
    gradients(run, pictures(64))
    assert run.kept.tensors == 3


def test_activations_that_run_away_are_no_quantizers_fault() -> None:
    module = network(Mlp(width=32, depth=2))
    with torch.no_grad():
        module.get_parameter("network.1.weight").fill_(3e38)
    with pytest.raises(FloatingPointError, match="NaN or infinite; lower the learning rate"):
        coded(module, Uniform(bits=4))(pictures(64))
