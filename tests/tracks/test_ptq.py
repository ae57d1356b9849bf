import itertools
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.baselines import weights_sha256
from qbench.components import Component, Context, Examples, Quantizer, Transform
from qbench.errors import InputError, ParameterError, PluginError, SpecError, SuiteError
from qbench.message import Message
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.quantizers.kmeans_hessian import KMeansHessian
from qbench.quantizers.uniform import Uniform
from qbench.schema import Cell, Outcome, Spec
from qbench.tracks.calibrated import calibration_pictures
from qbench.tracks.ptq import Ptq
from qbench.transforms.batch_norm_folding import BatchNormFolding
from qbench.transforms.bias_correction import BiasCorrection
from qbench.transforms.cross_layer_equalization import CrossLayerEqualization

SEEN: list[tuple[torch.Size, Context]] = []


class Watching(Quantizer):
    """Keeps the weights, 1 % larger, and notes what it was given."""

    name = "watching"
    targets = ("weight",)
    needs = frozenset({"gram", "loss", "importance"})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        SEEN.append((x.shape, context))
        return {"x": x * 1.01}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x = codes["x"]
        assert isinstance(x, Tensor)
        return x


class WatchingGram(Watching):
    name = "watching-gram"
    needs = frozenset({"gram"})


class Cheat(Transform):
    """Puts the float weights back."""

    name = "cheat"
    stage = "after"

    def apply(self, module: nn.Module, *, calibration: Tensor, original: nn.Module) -> nn.Module:
        return original


class Attic(Transform):
    """Adds a layer that no picture reaches."""

    name = "attic"
    stage = "before"

    def apply(self, module: nn.Module, *, calibration: Tensor, original: nn.Module) -> nn.Module:
        assert len(calibration) == 0
        changed = deepcopy(module)
        changed.attic = nn.Linear(10, 30)
        return changed


COMPONENTS: tuple[type[Component], ...] = (
    *(Mlp, Cnn, Adam, Uniform, KMeansHessian, Watching, WatchingGram),
    *(BatchNormFolding, CrossLayerEqualization, BiasCorrection, Cheat, Attic),
)

BUDGET = {"training": {"epochs": 8, "batch_size": 32}}
MODEL = "mlp(width=32,depth=2)"
# weights and biases of 64-32-32-10, mean and deviation of the one channel
WEIGHTS = (64 * 32, 32 * 32, 32 * 10)
PARAMETERS = sum(WEIGHTS) + 32 + 32 + 10


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, digits_bench: Callable[..., Any]) -> Any:
    return digits_bench(tmp_path_factory.mktemp("baselines"), COMPONENTS)


def run(
    bench: Any,
    quantizer: str,
    model: str = MODEL,
    budget: dict[str, Any] = BUDGET,
    optimizer: str = "adam(lr=0.003)",
) -> Outcome:
    bench.events.clear()
    return bench.run(Ptq, "weight", quantizer, model, budget, optimizer=optimizer)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: found.value for name, found in outcome.measurements.items()}


def test_weights_that_come_back_exactly_change_nothing(bench: Any) -> None:
    found = values(run(bench, "kept"))
    assert found["accuracy"] == found["baseline_accuracy"]
    assert [found[name] for name in ("accuracy_drop", "flips", "kl", "lost", "gained")] == [0] * 5
    assert found["sqnr_db"] is None
    assert found["cosine"] == pytest.approx(1, abs=1e-15)
    assert found["baseline_accuracy"] > 85


def test_bytes_of_weights_kept_in_float32(bench: Any) -> None:
    """32 bits and the message around them: under 40 bytes for each of three tensors."""
    found = values(run(bench, "kept"))
    elements = sum(WEIGHTS)
    assert 32 < found["rate"] < 32 + 8 * 3 * 40 / elements
    assert found["entropy_rate"] == pytest.approx(found["rate"])
    assert found["float_bytes"] == 4 * (PARAMETERS + 2)
    added = (found["rate"] - 32) * elements / 8
    assert found["stored_bytes"] == pytest.approx(4 * (PARAMETERS + 2) + added)
    assert found["model_rate"] == pytest.approx(8 * found["stored_bytes"] / PARAMETERS)
    assert found["coverage"] == elements / PARAMETERS


