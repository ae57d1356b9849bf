import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from qbench.baselines import Baseline, make_baseline, weights_sha256
from qbench.codec import from_payload
from qbench.components import Component, Context, ImageData, Parameters, Quantizer
from qbench.datasets.fashion_mnist import FashionMnist
from qbench.errors import InputError, ParameterError, SpecError, SuiteError
from qbench.message import Message, Stream
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.quantizers.uniform import Uniform
from qbench.schema import Cell, Outcome, Recipe, Spec
from qbench.tracks.ptq import Ptq


class RoundingParameters(Parameters):
    bits: int = 8


class Rounding(Quantizer):
    """Nearest of 2^bits - 1 levels from -1 to 1."""

    name = "rounding"
    targets = ("weight",)
    Parameters = RoundingParameters

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        half = 2 ** (self.parameters.bits - 1) - 1
        return {"codes": Stream((x * half).round() + half, 2 * half + 1)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        half = 2 ** (self.parameters.bits - 1) - 1
        stream = codes["codes"]
        assert isinstance(stream, Stream)
        return (stream.values.float() - half).reshape(shape) / half


class KeptParameters(Parameters):
    times: float = 1.0
    noise: float = 0.0


class Kept(Quantizer):
    """Stores the weights themselves, times a number, with noise from the encoder's generator."""

    name = "kept"
    targets = ("weight",)
    Parameters = KeptParameters

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        noise = torch.randn(x.shape, generator=context.generator) * self.parameters.noise
        return {"x": (x + noise) * self.parameters.times}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x = codes["x"]
        assert isinstance(x, Tensor)
        return x


COMPONENTS: dict[str, type[Component]] = {
    c.name: c for c in (Mlp, Adam, Uniform, Rounding, Kept, FashionMnist)
}


class Bench:
    """Baselines from a folder; decoding from the payload alone, in this process."""

    device = torch.device("cpu")

    def __init__(self, root: Path, load: Callable[[], ImageData]) -> None:
        self.root, self.load = root, load
        self.events: list[str] = []
        self.cached: dict[str, Baseline] = {}

    def build(self, kind: str, spec: Spec) -> Any:
        return COMPONENTS.get(spec.name, FashionMnist)(**spec.parameters)

    def quantizer(self, spec: Spec) -> Any:
        return self.build("quantizer", spec)

    def images(self, spec: Spec) -> ImageData:
        return self.load()

    def baseline(self, recipe: Recipe) -> Baseline:
        self.events.append("baseline")
        if recipe.baseline_id not in self.cached:
            self.cached[recipe.baseline_id] = make_baseline(recipe, self, self.root)
        return self.cached[recipe.baseline_id]

    def loaded(self) -> None:
        self.events.append("loaded")

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        self.events.append("decode")
        return [from_payload(payload, self.quantizer) for payload in payloads]


def digits() -> ImageData:
    found = load_digits()
    images = torch.from_numpy(found.images * 15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    test = torch.arange(len(labels)) % 5 == 0
    return ImageData(images[~test], labels[~test], images[test], labels[test], classes=10)


BUDGET = {"training": {"epochs": 8, "batch_size": 32}}
MODEL = "mlp(width=32,depth=2)"
# weights and biases of 64-32-32-10, mean and deviation of the one channel
WEIGHTS = (64 * 32, 32 * 32, 32 * 10)
PARAMETERS = sum(WEIGHTS) + 32 + 32 + 10


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("baselines"), digits)


def run(
    bench: Bench,
    quantizer: str,
    model: str = MODEL,
    budget: dict[str, Any] = BUDGET,
    optimizer: str = "adam(lr=0.003)",
) -> Outcome:
    cell = Cell(
        track="ptq",
        track_version=1,
        target="weight",
        quantizer=Spec.parse(quantizer),
        model=Spec.parse(model),
        dataset=Spec(name="digits"),
        optimizer=Spec.parse(optimizer),
        budget=budget,
    )
    bench.events.clear()
    return Ptq(**budget).run(cell, bench)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: found.value for name, found in outcome.measurements.items()}


def test_weights_that_come_back_exactly_change_nothing(bench: Bench) -> None:
    found = values(run(bench, "kept"))
    assert found["accuracy"] == found["baseline_accuracy"]
    assert [found[name] for name in ("accuracy_drop", "flips", "kl", "lost", "gained")] == [0] * 5
    assert found["sqnr_db"] is None
    assert found["cosine"] == pytest.approx(1, abs=1e-15)
    assert found["baseline_accuracy"] > 85


def test_bytes_of_weights_kept_in_float32(bench: Bench) -> None:
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


