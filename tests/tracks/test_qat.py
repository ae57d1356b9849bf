import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from qbench.baselines import Baseline, make_baseline, weights_sha256
from qbench.classifier import evaluate
from qbench.codec import Code, Header, from_payload, prepare
from qbench.components import Component, Context, ImageData, Parameters, Quantizer, Trainable
from qbench.errors import ParameterError, SuiteError
from qbench.layers import weight_tensors
from qbench.message import Message, unpack
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.soft_to_hard import SoftToHard
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.uniform import Uniform
from qbench.quantizers.xnor import XNOR
from qbench.schema import Cell, Outcome, Recipe, Spec, derived_seed, digest
from qbench.tracks.qat import Qat
from qbench.tracks.weights import code_weights
from qbench.training import Training, pictures_of


class KeptParameters(Parameters):
    times: float = 1.0


class Kept(Quantizer):
    """Stores the weights themselves, times a number."""

    name = "kept"
    targets = ("weight",)
    Parameters = KeptParameters

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"x": x * self.parameters.times}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x = codes["x"]
        assert isinstance(x, Tensor)
        return x


class Gain(Quantizer, Trainable):
    """The weights times a number that is fitted as 1 and learned."""

    name = "gain"
    targets = ("weight",)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"gain": torch.ones(1)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"x": x}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x, gain = codes["x"], codebook["gain"]
        assert isinstance(x, Tensor)
        assert isinstance(gain, Tensor)
        return x * gain

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        return self.decode({"x": x}, codebook, x.shape)


COMPONENTS: dict[str, type[Component]] = {
    c.name: c
    for c in (Mlp, Cnn, Adam, Kept, Gain, Uniform, LSQ, BinaryConnect, XNOR, SoftToHard, StochasticRounding)
}


def digits() -> ImageData:
    found = load_digits()
    images = torch.from_numpy(found.images * 15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    test = torch.arange(len(labels)) % 5 == 0
    return ImageData(images[~test], labels[~test], images[test], labels[test], classes=10)


class Bench:
    """Baselines from a folder; decoding from the payload alone, in this process."""

    device = torch.device("cpu")
    data_root = Path("nowhere")

    def __init__(self, root: Path) -> None:
        self.cache_root = root
        self.data = digits()
        self.events: list[str] = []
        self.payloads: list[bytes] = []
        self.cached: dict[str, Baseline] = {}

    def build(self, kind: str, spec: Spec) -> Any:
        return COMPONENTS.get(spec.name, Component)(**spec.parameters) if spec.name != "digits" else None

    def quantizer(self, spec: Spec) -> Any:
        return self.build("quantizer", spec)

    def images(self, spec: Spec) -> ImageData:
        return self.data

    def baseline(self, recipe: Recipe) -> Baseline:
        self.events.append("baseline")
        if recipe.baseline_id not in self.cached:
            self.cached[recipe.baseline_id] = make_baseline(recipe, self, self.cache_root / "baselines")
        return self.cached[recipe.baseline_id]

    def loaded(self) -> None:
        self.events.append("loaded")

    def note(self, text: str) -> None:
        self.events.append(text)

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        self.payloads = list(payloads)
        return [from_payload(payload, self.quantizer) for payload in payloads]

    @property
    def stored(self) -> list[Path]:
        return sorted(self.cache_root.rglob("*.safetensors"))


TRAINING = {"epochs": 8, "batch_size": 32}
BUDGET = {"training": TRAINING, "finetune": {"epochs": 4}}
SHORT = {"training": {"epochs": 2, "batch_size": 32}, "finetune": {"epochs": 1}}
SCRATCH = {"training": TRAINING, "start": "scratch"}
MODEL = "mlp(width=32,depth=2)"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("cache"))


def cell_of(quantizer: str | None, budget: dict[str, Any], model: str, seed: int) -> Cell:
    return Cell(
        track="qat",
        track_version=1,
        target="weight",
        quantizer=Spec.parse(quantizer) if quantizer else None,
        model=Spec.parse(model),
        dataset=Spec(name="digits"),
        optimizer=Spec.parse("adam(lr=0.003)"),
        seed=seed,
        budget=budget,
    )