def test_eight_bits_take_a_byte_each(bench: Any) -> None:
    """255 levels pack as 8 bits; what stays in float32 and the messages come on top."""
    found = values(run(bench, "rounding(bits=8)"))
    messages = found["stored_bytes"] - sum(WEIGHTS) - 4 * (32 + 32 + 10 + 2)
    assert 0 < messages < 3 * 40
    assert found["rate"] == pytest.approx(8 + 8 * messages / sum(WEIGHTS))


def test_sqnr_is_total_energy_over_total_error(bench: Any) -> None:
    """A weight w that comes back as 1.01 w has error 1e-4 w^2: 40 dB, up to float32's 6e-8 / 0.01."""
    found = values(run(bench, "kept(times=1.01)"))
    assert found["sqnr_db"] == pytest.approx(40, abs=1e-3)
    assert found["cosine"] == pytest.approx(1, abs=1e-9)


def test_weights_of_zero_leave_one_class(bench: Any) -> None:
    """All pictures get the same logits, so one class, whose share of the test labels is the accuracy."""
    outcome = run(bench, "kept(times=0)")
    found = values(outcome)
    shares = bench.data(Spec(name="digits")).test_labels.bincount() / 3.6
    assert min(abs(shares - found["accuracy"])) < 1e-5
    assert found["sqnr_db"] == pytest.approx(0, abs=1e-12)
    assert found["cosine"] == 0
    assert found["lost"] - found["gained"] == pytest.approx(3.6 * found["accuracy_drop"])
    assert outcome.measurements["accuracy"].n == 360


def test_overflowing_logits_are_a_result_without_kl(bench: Any) -> None:
    outcome = run(bench, "kept(times=1e30)")
    assert outcome.measurements["kl"].value is None
    assert outcome.measurements["accuracy"].value is not None


def test_fewer_bits_are_worse(bench: Any) -> None:
    rows = [values(run(bench, f"rounding(bits={bits})")) for bits in (8, 4, 2)]
    for finer, coarser in itertools.pairwise(rows):
        assert finer["kl"] < coarser["kl"]
        assert finer["sqnr_db"] > coarser["sqnr_db"]
        assert finer["rate"] > coarser["rate"]
    assert rows[0]["flips"] <= 100 * 2 / 360


def test_the_model_is_untouched_and_named(bench: Any) -> None:
    outcome = run(bench, "rounding(bits=2)")
    (baseline,) = [b for b in bench.cached.values() if b.baseline_id == outcome.baseline_id]
    assert weights_sha256(baseline.module.state_dict()) == baseline.sha256 == outcome.baseline_sha256


def test_the_clock_starts_once_the_baseline_is_there(bench: Any) -> None:
    run(bench, "rounding")
    assert bench.events == ["baseline", "loaded", "decode"]


def test_the_same_cell_twice_gives_the_same_numbers(bench: Any) -> None:
    first, second = (run(bench, "kept(noise=0.1)") for _ in range(2))
    timeless = [
        {name: found for name, found in outcome.measurements.items() if not found.timing}
        for outcome in (first, second)
    ]
    assert timeless[0] == timeless[1]
    assert first.facts == second.facts
    assert set(first.measurements) - set(timeless[0]) == {"quantize_seconds"}


def test_first_and_last_layer_kept(bench: Any) -> None:
    outcome = run(bench, "rounding(bits=2)", budget={**BUDGET, "first_last": "keep"})
    found = values(outcome)
    assert found["coverage"] == WEIGHTS[1] / PARAMETERS
    assert outcome.facts["first_last"] == "keep"
    assert outcome.facts["tensors"] == 1
    assert found["kl"] < values(run(bench, "rounding(bits=2)"))["kl"]


def test_a_policy_that_leaves_nothing(bench: Any) -> None:
    with pytest.raises(InputError, match="first_last='keep' leaves none of 2 weights to quantize"):
        run(
            bench,
            "rounding",
            model="mlp(width=4,depth=1)",
            budget={"training": {"epochs": 1}, "first_last": "keep"},
        )


