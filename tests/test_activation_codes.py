"""Networks whose activations are quantized: which, with what codebook, and that the rest stays bit for bit."""

import pytest
import torch
from torch import Tensor, nn

from qbench import activation_codes, capture
from qbench.activation_codes import activation_names, coded_activations, observe
from qbench.classifier import Reader, classifier, evaluate
from qbench.components import Context, Model, Quantizer
from qbench.errors import InputError, PluginError
from qbench.message import Message, Stream, pack
from qbench.models.cnn import Cnn
from qbench.models.googlenet import GoogLeNet
from qbench.models.mlp import Mlp
from qbench.models.resnet18 import ResNet18
from qbench.models.vit import Vit
from qbench.observers import moving_average
from qbench.quantizers.uniform import Uniform


def pictures(n: int = 80, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 1, size, size), generator=generator, dtype=torch.uint8)


def network(model: Model) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return classifier(model, (1, 8, 8), 10, pictures()).eval()


@pytest.mark.parametrize(
    "model",
    [Mlp(width=16, depth=2), Cnn(width=4), ResNet18(width=8), GoogLeNet(width=8), Vit(width=12, depth=1)],
    ids=lambda model: model.name,
)
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_activations_that_are_kept_change_no_bit(model: Model, mode: str, kept: type[Quantizer]) -> None:
    """Residual connections, layers that write into their input, attention: the quantized input is a copy."""
    module, x = network(model), pictures(70)
    names = activation_names(module, x)
    codebooks = observe(module, x[:4], kept(), names, "min-max", seed=0) if mode == "static" else None
    expected = evaluate(module, x)
    with coded_activations(module, kept(), names, codebooks, seed=0) as codes:
        assert torch.equal(evaluate(module, x), expected)
    assert torch.equal(evaluate(module, x), expected)
    assert not any(part._forward_pre_hooks for part in module.modules())
    inputs = capture.activations(module, x[:1])
    assert list(codes) == names == list(inputs)[1:]
    assert {name: code.elements for name, code in codes.items()} == {
        name: 70 * inputs[name].numel() for name in names
    }


def test_a_layer_computes_with_what_decodes() -> None:
    """Two layers by hand: logits = W2 q(relu(W1 x)) + b2 with q the rounding to 15 levels."""
    module, x = network(Mlp(width=16, depth=1)), pictures(70)
    names = activation_names(module, x)
    quantizer = Uniform(bits=4, granularity="tensor", scale_dtype="float32")
    codebooks = observe(module, x, quantizer, names, "min-max", seed=0)
    with coded_activations(module, quantizer, names, codebooks, seed=0):
        found = evaluate(module, x)
    with torch.no_grad():
        hidden = capture.activations(module, x)[names[0]]
        scale = hidden.max() / 7
        last = module.get_submodule(names[0].rpartition(".")[0])
        expected = last((hidden / scale).round() * scale)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_picture_is_no_activation_and_an_embedding_is() -> None:
    module = network(Mlp(width=16, depth=2))
    weights = [name for name, _ in module.named_parameters() if name.endswith("weight")]
    assert activation_names(module, pictures()) == weights[1:]
    assert activation_names(module, pictures(), "keep") == weights[1:-1]
    layers = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 5))
    text = torch.zeros(2, 7, dtype=torch.uint8)
    names = [f"network.{i}.weight" for i in (1, 2, 3)]
    assert activation_names(Reader(layers), text) == names
    assert activation_names(Reader(layers), text, "keep") == names[1:-1]


def test_no_position_of_a_text_sees_what_comes_later() -> None:
    """A last character that makes everything after the embedding huge changes no logits before it.

    Coded as one sample the text would have one scale, and the small values before it would decode to 0.
    """
    embedding = nn.Embedding(3, 4)
    with torch.no_grad():
        embedding.weight.copy_(
            torch.tensor([[0.1, 0.2, -0.1, 0.1], [0.3, -0.2, 0.1, 0.0], [1e3, 1e3, 1e3, 1e3]])
        )
    module = Reader(nn.Sequential(embedding, nn.Linear(4, 3)))
    text = torch.tensor([[0, 1, 0, 1]] * 70, dtype=torch.uint8)
    other = text.clone()
    other[:, -1] = 2
    quantizer = Uniform(bits=4, scheme="asymmetric", granularity="tensor")
    found = []
    for x in (text, other):
        with coded_activations(module, quantizer, activation_names(module, x), seed=0) as codes:
            found.append(evaluate(module, x).reshape(70, 4, 3))
    assert torch.equal(found[0][:, :-1], found[1][:, :-1])
    assert not torch.equal(found[0][:, -1], found[1][:, -1])
    (code,) = codes.values()
    assert code.elements == 70 * 4 * 4
    assert code.distortion.count == 64 * 4


def test_a_network_without_hidden_activations() -> None:
    module = network(Mlp(width=4, depth=1))
    assert len(activation_names(module, pictures())) == 1
    with pytest.raises(InputError, match="first_last='keep' leaves none of the inputs of 2 layers"):
        activation_names(module, pictures(), "keep")