def run(
    bench: Bench,
    quantizer: str | None,
    budget: dict[str, Any] = BUDGET,
    model: str = MODEL,
    seed: int = 0,
) -> Outcome:
    bench.events.clear()
    return Qat(**budget).run(cell_of(quantizer, budget, model, seed), bench)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: m.value for name, m in outcome.measurements.items() if not m.timing}


@pytest.mark.parametrize("model", [MODEL, "cnn(width=4)"])
@pytest.mark.parametrize(
    "budget", [SHORT, {**SHORT, "start": "scratch", "finetune": {}}], ids=["float", "scratch"]
)
def test_a_code_that_keeps_the_weights_trains_exactly_as_float(
    bench: Bench, model: str, budget: dict[str, Any]
) -> None:
    """The same start, pictures, order and rates: the float model it is compared with, bit for bit."""
    outcome = run(bench, "kept", {key: value for key, value in budget.items() if value}, model)
    found = values(outcome)
    assert found["accuracy"] == found["finetuned_accuracy"]
    assert [found[name] for name in ("accuracy_drop", "flips", "kl", "lost", "gained")] == [0] * 5
    assert found["generalization_gap"] == found["finetuned_generalization_gap"]
    assert found["ptq_accuracy"] == found["baseline_accuracy"]
    assert found["sqnr_db"] is None
    assert (outcome.facts["finetuned_sha256"] == outcome.baseline_sha256) == ("start" in budget)


def test_a_code_without_information_learns_nothing(bench: Bench) -> None:
    """All pictures get the same logits, so one class, whose share of the test labels is the accuracy."""
    found = values(run(bench, "kept(times=0)", SHORT))
    shares = bench.data.test_labels.bincount() / 3.6
    for name in ("accuracy", "ptq_accuracy"):
        assert min(abs(shares - found[name])) < 1e-5
    assert found["finetuned_accuracy"] > 80


@pytest.mark.parametrize("quantizer", ["binaryconnect", "xnor"])
@pytest.mark.parametrize("budget", [BUDGET, SCRATCH], ids=["float", "scratch"])
def test_training_rescues_one_bit(bench: Bench, quantizer: str, budget: dict[str, Any]) -> None:
    """A float model's signs alone are near chance, 10 %; 30 points are ten standard errors of 360 pictures' 2.6 %."""
    found = values(run(bench, quantizer, budget))
    assert found["accuracy"] > found["ptq_accuracy"] + 30
    assert found["rate"] < 2


def test_four_learned_bits_cost_at_most_a_point(bench: Bench) -> None:
    """Mean of three seeds, within two standard errors: the deviation of lost - gained is sqrt(lost + gained)."""
    found = [values(run(bench, "lsq(bits=4,initial=mse)", seed=seed)) for seed in range(3)]
    drop = sum(one["accuracy_drop"] for one in found) / 3
    error = 100 * math.sqrt(sum(one["lost"] + one["gained"] for one in found)) / (3 * 360)
    assert error < 1
    assert drop < 1 + 2 * error
    assert all(one["finetuned_accuracy"] > 90 for one in found)