def test_facts(bench: Any) -> None:
    assert run(bench, "rounding").facts == {
        "first_last": "quantize",
        "execution": "simulated",
        "energy": "estimated",
        "rate_class": "fixed",
        "selection": "validation",
        "calibration": "none",
        "tensors": 3,
    }


def test_a_cell_that_lacks_a_part(bench: Any) -> None:
    cell = Cell(track="ptq", track_version=1, target="weight")
    with pytest.raises(SpecError, match="needs model, dataset and optimizer"):
        Ptq().baseline(cell)
    with pytest.raises(SuiteError, match="lacks a quantizer"):
        Ptq().run(cell, bench)


def test_a_budget_with_a_wrong_key() -> None:
    with pytest.raises(ParameterError, match=r"'ptq' .*training\.epoch"):
        Ptq(training={"epoch": 3})


def test_what_a_quantizer_needs_comes_from_training_pictures_and_the_quantized_prefix(bench: Any) -> None:
    """Each gram by hand: inputs of layer k in a network whose earlier layers hold 1.01 W, from the pictures drawn."""
    SEEN.clear()
    outcome = run(bench, "watching", budget={**BUDGET, "calibration": 100})
    baseline = bench.cached[outcome.baseline_id or ""]
    images, _ = calibration_pictures(baseline.data, 100, seed=0)
    quantized, names = deepcopy(baseline.module), ["network.1.weight", "network.3.weight", "network.5.weight"]
    for (shape, context), name in zip(SEEN, names, strict=True):
        weight = quantized.get_parameter(name).detach().clone()
        assert weight.shape == shape
        stem = quantized.network[: int(name.split(".")[1])]
        with torch.no_grad():
            x = stem((images.float() - quantized.mean) / quantized.std).double()
        assert context.gram is not None
        torch.testing.assert_close(context.gram.double(), x.T @ x / 100, rtol=1e-5, atol=1e-5)
        assert context.importance is not None
        assert context.importance.shape == shape
        assert bool((context.importance >= 0).all() & context.importance.any())
        quantized.get_parameter(name).data = weight * 1.01
    assert outcome.facts["calibration"] == "gram importance loss"
    assert outcome.facts["calibration_pictures"] == 100
    assert outcome.measurements["calibration_seconds"].timing
    assert values(outcome)["sqnr_db"] == pytest.approx(40, abs=1e-3)


def test_only_what_is_needed_is_given(bench: Any) -> None:
    SEEN.clear()
    outcome = run(bench, "watching-gram")
    assert all(context.gram is not None for _, context in SEEN)
    assert all(context.loss is context.importance is None for _, context in SEEN)
    assert outcome.facts["calibration_pictures"] == 256


def test_the_loss_is_in_the_units_that_the_quantizer_sees(bench: Any) -> None:
    """The first layer: the float inputs are exact, so 1.01 W loses mean |0.01 W x|^2 over outputs."""
    SEEN.clear()
    outcome = run(bench, "watching")
    baseline = bench.cached[outcome.baseline_id or ""]
    weight = baseline.module.get_parameter("network.1.weight").detach()
    exponent = torch.frexp(weight.abs().max())[1]
    _, context = SEEN[0]
    found = context.loss(1.01 * torch.ldexp(weight, -exponent))
    expected = 1e-4 * torch.einsum("oi,ij,oj->", weight, context.gram, weight) / len(weight)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_calibration_pictures_are_training_pictures(digits: Examples) -> None:
    data = digits
    images, labels = calibration_pictures(data, 50, seed=3)
    rows = [(data.train_inputs == image).flatten(1).all(1).nonzero()[0, 0] for image in images]
    assert len(images) == len(labels) == 50
    assert torch.equal(data.train_labels[torch.stack(rows)], labels)
    assert not torch.equal(images, calibration_pictures(data, 50, seed=4)[0])
    assert len(calibration_pictures(data, 10**6, seed=0)[0]) == len(data.train_inputs)