def _scale(codebook: Message) -> float:
    exponent, inner = codebook["e"], codebook["c"]
    assert isinstance(exponent, Tensor)
    assert isinstance(inner, dict)
    scale = inner["scale"]
    assert isinstance(scale, Tensor)
    return float(scale) * 2.0 ** int(exponent)


def test_min_max_codebooks_span_all_calibration_pictures() -> None:
    """255 steps from 0, activations being rectified, to the largest of all batches."""
    module, x = network(Cnn(width=4)), pictures(100)
    quantizer = Uniform(bits=8, scheme="asymmetric", granularity="tensor", scale_dtype="float32")
    names = activation_names(module, x)
    found = observe(module, x, quantizer, names, "min-max", seed=0)
    for name, inputs in capture.activations(module, x).items():
        if name in names:
            span = float(inputs.max()) - min(0.0, float(inputs.min()))
            assert 255 * _scale(found[name]) == pytest.approx(span, rel=1e-6)


def test_layers_are_observed_a_few_at_a_time_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one or all at once: the same codebooks, in the same order."""
    module, x = network(Cnn(width=4)), pictures(40)
    quantizer = Uniform(bits=8, scheme="asymmetric", granularity="tensor")
    names = activation_names(module, x)
    whole = observe(module, x, quantizer, names, seed=0)
    monkeypatch.setattr(activation_codes, "_HELD", 1)
    assert list(activation_codes._groups(module, x, names)) == [[name] for name in names]
    single = observe(module, x, quantizer, names, seed=0)
    assert {name: pack(book) for name, book in single.items()} == {n: pack(b) for n, b in whole.items()}
    assert list(single) == names


def test_channels_have_ranges_of_their_own() -> None:
    module, x = network(Cnn(width=4)), pictures(40)
    quantizer = Uniform(bits=8, scheme="symmetric", granularity="channel", scale_dtype="float32")
    name = activation_names(module, x)[0]
    codebook = observe(module, x, quantizer, [name], "min-max", seed=0)[name]
    inputs = capture.activations(module, x)[name]
    inner, exponent = codebook["c"], codebook["e"]
    assert isinstance(inner, dict)
    assert isinstance(exponent, Tensor)
    expected = inputs.abs().amax((0, 2, 3))
    torch.testing.assert_close(127 * inner["scale"] * 2.0 ** int(exponent), expected, rtol=1e-6, atol=0)


def test_moving_averages_are_of_batches_of_32() -> None:
    module, x = network(Mlp(width=16, depth=2)), pictures(80)
    quantizer = Uniform(bits=8, scheme="asymmetric", granularity="tensor", scale_dtype="float32")
    name = activation_names(module, x)[-1]
    codebook = observe(module, x, quantizer, [name], "moving-average", seed=0)[name]
    low, high = moving_average(capture.activations(module, x)[name].split(32))
    assert 255 * _scale(codebook) == pytest.approx(high - min(0.0, low), rel=1e-5)


def test_a_percentile_clips() -> None:
    """The largest 1 % of the magnitudes lies beyond the last level."""
    module, x = network(Mlp(width=16, depth=2)), pictures(80)
    quantizer = Uniform(bits=8, scheme="asymmetric", granularity="tensor", scale_dtype="float32")
    name = activation_names(module, x)[0]
    codebook = observe(module, x, quantizer, [name], "percentile", seed=0, percent=99)[name]
    inputs = capture.activations(module, x)[name].flatten()
    end = inputs.abs().sort().values[len(inputs) - int(len(inputs) / 100) - 1]
    assert 255 * _scale(codebook) == pytest.approx(float(end), rel=1e-6)


def test_a_layer_that_is_used_twice_is_counted_twice(kept: type[Quantizer]) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared = nn.Linear(64, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(self.first(x.float().flatten(1)).relu()))

    module, x = Twice().eval(), pictures(80)
    names = activation_names(module, x)
    codebooks = observe(module, x, kept(), names, seed=0)
    expected = evaluate(module, x)
    with coded_activations(module, kept(), names, codebooks, seed=0) as codes:
        assert torch.equal(evaluate(module, x), expected)
    assert codes["shared.weight"].elements == 2 * 80 * 8


def test_a_quantizer_that_changes_its_own_parameters(kept: type[Quantizer]) -> None:
    class Learns(kept):  # type: ignore[misc, valid-type]
        name = "learns"

        @property
        def spec(self):  # type: ignore[no-untyped-def]
            seen = getattr(self, "seen", 0)
            return super().spec.model_copy(update={"parameters": {"seen": seen}})

        def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
            self.seen = 1
            return {"codes": Stream(torch.zeros_like(x), 2), "x": x}

    module, x = network(Mlp(width=4, depth=1)), pictures(3)
    with (
        pytest.raises(PluginError, match=r"learns\(seen=0\) became learns\(seen=1\)"),
        coded_activations(module, Learns(), activation_names(module, x), seed=0),
    ):
        evaluate(module, x)
