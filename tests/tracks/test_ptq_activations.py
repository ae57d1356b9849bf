"""Target activation of track ptq: a small network of the digits, its bytes and bit operations counted by hand."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from qbench.baselines import Baseline, make_baseline
from qbench.codec import from_payload
from qbench.components import Component, Context, Examples, Quantizer
from qbench.datasets.digits import Digits
from qbench.errors import ParameterError, SuiteError
from qbench.message import Message, Stream
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.models.resnet18 import ResNet18
from qbench.optimizers.adam import Adam
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.uniform import Uniform
from qbench.schema import Cell, Outcome, Recipe, Spec
from qbench.tracks.calibrated import calibration_pictures
from qbench.tracks.ptq import Ptq
from qbench.tracks.scores import quality
from qbench.transforms.batch_norm_folding import BatchNormFolding
from qbench.transforms.bias_correction import BiasCorrection


class Kept(Quantizer):
    """Sends the values themselves."""

    name = "kept"
    targets = ("weight", "activation")

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"x": x}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x = codes["x"]
        assert isinstance(x, Tensor)
        return x.reshape(shape)


class Rounding(Quantizer):
    """255 levels between the ends of what was fitted; the scale is in the codebook."""

    name = "rounding"
    targets = ("activation",)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": x.abs().max() / 127}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"codes": Stream((x / codebook["scale"]).round().clamp(-127, 127) + 127, 255)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        stream, scale = codes["codes"], codebook["scale"]
        assert isinstance(stream, Stream)
        assert isinstance(scale, Tensor)
        return (stream.values.float() - 127).reshape(shape) * scale


class OfWeights(Kept):
    name = "of-weights"
    targets = ("weight",)


COMPONENTS: dict[str, type[Component]] = {
    c.name: c
    for c in (
        *(Mlp, Cnn, ResNet18, Adam, Uniform, Gptq, Kept, Rounding, OfWeights, Digits),
        *(BatchNormFolding, BiasCorrection),
    )
}


def digits() -> Examples:
    found = load_digits()
    images = torch.from_numpy(found.images * 15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    test = torch.arange(len(labels)) % 5 == 0
    return Examples(images[~test], labels[~test], images[test], labels[test], classes=10)


class Bench:
    """Baselines from a folder; decoding from the payload alone, in this process."""

    device = torch.device("cpu")

    def __init__(self, root: Path) -> None:
        self.root = self.data_root = root
        self.cached: dict[str, Baseline] = {}

    def build(self, kind: str, spec: Spec) -> Any:
        return COMPONENTS[spec.name](**spec.parameters)

    def quantizer(self, spec: Spec) -> Any:
        return self.build("quantizer", spec)

    def data(self, spec: Spec) -> Examples:
        return digits()

    def baseline(self, recipe: Recipe) -> Baseline:
        if recipe.baseline_id not in self.cached:
            self.cached[recipe.baseline_id] = make_baseline(recipe, self, self.root)
        return self.cached[recipe.baseline_id]

    def loaded(self) -> None:
        pass

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        return [from_payload(payload, self.quantizer) for payload in payloads]


TRAINING = {"training": {"epochs": 8, "batch_size": 32}}
MLP, CNN = "mlp(width=32,depth=2)", "cnn(width=4)"
W8 = "uniform(bits=8,granularity=channel)"
A8 = "uniform(bits=8,granularity=tensor,scheme=asymmetric)"
TEST, PARAMETERS = 360, 64 * 32 + 32 * 32 + 32 * 10 + 32 + 32 + 10
FLOAT_BYTES = 4 * (PARAMETERS + 2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("baselines"))


def run(bench: Bench, quantizer: str, model: str = MLP, target: str = "activation", **budget: Any) -> Outcome:
    cell = Cell(
        track="ptq",
        track_version=2,
        target=target,
        quantizer=Spec.parse(quantizer),
        model=Spec.parse(model),
        dataset=Spec(name="digits"),
        optimizer=Spec.parse("adam(lr=0.003)"),
        budget={**TRAINING, **budget},
    )
    return Ptq(**cell.budget).run(cell, bench)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: found.value for name, found in outcome.measurements.items()}


def test_activations_that_are_kept_change_nothing(bench: Bench) -> None:
    """32 bits an element; a shape of one dimension or two takes two or three bytes for 32 floats."""
    outcome = run(bench, "kept")
    found = values(outcome)
    assert found["accuracy"] == found["baseline_accuracy"] > 85
    assert [found[name] for name in ("accuracy_drop", "flips", "kl", "lost", "gained")] == [0] * 5
    assert found["sqnr_db"] is None
    schema = 8 * 4 / (TEST * 64)
    assert found["rate"] == pytest.approx(32 + 8 * 3 / 32 + 2 * schema, rel=1e-12)
    assert found["weight_rate"] == 32
    assert found["coverage"] == 0
    assert outcome.facts["weights"] == "float32"
    assert outcome.facts["tensors"] == 0


def test_static_codebooks_are_stored_and_codes_are_the_rate(bench: Bench) -> None:
    """Each of two layers: 360 messages of 33 bytes and one schema of 10; a codebook of 23 bytes."""
    found = values(run(bench, "rounding"))
    assert found["rate"] == 8 * (TEST * 33 + 10) / (TEST * 32)
    assert found["stored_bytes"] == FLOAT_BYTES + 2 * 23
    assert found["model_rate"] == 8 * (FLOAT_BYTES + 46) / PARAMETERS
    assert found["flips"] <= 100 * 2 / TEST
    assert 40 < found["sqnr_db"] < 60


def test_dynamic_codebooks_are_in_the_rate_and_not_stored(bench: Bench) -> None:
    outcome = run(bench, "rounding", mode="dynamic")
    found = values(outcome)
    assert found["rate"] == 8 * (TEST * 41 + 43) / (TEST * 32)
    assert found["stored_bytes"] == FLOAT_BYTES
    assert outcome.facts["mode"] == "dynamic"
    assert outcome.facts["coding"] == "by sample"
    assert outcome.facts["scales"] == "with each sample"
    assert not {"observer", "calibration_id"} & set(outcome.facts)
    assert "calibration_seconds" not in outcome.measurements


def test_scales_by_group_are_each_samples_own_and_the_facts_say_so(bench: Bench) -> None:
    """Nothing is clipped where calibration ended: at 16 bits twice as many dB come back as with a stored scale."""
    found = {
        granularity: run(bench, f"uniform(bits=16,granularity={granularity})")
        for granularity in ("tensor", "group")
    }
    assert [outcome.facts["scales"] for outcome in found.values()] == ["stored", "with each sample"]
    stored, own = (values(outcome) for outcome in found.values())
    assert own["sqnr_db"] > stored["sqnr_db"] + 20
    assert own["rate"] > stored["rate"] + 8 * 2 / 32


def test_bit_operations_by_hand(bench: Bench) -> None:
    """Float weights; the first layer reads 8-bit pictures, the others codes of 4 bits."""
    outcome = run(bench, "uniform(bits=4,granularity=tensor)")
    found = values(outcome)
    macs = 64 * 32 + 32 * 32 + 32 * 10
    operations = 32 * (64 * 32 * 8 + (32 * 32 + 32 * 10) * 4)
    assert found["bops"] == operations
    assert found["float_bops"] == macs * 1024
    assert found["effective_bits"] == pytest.approx((operations / macs) ** 0.5)
    assert 0 < found["energy"] < found["float_energy"]
    assert outcome.facts["energy"] == "estimated"


def test_bit_operations_of_quantized_weights_alone(bench: Bench) -> None:
    """Float activations, the picture too: every layer multiplies 8 by 32 bits."""
    found = values(run(bench, "uniform(bits=8,granularity=tensor)", target="weight"))
    assert found["bops"] / found["float_bops"] == 8 / 32
    assert "weight_rate" not in found


@pytest.mark.parametrize("model", [MLP, CNN])
@pytest.mark.parametrize("observer", ["min-max", "moving-average", "percentile", "mse"])
def test_eight_bits_of_weights_and_activations_are_as_good_as_float(
    bench: Bench, model: str, observer: str
) -> None:
    """At most two of 360 pictures to either side."""
    outcome = run(bench, A8, model, weights=W8, observer=observer)
    found = values(outcome)
    assert abs(found["lost"] - found["gained"]) <= 2
    assert found["flips"] <= 100 * 4 / TEST
    assert found["kl"] < 1e-3
    assert 8 < found["rate"] < 8.3
    assert 8 < found["weight_rate"] < 10
    assert found["coverage"] > 0.95
    assert outcome.facts["observer"] == observer
    assert outcome.facts["coding"] == "batched"
    assert ("percentile" in outcome.facts) == (observer == "percentile")


def test_fewer_bits_are_worse_and_a_clip_helps_at_few(bench: Bench) -> None:
    def sqnr(bits: int, observer: str) -> float:
        quantizer = f"uniform(bits={bits},granularity=tensor,scheme=asymmetric)"
        return float(values(run(bench, quantizer, observer=observer))["sqnr_db"])

    assert sqnr(8, "mse") > sqnr(4, "mse") > sqnr(2, "mse")
    assert sqnr(2, "mse") > sqnr(2, "min-max")


def test_calibration_pictures_are_named(bench: Bench) -> None:
    outcome = run(bench, A8, calibration=50)
    images, _ = calibration_pictures(digits(), 50, seed=0)
    assert outcome.facts["calibration_pictures"] == 50
    assert outcome.facts["calibration_id"] == hashlib.sha256(images.numpy().tobytes()).hexdigest()
    assert outcome.measurements["calibration_seconds"].timing


def test_first_and_last_layer_kept(bench: Bench) -> None:
    """One layer's weight and input remain; the picture and the last layer's input are float."""
    outcome = run(bench, A8, weights=W8, first_last="keep")
    assert outcome.facts["activations"] == outcome.facts["tensors"] == 1
    assert values(outcome)["coverage"] == 32 * 32 / PARAMETERS


def test_weights_are_those_of_the_weight_target(bench: Bench) -> None:
    """The same codes, counted under names of their own."""
    alone, both = values(run(bench, W8, target="weight")), values(run(bench, "kept", weights=W8))
    for name in ("rate", "entropy_rate", "sqnr_db", "cosine"):
        assert both[f"weight_{name}"] == alone[name]
    assert both["accuracy"] == alone["accuracy"]
    assert both["kl"] == alone["kl"]


def test_activations_are_observed_with_quantized_weights_and_transforms(bench: Bench) -> None:
    """A residual network, its normalization folded, weights that need calibration: every part at once."""
    budget = {"training": {"epochs": 2, "batch_size": 64}, "observer": "min-max"}
    folded = {**budget, "transforms": ["batch-norm-folding", "bias-correction"]}
    outcome = run(bench, A8, "resnet18(width=8)", weights="gptq(bits=8,granularity=channel)", **folded)
    found = values(outcome)
    assert found["flips"] <= 100 * 20 / TEST
    assert found["kl"] < 0.05
    assert outcome.facts["activations"] == 20
    assert outcome.facts["tensors"] == 21
    assert outcome.facts["calibration"] == "gram"


def test_another_data_set_does_not_count_towards_the_rate(bench: Bench) -> None:
    plain, tested = values(run(bench, A8)), values(run(bench, A8, transfer="digits"))
    assert tested["transfer_accuracy"] == tested["accuracy"]
    assert tested["baseline_transfer_accuracy"] == tested["baseline_accuracy"]
    assert tested["rate"] == plain["rate"]
    assert "transfer_accuracy" not in plain


def test_components_in_the_budget() -> None:
    track = Ptq(transfer="digits", weights=W8, transforms=["bias-correction"])
    assert [(kind, str(spec)) for kind, spec in track.named()] == [
        ("transform", "bias-correction"),
        ("quantizer", "uniform(bits=8,granularity=channel)"),
        ("dataset", "digits"),
    ]


def test_quantizers_in_the_wrong_place(bench: Bench) -> None:
    with pytest.raises(SuiteError, match="of-weights is not meant for activations"):
        run(bench, "of-weights")
    with pytest.raises(SuiteError, match="weights='rounding' is not meant for weights"):
        run(bench, "kept", weights="rounding")
    with pytest.raises(SuiteError, match="beside target 'weight'"):
        run(bench, "kept", target="weight", weights=W8)
    with pytest.raises(ParameterError, match="observer='max'"):
        Ptq(observer="max")


def test_text_is_scored_in_bits_per_character() -> None:
    """Logits of 0 say every one of 8 characters is as likely: 3 bits. Certainty of the right one costs none."""
    labels = torch.arange(12).reshape(3, 4) % 8
    certain, even = torch.zeros(12, 8), torch.zeros(12, 8)
    certain[torch.arange(12), labels.flatten()] = 1e4
    found = quality(certain, even, labels)
    assert found["baseline_bits_per_character"].value == 0
    assert found["bits_per_character"].value == pytest.approx(3)
    assert found["accuracy"].n == 12
    assert found["lost"].unit == "characters"
    assert "bits_per_character" not in quality(certain, even, labels.flatten())
