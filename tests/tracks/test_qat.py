import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qbench.baselines import weights_sha256
from qbench.classifier import evaluate
from qbench.codec import Code, Header, prepare
from qbench.components import Component, Context, Examples, Quantizer, Trainable
from qbench.errors import ParameterError, SuiteError
from qbench.layers import weight_tensors
from qbench.message import Message, pack, unpack
from qbench.models.cnn import Cnn
from qbench.models.gpt import Gpt
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.pact import PACT
from qbench.quantizers.soft_to_hard import SoftToHard
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.uniform import Uniform
from qbench.quantizers.xnor import XNOR
from qbench.schema import Outcome, Target, derived_seed, digest
from qbench.tracks.qat import Qat
from qbench.tracks.weights import code_weights
from qbench.training import Training, training_examples


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


COMPONENTS: tuple[type[Component], ...] = (
    *(Mlp, Cnn, Gpt, Adam, Gain, Uniform, LSQ, PACT, BinaryConnect, XNOR, SoftToHard, StochasticRounding),
)

TRAINING = {"epochs": 8, "batch_size": 32}
BUDGET = {"training": TRAINING, "finetune": {"epochs": 4}}
SHORT = {"training": {"epochs": 2, "batch_size": 32}, "finetune": {"epochs": 1}}
SCRATCH = {"training": TRAINING, "start": "scratch"}
MODEL = "mlp(width=32,depth=2)"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, digits_bench: Callable[..., Any]) -> Any:
    return digits_bench(tmp_path_factory.mktemp("cache"), COMPONENTS)


def run(
    bench: Any,
    quantizer: str | None,
    budget: dict[str, Any] = BUDGET,
    model: str = MODEL,
    seed: int = 0,
    target: Target = "weight",
    dataset: str = "digits",
) -> Outcome:
    bench.events.clear()
    return bench.run(Qat, target, quantizer, model, budget, dataset, seed=seed)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: m.value for name, m in outcome.measurements.items() if not m.timing}


@pytest.mark.parametrize("model", [MODEL, "cnn(width=4)"])
@pytest.mark.parametrize(
    "budget", [SHORT, {**SHORT, "start": "scratch", "finetune": {}}], ids=["float", "scratch"]
)
@pytest.mark.parametrize("what", ["weights", "inputs", "both"])
def test_a_code_that_keeps_the_numbers_trains_exactly_as_float(
    bench: Any, model: str, budget: dict[str, Any], what: str
) -> None:
    """The same start, pictures, order and rates: the float model it is compared with, bit for bit."""
    budget = {key: value for key, value in budget.items() if value}
    both = {"weights": "kept"} if what == "both" else {}
    target = "weight" if what == "weights" else "activation"
    outcome = run(bench, "kept", {**budget, **both}, model, target=target)
    found = values(outcome)
    assert found["accuracy"] == found["finetuned_accuracy"]
    assert [found[name] for name in ("accuracy_drop", "flips", "kl", "lost", "gained")] == [0] * 5
    assert found["generalization_gap"] == found["finetuned_generalization_gap"]
    assert found["ptq_accuracy"] == found["baseline_accuracy"]
    assert found["sqnr_db"] is None
    assert found["rate"] > 32
    assert (outcome.facts["finetuned_sha256"] == outcome.baseline_sha256) == ("start" in budget)


def test_a_code_without_information_learns_nothing(bench: Any, digits: Examples) -> None:
    """All pictures get the same logits, so one class, whose share of the test labels is the accuracy."""
    found = values(run(bench, "kept(times=0)", SHORT))
    shares = digits.test_labels.bincount() / 3.6
    for name in ("accuracy", "ptq_accuracy"):
        assert min(abs(shares - found[name])) < 1e-5
    assert found["finetuned_accuracy"] > 80