def test_the_float_model_does_not_depend_on_who_ran_before(tmp_path: Path) -> None:
    orders = itertools.permutations(["binaryconnect(rounding=stochastic)", "uniform(bits=2)"])
    found = []
    for number, order in enumerate(orders):
        bench = Bench(tmp_path / str(number))
        outcomes = {quantizer: run(bench, quantizer, SHORT) for quantizer in order}
        assert len({outcome.facts["finetuned_sha256"] for outcome in outcomes.values()}) == 1
        assert len(bench.stored) == 2
        found.append({quantizer: (values(o), o.facts) for quantizer, o in outcomes.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("quantizer", ["soft-to-hard(bits=2)", "stochastic-rounding(bits=2)"])
def test_the_same_seed_gives_the_same_numbers_and_leaves_everything_as_it_was(
    bench: Bench, quantizer: str
) -> None:
    torch.manual_seed(1)
    first = run(bench, quantizer, SHORT)
    torch.manual_seed(2)
    before = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    second = run(bench, quantizer, SHORT)
    assert before == (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())
    assert (values(first), first.facts) == (values(second), second.facts)
    assert values(run(bench, quantizer, SHORT, seed=1)) != values(first)
    for baseline in bench.cached.values():
        assert weights_sha256(baseline.module.state_dict()) == baseline.sha256


def test_float_models_are_there_before_the_clock_starts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    run(bench, "uniform(bits=4)", SHORT)
    started = bench.events.index("loaded")
    assert [" on: epoch " in event for event in bench.events[:started]] == [False, True]
    assert bench.events[started + 1 :] == [f"{Uniform(bits=4)}: epoch 1 of 1"]


def test_the_generalization_gap_is_over_pictures_trained_on(bench: Bench) -> None:
    outcome = run(bench, "kept", SCRATCH)
    baseline = next(b for b in bench.cached.values() if b.sha256 == outcome.baseline_sha256)
    data, generator = bench.data, torch.Generator().manual_seed(int(digest([0, "split"])[:15], 16))
    held = round(0.1 * len(data.train_labels))
    seen = torch.randperm(len(data.train_labels), generator=generator)[held:][:360]
    hits = int(
        (evaluate(baseline.module, data.train_images[seen]).argmax(1) == data.train_labels[seen]).sum()
    )
    expected = 100 * hits / 360 - values(outcome)["accuracy"]
    assert values(outcome)["generalization_gap"] == pytest.approx(expected, abs=1e-9)
    assert len(pictures_of(data, Training(), 0)[1]) == len(data.train_labels) - held


def test_the_first_and_last_layer_may_stay_float(bench: Bench) -> None:
    """Of 64-32-32-10 the middle weight is left: 1024 of 3466 parameters."""
    outcome = run(bench, "binaryconnect", {**SHORT, "first_last": "keep"})
    assert outcome.facts["tensors"] == 1
    assert values(outcome)["coverage"] == 1024 / (64 * 32 + 1024 + 320 + 74)


def test_a_codebook_that_is_given_counts_like_one_that_is_fitted(bench: Bench) -> None:
    weights = weight_tensors(next(iter(bench.cached.values())).module)
    for quantizer in (LSQ(bits=3), SoftToHard(bits=4), BinaryConnect()):
        books = {}
        for weight in weights:
            generator = torch.Generator().manual_seed(derived_seed(0, weight.name))
            books[weight.name] = Code(quantizer).fit(prepare(weight.parameter), Context(generator))
        fitted = code_weights(quantizer, weights, 0, bench)
        given = code_weights(quantizer, weights, 0, bench, codebooks=books)
        for one, other in zip(fitted, given, strict=True):
            assert one.coded.payload == other.coded.payload
            assert (one.coded.nbytes, one.coded.static_nbytes) == (other.coded.nbytes, 0)
            assert one.coded.entropy_bits == pytest.approx(other.coded.entropy_bits)


def test_what_was_learned_is_what_is_stored(bench: Bench) -> None:
    """A gain that was fitted again would be 1."""
    outcome = run(bench, "gain", SHORT)
    gains = []
    for payload in bench.payloads:
        _, body = Header.read(payload)
        codebook, _ = unpack(memoryview(payload)[body:])
        gains.append(float(codebook["c"]["gain"]))  # type: ignore[index, call-overload]
    assert len(gains) == 3
    assert all(0 < abs(gain - 1) < 0.5 for gain in gains)
    assert values(outcome)["accuracy"] > values(outcome)["ptq_accuracy"] - 5
    assert values(outcome)["ptq_accuracy"] == values(outcome)["baseline_accuracy"]


def test_the_facts_say_how_gradients_and_codebooks_came_about(bench: Bench) -> None:
    facts = {name: run(bench, name, SHORT).facts for name in ("lsq(bits=2)", "uniform(bits=2)")}
    assert [facts[name]["codebooks"] for name in facts] == ["learned", "fitted every 10 steps"]
    assert [facts[name]["gradient"] for name in facts] == ["own", "straight-through"]
    assert [facts[name]["epochs"] for name in facts] == [1, 1]


def test_quantizers_that_need_calibration_are_left_out() -> None:
    assert not Gptq().suits("weight", Qat.provides)
    assert LSQ().suits("weight", Qat.provides)


def test_a_budget_that_contradicts_itself() -> None:
    with pytest.raises(ParameterError, match="leave finetune out"):
        Qat(start="scratch", finetune={"epochs": 9})
    with pytest.raises(ParameterError, match="refit"):
        Qat(refit=0)


def test_a_cell_needs_a_quantizer(bench: Bench) -> None:
    with pytest.raises(SuiteError, match="name one in its grid"):
        run(bench, None, SHORT)
