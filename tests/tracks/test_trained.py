"""Weights, activations and gradients of a network as messages."""

import pytest
import torch
from torch import Tensor, nn

import qbench
from qbench import plugins
from qbench.baselines import Baseline
from qbench.capture import activations, gradients
from qbench.components import Examples
from qbench.errors import InputError
from qbench.measuring import Header, decode
from qbench.tracks import trained

PICTURES, CLASSES = 300, 4


class Network(nn.Module):
    """Takes uint8 pictures of 6 x 6."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, CLASSES)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images.float() / 255)
        return logits


@pytest.fixture
def baseline() -> Baseline:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2 * PICTURES, 1, 6, 6), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (2 * PICTURES,), generator=generator)
    split = (images[:PICTURES], labels[:PICTURES], images[PICTURES:], labels[PICTURES:])
    return Baseline(Network(), Examples(*split, CLASSES), "hash", {}, "id")


class Bench:
    """Decodes here and keeps what it was given."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def decode(self, payloads: list[bytes]) -> list[Tensor]:
        self.payloads += payloads
        return [decode(payload) for payload in payloads]


def shapes(bench: Bench) -> list[tuple[int, ...]]:
    return [tuple(Header.read(payload)[0].shape) for payload in bench.payloads]


def quantizer(text: str) -> qbench.Quantizer:
    return plugins.catalog().build("quantizer", text)


def test_every_picture_of_every_hidden_layer_is_a_message(baseline: Baseline) -> None:
    bench = Bench()
    found = trained.activations(quantizer("uniform(bits=8,granularity=tensor)"), baseline, 5, 4096, 0, bench)
    # the first layer sees the picture itself; features are one channel
    assert shapes(bench) == [(1, 48)] * 5 + [(1, 8)] * 5
    assert found.facts["tensors"] == 2


def test_the_schema_counts_once_a_layer_and_the_static_codebook_apart(baseline: Baseline) -> None:
    """8 bits a value, and per picture one count byte; the schema of "codes" and its 256 levels once a layer."""
    found = trained.activations(
        quantizer("uniform(bits=8,granularity=tensor)"), baseline, 5, 4096, 0, Bench()
    ).measurements
    elements = 5 * (48 + 8)
    schema = len(qbench.message.schema({"codes": qbench.Stream(torch.zeros(1), 256)}))
    assert found["rate"].value == pytest.approx(8 * (elements + 10 * 1 + 2 * schema) / elements)
    assert found["static_bytes"].value > 0


def test_codebooks_of_activations_know_training_pictures_alone(baseline: Baseline) -> None:
    """Test pictures that are all black change nothing about the codebook."""
    data = baseline.data
    dark = Examples(
        data.train_inputs, data.train_labels, torch.zeros_like(data.test_inputs), data.test_labels, CLASSES
    )
    usual, other = Bench(), Bench()
    code = quantizer("kmeans(bits=2)")
    trained.activations(code, baseline, 1, 4096, 0, usual)
    trained.activations(code, Baseline(baseline.module, dark, "", {}, ""), 1, 4096, 0, other)
    books = [[payload[Header.read(payload)[1] :][:40] for payload in b.payloads] for b in (usual, other)]
    assert books[0] == books[1]
    assert usual.payloads != other.payloads


def test_lossless_codes_keep_every_dot_product(baseline: Baseline) -> None:
    code = quantizer("topk(fraction=1.0,value_dtype=float32)")
    for found in (
        trained.weights(code, baseline, 8, 0, Bench()),
        trained.activations(code, baseline, 8, 4096, 0, Bench()),
    ):
        assert found.measurements["mse"].value == 0
        assert found.measurements["dot_correlation"].value == pytest.approx(1, abs=1e-12)


def test_gradients_are_those_of_disjoint_minibatches(baseline: Baseline) -> None:
    code, bench = quantizer("topk(fraction=1.0,value_dtype=float32)"), Bench()
    found = trained.gradients(code, baseline, 2, 150, 0, bench)
    assert shapes(bench) == [(3, 1, 3, 3), (8, 48), (CLASSES, 8)] * 2
    assert found.measurements["static_bytes"].value == 0
    # two halves of all pictures: their mean is the gradient over everything
    sent = [decode(payload) for payload in bench.payloads]
    whole = gradients(baseline.module, baseline.data.train_inputs, baseline.data.train_labels)
    for first, second, expected in zip(sent[:3], sent[3:], whole.values(), strict=True):
        torch.testing.assert_close((first + second) / 2, expected, rtol=1e-4, atol=1e-6)


def test_error_is_that_of_the_captured_activations(baseline: Baseline) -> None:
    """Of all hidden layers together, from the payloads themselves."""
    bench = Bench()
    found = trained.activations(quantizer("uniform(bits=4,granularity=tensor)"), baseline, 6, 4096, 0, bench)
    scored = activations(baseline.module, baseline.data.test_inputs[:6])
    x = torch.cat([scored["layers.3.weight"].reshape(-1), scored["layers.5.weight"].reshape(-1)])
    y = torch.cat([decode(payload).reshape(-1) for payload in bench.payloads])
    assert found.measurements["mse"].value == pytest.approx(float((x - y).double().square().mean()))


def test_a_network_of_one_layer_has_no_activations(baseline: Baseline) -> None:
    single = nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES))
    single.forward = lambda images, run=single.forward: run(images.float())
    with pytest.raises(InputError, match="one layer"):
        trained.activations(
            quantizer("binary"), Baseline(single, baseline.data, "", {}, ""), 2, 64, 0, Bench()
        )