@pytest.mark.parametrize("quantizer", ["binaryconnect", "xnor"])
@pytest.mark.parametrize("budget", [BUDGET, SCRATCH], ids=["float", "scratch"])
def test_training_rescues_one_bit(bench: Any, quantizer: str, budget: dict[str, Any]) -> None:
    """A float model's signs alone are near chance, 10 %; 30 points are ten standard errors of 360 pictures' 2.6 %."""
    found = values(run(bench, quantizer, budget))
    assert found["accuracy"] > found["ptq_accuracy"] + 30
    assert found["rate"] < 2


def test_four_learned_bits_cost_at_most_a_point(bench: Any) -> None:
    """Mean of three seeds, within two standard errors: the deviation of lost - gained is sqrt(lost + gained)."""
    found = [values(run(bench, "lsq(bits=4,initial=mse)", seed=seed)) for seed in range(3)]
    drop = sum(one["accuracy_drop"] for one in found) / 3
    error = 100 * math.sqrt(sum(one["lost"] + one["gained"] for one in found)) / (3 * 360)
    assert error < 1
    assert drop < 1 + 2 * error
    assert all(one["finetuned_accuracy"] > 90 for one in found)


def test_the_float_model_does_not_depend_on_who_ran_before(
    tmp_path: Path, digits_bench: Callable[..., Any]
) -> None:
    orders = itertools.permutations(["binaryconnect(rounding=stochastic)", "uniform(bits=2)"])
    found = []
    for number, order in enumerate(orders):
        bench = digits_bench(tmp_path / str(number), COMPONENTS)
        outcomes = {quantizer: run(bench, quantizer, SHORT) for quantizer in order}
        assert len({outcome.facts["finetuned_sha256"] for outcome in outcomes.values()}) == 1
        assert len(bench.stored) == 2
        found.append({quantizer: (values(o), o.facts) for quantizer, o in outcomes.items()})
    assert found[0] == found[1]