def test_kmeans_hessian_runs_with_importances(bench: Any) -> None:
    """8 levels in float32 and, as above, less than 40 bytes of message for each of three tensors."""
    outcome = run(bench, "kmeans-hessian(bits=3)")
    assert outcome.facts["calibration"] == "importance"
    found = values(outcome)
    assert 3 < found["rate"] < 3 + 8 * 3 * (32 + 40) / sum(WEIGHTS)
    assert found["kl"] < values(run(bench, "kmeans-hessian(bits=2)"))["kl"]


def test_a_weight_that_no_picture_reaches_stays_in_float32(bench: Any) -> None:
    budget = {**BUDGET, "transforms": ["attic"]}
    outcome = run(bench, "watching", budget=budget)
    assert outcome.facts["uncalibrated"] == "attic.weight"
    assert outcome.facts["tensors"] == 3
    found = values(outcome)
    assert found["coverage"] == sum(WEIGHTS) / (PARAMETERS + 330)
    assert found["stored_bytes"] == values(run(bench, "watching"))["stored_bytes"] + 4 * 330
    assert found["float_bytes"] == 4 * (PARAMETERS + 2)
    assert run(bench, "kept", budget=budget).facts["tensors"] == 4


CNN = "cnn(width=4)"
CNN_BUDGET = {"training": {"epochs": 2, "batch_size": 32}}


def test_folding_changes_sizes_and_nothing_else(bench: Any) -> None:
    """Of a normalization of c channels 4 c floats and a count go, of a convolution c floats come."""
    plain = run(bench, "kept", CNN, CNN_BUDGET)
    folded = run(bench, "kept", CNN, {**CNN_BUDGET, "transforms": ["batch-norm-folding"]})
    before, after = values(plain), values(folded)
    assert before["stored_bytes"] - after["stored_bytes"] == sum(4 * 3 * c + 8 for c in (4, 4, 8, 8))
    assert before["float_bytes"] == after["float_bytes"]
    assert after["coverage"] > before["coverage"]
    assert after["flips"] == 0
    assert after["kl"] < 1e-9
    assert folded.facts["transforms"] == "batch-norm-folding"
    assert "calibration_pictures" not in folded.facts
    assert folded.baseline_sha256 == plain.baseline_sha256


def test_all_transforms_together(bench: Any) -> None:
    """Equalized weights that are kept compute the same; the mean error of what is kept is nothing to correct."""
    names = ["bias-correction", "batch-norm-folding", "cross-layer-equalization"]
    outcome = run(bench, "kept", CNN, {**CNN_BUDGET, "transforms": names})
    found = values(outcome)
    assert found["flips"] == 0
    assert found["kl"] < 1e-9
    assert outcome.facts["transforms"] == " ".join(names)
    assert outcome.facts["calibration"] == "none"
    assert outcome.facts["calibration_pictures"] == 256
    (baseline,) = [b for b in bench.cached.values() if b.baseline_id == outcome.baseline_id]
    assert weights_sha256(baseline.module.state_dict()) == baseline.sha256


def test_bias_correction_undoes_an_error_of_the_mean(bench: Any) -> None:
    """On two bits the network with corrected biases is nearer to the float one, at the same bytes."""
    plain = values(run(bench, "rounding(bits=2)"))
    corrected = values(run(bench, "rounding(bits=2)", budget={**BUDGET, "transforms": ["bias-correction"]}))
    assert corrected["kl"] < plain["kl"]
    assert corrected["stored_bytes"] == plain["stored_bytes"]


def test_biases_that_a_correction_adds_are_counted(bench: Any) -> None:
    """The convolutions have none: 4 + 4 + 8 + 8 floats."""
    budget = {**CNN_BUDGET, "transforms": ["bias-correction"]}
    plain, corrected = (
        run(bench, "rounding(bits=2)", CNN, CNN_BUDGET),
        run(bench, "rounding(bits=2)", CNN, budget),
    )
    assert values(corrected)["stored_bytes"] - values(plain)["stored_bytes"] == 4 * 24
    assert values(corrected)["rate"] == values(plain)["rate"]


def test_a_transform_that_puts_float_weights_back(bench: Any) -> None:
    with pytest.raises(
        PluginError, match=r"after cheat the quantized weight network\.1\.weight is not what its bytes"
    ):
        run(bench, "rounding(bits=2)", budget={**BUDGET, "transforms": ["cheat"]})
