"""Target activation of track ptq: a small network of the digits, its bytes and bit operations counted by hand."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from qbench.components import Component, Examples
from qbench.errors import ParameterError, SuiteError
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.models.resnet18 import ResNet18
from qbench.optimizers.adam import Adam
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.pact import PACT
from qbench.quantizers.uniform import Uniform
from qbench.schema import Outcome, Target
from qbench.tracks.calibrated import calibration_pictures
from qbench.tracks.ptq import Ptq
from qbench.tracks.scores import quality
from qbench.transforms.batch_norm_folding import BatchNormFolding
from qbench.transforms.bias_correction import BiasCorrection

COMPONENTS: tuple[type[Component], ...] = (
    *(Mlp, Cnn, ResNet18, Adam, Uniform, Gptq, PACT, BinaryConnect, BatchNormFolding, BiasCorrection),
)
TRAINING = {"training": {"epochs": 8, "batch_size": 32}}
MLP, CNN = "mlp(width=32,depth=2)", "cnn(width=4)"
W8 = "uniform(bits=8,granularity=channel)"
A8 = "uniform(bits=8,granularity=tensor,scheme=asymmetric)"
TEST, PARAMETERS = 360, 64 * 32 + 32 * 32 + 32 * 10 + 32 + 32 + 10
FLOAT_BYTES = 4 * (PARAMETERS + 2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, digits_bench: Callable[..., Any]) -> Any:
    return digits_bench(tmp_path_factory.mktemp("baselines"), COMPONENTS)


def run(
    bench: Any, quantizer: str, model: str = MLP, target: Target = "activation", **budget: Any
) -> Outcome:
    return bench.run(Ptq, target, quantizer, model, {**TRAINING, **budget})


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: found.value for name, found in outcome.measurements.items()}


def test_activations_that_are_kept_change_nothing(bench: Any) -> None:
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


def test_static_codebooks_are_stored_and_codes_are_the_rate(bench: Any) -> None:
    """Each of two layers: 360 messages of 33 bytes and one schema of 10; a codebook of 23 bytes."""
    found = values(run(bench, "rounding"))
    assert found["rate"] == 8 * (TEST * 33 + 10) / (TEST * 32)
    assert found["stored_bytes"] == FLOAT_BYTES + 2 * 23
    assert found["model_rate"] == 8 * (FLOAT_BYTES + 46) / PARAMETERS
    assert found["flips"] <= 100 * 2 / TEST
    assert 40 < found["sqnr_db"] < 60


def test_dynamic_codebooks_are_in_the_rate_and_not_stored(bench: Any) -> None:
    outcome = run(bench, "rounding", mode="dynamic")
    found = values(outcome)
    assert found["rate"] == 8 * (TEST * 41 + 43) / (TEST * 32)
    assert found["stored_bytes"] == FLOAT_BYTES
    assert outcome.facts["mode"] == "dynamic"
    assert outcome.facts["coding"] == "by sample"
    assert outcome.facts["scales"] == "with each sample"
    assert not {"observer", "calibration_id"} & set(outcome.facts)
    assert "calibration_seconds" not in outcome.measurements


def test_scales_by_group_are_each_samples_own_and_the_facts_say_so(bench: Any) -> None:
    """Nothing is clipped where calibration ended: at 16 bits twice as many dB come back as with a stored scale."""
    found = {
        granularity: run(bench, f"uniform(bits=16,granularity={granularity})")
        for granularity in ("tensor", "group")
    }
    assert [outcome.facts["scales"] for outcome in found.values()] == ["stored", "with each sample"]
    stored, own = (values(outcome) for outcome in found.values())
    assert own["sqnr_db"] > stored["sqnr_db"] + 20
    assert own["rate"] > stored["rate"] + 8 * 2 / 32


def test_bit_operations_by_hand(bench: Any) -> None:
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


def test_bit_operations_of_quantized_weights_alone(bench: Any) -> None:
    """Float activations, the picture too: every layer multiplies 8 by 32 bits."""
    found = values(run(bench, "uniform(bits=8,granularity=tensor)", target="weight"))
    assert found["bops"] / found["float_bops"] == 8 / 32
    assert "weight_rate" not in found


@pytest.mark.parametrize("model", [MLP, CNN])
@pytest.mark.parametrize("observer", ["min-max", "moving-average", "percentile", "mse"])
def test_eight_bits_of_weights_and_activations_are_as_good_as_float(
    bench: Any, model: str, observer: str
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


def test_fewer_bits_are_worse_and_a_clip_helps_at_few(bench: Any) -> None:
    def sqnr(bits: int, observer: str) -> float:
        quantizer = f"uniform(bits={bits},granularity=tensor,scheme=asymmetric)"
        return float(values(run(bench, quantizer, observer=observer))["sqnr_db"])

    assert sqnr(8, "mse") > sqnr(4, "mse") > sqnr(2, "mse")
    assert sqnr(2, "mse") > sqnr(2, "min-max")


def test_calibration_pictures_are_named(bench: Any, digits: Examples) -> None:
    outcome = run(bench, A8, calibration=50)
    images, _ = calibration_pictures(digits, 50, seed=0)
    assert outcome.facts["calibration_pictures"] == 50
    assert outcome.facts["calibration_id"] == hashlib.sha256(images.numpy().tobytes()).hexdigest()
    assert outcome.measurements["calibration_seconds"].timing


def test_first_and_last_layer_kept(bench: Any) -> None:
    """One layer's weight and input remain; the picture and the last layer's input are float."""
    outcome = run(bench, A8, weights=W8, first_last="keep")
    assert outcome.facts["activations"] == outcome.facts["tensors"] == 1
    assert values(outcome)["coverage"] == 32 * 32 / PARAMETERS


def test_weights_are_those_of_the_weight_target(bench: Any) -> None:
    """The same codes, counted under names of their own."""
    alone, both = values(run(bench, W8, target="weight")), values(run(bench, "kept", weights=W8))
    for name in ("rate", "entropy_rate", "sqnr_db", "cosine"):
        assert both[f"weight_{name}"] == alone[name]
    assert both["accuracy"] == alone["accuracy"]
    assert both["kl"] == alone["kl"]


def test_activations_are_observed_with_quantized_weights_and_transforms(bench: Any) -> None:
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


def test_another_data_set_does_not_count_towards_the_rate(bench: Any) -> None:
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


def test_quantizers_in_the_wrong_place(bench: Any) -> None:
    with pytest.raises(SuiteError, match="binaryconnect.* is not meant for activations"):
        run(bench, "binaryconnect")
    with pytest.raises(SuiteError, match="weights='pact' is not meant for weights"):
        run(bench, "kept", weights="pact")
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