@pytest.mark.parametrize("quantizer", ["soft-to-hard(bits=2)", "stochastic-rounding(bits=2)"])
def test_the_same_seed_gives_the_same_numbers_and_leaves_everything_as_it_was(
    bench: Any, quantizer: str
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


def test_float_models_are_there_before_the_clock_starts(
    tmp_path: Path, digits_bench: Callable[..., Any]
) -> None:
    bench = digits_bench(tmp_path, COMPONENTS)
    run(bench, "uniform(bits=4)", SHORT)
    started = bench.events.index("loaded")
    assert set(bench.events[:started]) == {"baseline"}
    assert bench.events[started + 1 :] == ["decode", f"{Uniform(bits=4)}: epoch 1 of 1", "decode"]


def test_the_generalization_gap_is_over_pictures_trained_on(bench: Any, digits: Examples) -> None:
    outcome = run(bench, "kept", SCRATCH)
    baseline = next(b for b in bench.cached.values() if b.sha256 == outcome.baseline_sha256)
    data, generator = digits, torch.Generator().manual_seed(int(digest([0, "split"])[:15], 16))
    held = round(0.1 * len(data.train_labels))
    seen = torch.randperm(len(data.train_labels), generator=generator)[held:][:360]
    hits = int(
        (evaluate(baseline.module, data.train_inputs[seen]).argmax(1) == data.train_labels[seen]).sum()
    )
    expected = 100 * hits / 360 - values(outcome)["accuracy"]
    assert values(outcome)["generalization_gap"] == pytest.approx(expected, abs=1e-9)
    assert len(training_examples(data, Training(), 0)[1]) == len(data.train_labels) - held


def test_the_first_and_last_layer_may_stay_float(bench: Any) -> None:
    """Of 64-32-32-10 the middle weight is left: 1024 of 3466 parameters."""
    outcome = run(bench, "binaryconnect", {**SHORT, "first_last": "keep"})
    assert outcome.facts["tensors"] == 1
    assert values(outcome)["coverage"] == 1024 / (64 * 32 + 1024 + 320 + 74)


def test_a_codebook_that_is_given_counts_like_one_that_is_fitted(bench: Any) -> None:
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


def test_what_was_learned_is_what_is_stored(bench: Any) -> None:
    """A gain that was fitted again would be 1."""
    outcome = run(bench, "gain", SHORT)
    gains = []
    for payload in bench.payloads[-3:]:
        _, body = Header.read(payload)
        codebook, _ = unpack(memoryview(payload)[body:])
        gains.append(float(codebook["c"]["gain"]))  # type: ignore[index, call-overload]
    assert len(gains) == 3
    assert all(0 < abs(gain - 1) < 0.5 for gain in gains)
    assert values(outcome)["accuracy"] > values(outcome)["ptq_accuracy"] - 5
    assert values(outcome)["ptq_accuracy"] == values(outcome)["baseline_accuracy"]


def test_the_facts_say_how_gradients_and_codebooks_came_about(bench: Any) -> None:
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


def test_a_cell_needs_a_quantizer(bench: Any) -> None:
    with pytest.raises(SuiteError, match="name one in its grid"):
        run(bench, None, SHORT)


W4A4 = {"weights": "lsq(bits=4,initial=mse)"}


def test_four_learned_bits_of_weights_and_inputs_cost_at_most_a_point(bench: Any) -> None:
    """As above: mean of three seeds, within two standard errors."""
    budget, quantizer = {**BUDGET, **W4A4}, "lsq(bits=4,signed=auto,initial=mse)"
    found = [values(run(bench, quantizer, budget, seed=seed, target="activation")) for seed in range(3)]
    error = 100 * math.sqrt(sum(one["lost"] + one["gained"] for one in found)) / (3 * 360)
    assert error < 1
    assert sum(one["accuracy_drop"] for one in found) / 3 < 1 + 2 * error


def test_training_rescues_two_bits_of_weights_and_inputs(bench: Any) -> None:
    """By 15 points, more than five standard errors of 360 pictures' 2.6 %."""
    budget = {**BUDGET, "weights": "lsq(bits=2)"}
    found = values(run(bench, "lsq(bits=2,signed=auto)", budget, target="activation"))
    assert found["accuracy"] > found["ptq_accuracy"] + 15
    assert found["accuracy"] > 80


def test_bytes_of_weights_and_codebooks_of_inputs(bench: Any) -> None:
    """4 bits an element and per picture a count byte; the model's bytes are those of all weights and codebooks."""
    outcome = run(bench, "lsq(bits=4,signed=auto)", {**SHORT, **W4A4}, target="activation")
    alone = run(bench, "lsq(bits=4,initial=mse)", SHORT)
    found, other = values(outcome), values(alone)
    assert 4 + 8 / 32 <= found["rate"] < 4 + 8 / 32 + 0.2
    assert found["weight_rate"] == pytest.approx(other["rate"], abs=0.02)
    book = len(pack(Code(LSQ(signed="auto")).fit(torch.ones(1, 4), Context(torch.Generator()))))
    assert 0 < found["stored_bytes"] - other["stored_bytes"] == 2 * book
    assert found["coverage"] == other["coverage"]
    assert outcome.facts["activations"] == 2
    assert outcome.facts["weights"] == W4A4["weights"]


def test_inputs_alone_leave_weights_in_float(bench: Any) -> None:
    outcome = run(bench, "pact(bits=4)", SHORT, target="activation")
    found = values(outcome)
    assert (found["weight_rate"], found["coverage"]) == (32, 0)
    assert found["stored_bytes"] > found["float_bytes"]
    assert outcome.facts["weights"] == "float32"
    assert outcome.facts["codebooks"] == "learned"
    assert found["accuracy"] > 80


def test_codebooks_of_inputs_that_are_not_learned(bench: Any) -> None:
    outcome = run(bench, "uniform(bits=4,granularity=tensor)", {**SHORT, **W4A4}, target="activation")
    assert outcome.facts["codebooks"] == "activation: fitted every 10 steps, weight: learned"
    assert outcome.facts["gradient"] == "activation: straight-through, weight: own"
    assert values(outcome)["accuracy"] > 80


def test_bits_that_are_annealed(bench: Any) -> None:
    """From the bits there are at the end it is the plain run; from others another one, of the same rate."""
    plain = run(bench, "lsq(bits=2,initial=mse)", SHORT)
    same = run(bench, "lsq(bits=2,initial=mse)", {**SHORT, "anneal": [2, 2]})
    other = run(bench, "lsq(bits=2,initial=mse)", {**SHORT, "anneal": [8, 4]})
    assert values(same) == values(plain)
    assert values(other)["sqnr_db"] != values(plain)["sqnr_db"]
    assert values(other)["rate"] == values(plain)["rate"]
    assert other.facts["anneal"] == "8 4"
    with pytest.raises(ParameterError, match="leave anneal empty"):
        run(bench, "binaryconnect", {**SHORT, "anneal": [8]})


def test_another_data_set_to_test_on(bench: Any, digits: Examples) -> None:
    """The same pictures, half as bright; and the very same ones, where the accuracy is that of the test."""
    darker = Examples(
        digits.train_inputs, digits.train_labels, digits.test_inputs // 2, digits.test_labels, 10
    )
    bench.sets["darker"] = darker
    budget = {**SHORT, **W4A4}
    same = values(run(bench, "lsq(signed=auto)", {**budget, "transfer": "digits"}, target="activation"))
    assert same["transfer_accuracy"] == same["accuracy"]
    assert same["finetuned_transfer_accuracy"] == same["finetuned_accuracy"]
    other = values(run(bench, "lsq(signed=auto)", {**budget, "transfer": "darker"}, target="activation"))
    assert other["transfer_accuracy"] < same["accuracy"]
    assert other["accuracy"] == same["accuracy"]


def test_the_budget_names_components() -> None:
    track = Qat(weights="lsq(bits=4)", transfer="emnist-digits")
    assert [(kind, str(spec)) for kind, spec in track.named()] == [
        ("quantizer", "lsq(bits=4)"),
        ("dataset", "emnist-digits"),
    ]
    assert Qat().named() == []


def test_weights_that_do_not_fit_the_target(bench: Any) -> None:
    with pytest.raises(SuiteError, match=r"weights='lsq.*' beside target 'weight'.*leave weights out"):
        run(bench, "uniform", {**SHORT, **W4A4})
    with pytest.raises(SuiteError, match="binaryconnect.* is not meant for activations"):
        run(bench, "binaryconnect", SHORT, target="activation")
    with pytest.raises(SuiteError, match=r"weights='pact' is not meant for weights"):
        run(bench, "lsq", {**SHORT, "weights": "pact"}, target="activation")


def test_text(bench: Any) -> None:
    """Characters 0 1 2 3 0 1 ...: as float with what keeps its numbers; quantized, in bits per character as well."""
    stream = torch.arange(8 * 40 + 1) % 4
    inputs, labels = stream[:-1].view(40, 8).to(torch.uint8), stream[1:].view(40, 8)
    bench.sets["text"] = Examples(inputs[:32], labels[:32], inputs[32:], labels[32:], classes=4)
    budget = {"training": {"epochs": 2, "batch_size": 8, "validation": 0.25}, "finetune": {"epochs": 2}}
    model = "gpt(width=8,depth=1,heads=2)"
    both = values(run(bench, "kept", {**budget, "weights": "kept"}, model, 0, "activation", "text"))
    assert both["bits_per_character"] == both["finetuned_bits_per_character"]
    assert both["kl"] == both["generalization_gap"] - both["finetuned_generalization_gap"] == 0
    outcome = run(bench, "lsq(signed=auto)", {**budget, **W4A4}, model, 0, "activation", "text")
    assert outcome.facts["activations"] == len(
        weight_tensors(next(b for b in bench.cached.values() if b.sha256 == outcome.baseline_sha256).module)
    )
    found = outcome.measurements["bits_per_character"]
    assert found.n == 8 * 8
    assert found.value is not None
    assert 0 < found.value < 2 * math.log2(4)