def test_eight_bits_take_a_byte_each(bench: Bench) -> None:
    """255 levels pack as 8 bits; what stays in float32 and the messages come on top."""
    found = values(run(bench, "rounding(bits=8)"))
    messages = found["stored_bytes"] - sum(WEIGHTS) - 4 * (32 + 32 + 10 + 2)
    assert 0 < messages < 3 * 40
    assert found["rate"] == pytest.approx(8 + 8 * messages / sum(WEIGHTS))


def test_sqnr_is_total_energy_over_total_error(bench: Bench) -> None:
    """A weight w that comes back as 1.01 w has error 1e-4 w^2: 40 dB, up to float32's 6e-8 / 0.01."""
    found = values(run(bench, "kept(times=1.01)"))
    assert found["sqnr_db"] == pytest.approx(40, abs=1e-3)
    assert found["cosine"] == pytest.approx(1, abs=1e-9)


def test_weights_of_zero_leave_one_class(bench: Bench) -> None:
    """All pictures get the same logits, so one class, whose share of the test labels is the accuracy."""
    outcome = run(bench, "kept(times=0)")
    found = values(outcome)
    shares = digits().test_labels.bincount() / 3.6
    assert min(abs(shares - found["accuracy"])) < 1e-5
    assert found["sqnr_db"] == pytest.approx(0, abs=1e-12)
    assert found["cosine"] == 0
    assert found["lost"] - found["gained"] == pytest.approx(3.6 * found["accuracy_drop"])
    assert outcome.measurements["accuracy"].n == 360


def test_overflowing_logits_are_a_result_without_kl(bench: Bench) -> None:
    outcome = run(bench, "kept(times=1e30)")
    assert outcome.measurements["kl"].value is None
    assert outcome.measurements["accuracy"].value is not None


def test_fewer_bits_are_worse(bench: Bench) -> None:
    rows = [values(run(bench, f"rounding(bits={bits})")) for bits in (8, 4, 2)]
    for finer, coarser in itertools.pairwise(rows):
        assert finer["kl"] < coarser["kl"]
        assert finer["sqnr_db"] > coarser["sqnr_db"]
        assert finer["rate"] > coarser["rate"]
    assert rows[0]["flips"] <= 100 * 2 / 360


def test_the_model_is_untouched_and_named(bench: Bench) -> None:
    outcome = run(bench, "rounding(bits=2)")
    (baseline,) = [b for b in bench.cached.values() if b.baseline_id == outcome.baseline_id]
    assert weights_sha256(baseline.module.state_dict()) == baseline.sha256 == outcome.baseline_sha256


def test_the_clock_starts_once_the_baseline_is_there(bench: Bench) -> None:
    run(bench, "rounding")
    assert bench.events == ["baseline", "loaded", "decode"]


def test_the_same_cell_twice_gives_the_same_numbers(bench: Bench) -> None:
    first, second = (run(bench, "kept(noise=0.1)") for _ in range(2))
    timeless = [
        {name: found for name, found in outcome.measurements.items() if not found.timing}
        for outcome in (first, second)
    ]
    assert timeless[0] == timeless[1]
    assert first.facts == second.facts
    assert set(first.measurements) - set(timeless[0]) == {"quantize_seconds"}


def test_first_and_last_layer_kept(bench: Bench) -> None:
    outcome = run(bench, "rounding(bits=2)", budget={**BUDGET, "first_last": "keep"})
    found = values(outcome)
    assert found["coverage"] == WEIGHTS[1] / PARAMETERS
    assert outcome.facts["first_last"] == "keep"
    assert outcome.facts["tensors"] == 1
    assert found["kl"] < values(run(bench, "rounding(bits=2)"))["kl"]


def test_a_policy_that_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(InputError, match="first_last='keep' leaves none of 2 weights to quantize"):
        run(
            bench,
            "rounding",
            model="mlp(width=4,depth=1)",
            budget={"training": {"epochs": 1}, "first_last": "keep"},
        )


def test_facts(bench: Bench) -> None:
    assert run(bench, "rounding").facts == {
        "first_last": "quantize",
        "execution": "simulated",
        "rate_class": "fixed",
        "selection": "validation",
        "calibration": "none",
        "tensors": 3,
    }


def test_a_cell_that_lacks_a_part(bench: Bench) -> None:
    cell = Cell(track="ptq", track_version=1, target="weight")
    with pytest.raises(SpecError, match="needs model, dataset and optimizer"):
        Ptq().baseline(cell)
    with pytest.raises(SuiteError, match="lacks a quantizer"):
        Ptq().run(cell, bench)


def test_a_budget_with_a_wrong_key() -> None:
    with pytest.raises(ParameterError, match=r"'ptq' .*training\.epoch"):
        Ptq(training={"epoch": 3})
