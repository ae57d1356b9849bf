import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from qbench.components import Examples, Quantizer
from qbench.data_parallel import Scheme, Simulated
from qbench.errors import ParameterError, SuiteError
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.momentum import Momentum
from qbench.quantizers.powersgd import PowerSgd
from qbench.quantizers.qsgd import QSGD
from qbench.quantizers.signsgd import SignSGD
from qbench.schema import Cell, Outcome, Spec
from qbench.tracks.gradient_compression import GradientCompression
from qbench.training import Training, train
from qbench.worker import _attempt

TRAINING = {"epochs": 4, "batch_size": 64, "validation": 0.2}
BUDGET = {"training": TRAINING, "workers": 2, "granularity": "model"}
STEPS = 4 * (round(1437 * 0.8) // 64)
MODEL = "mlp(width=16,depth=1)"
ELEMENTS = 64 * 16 + 16 + 16 * 10 + 10


class GradientKept(Quantizer):
    """Stores the numbers themselves, times a number."""

    name = "gradient-kept"
    targets = ("gradient",)

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        return {"x": x}

    def decode(self, codes, codebook, shape):
        return codes["x"]


class Halved(GradientKept):
    """Half of what it is given."""

    name = "halved"

    def encode(self, x, codebook, *, context):
        return {"x": x / 2}


class Blowing(Quantizer):
    """Makes everything far too large."""

    name = "blowing"
    targets = ("gradient",)

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        return {"x": x * 1e30}

    def decode(self, codes, codebook, shape):
        return codes["x"]


COMPONENTS = (Mlp, Cnn, Adam, SignSGD, QSGD, PowerSgd, Momentum, GradientKept, Blowing, GradientCompression)


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    make_bench: Callable[..., Any],
    kept: type[Quantizer],
    digits: Examples,
) -> Any:
    return make_bench(tmp_path_factory.mktemp("cache"), [*COMPONENTS, kept], {"digits": digits})


def cell_of(quantizer: str | None, budget: dict[str, Any], optimizer: str = "adam(lr=0.01)") -> Cell:
    return Cell(
        track="gradient-compression",
        track_version=1,
        target="gradient",
        quantizer=Spec.parse(quantizer) if quantizer else None,
        model=Spec.parse(MODEL),
        dataset=Spec(name="digits"),
        optimizer=Spec.parse(optimizer),
        budget=budget,
    )


def run(bench: Any, quantizer: str | None, optimizer: str = "adam(lr=0.01)", **changed: Any) -> Outcome:
    bench.events.clear()
    budget = {**BUDGET, **changed}
    return GradientCompression(**budget).run(cell_of(quantizer, budget, optimizer), bench)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: m.value for name, m in outcome.measurements.items() if not m.timing}


@pytest.mark.parametrize("quantizer", [None, "gradient-kept"])
def test_what_loses_nothing_is_the_uncompressed_run(bench: Any, quantizer: str | None) -> None:
    outcome = run(bench, quantizer)
    found = values(outcome)
    assert found["accuracy"] == found["baseline_accuracy"] > 80
    assert [found[name] for name in ("accuracy_drop", "kl", "flips", "lost", "gained")] == [0] * 5
    assert found["relative_variance"] == found["bias"] == 0
    assert outcome.facts["all_reducible"] is (quantizer is None)
    assert found["rate"] == pytest.approx(32, rel=0.02)
    if quantizer is None:
        assert found["up_bits"] == found["down_bits"] == 2 * STEPS * ELEMENTS * 32
        assert found["up_bits"] + found["down_bits"] == found["baseline_bits"]
        assert found["bits_to_target"] == found["baseline_bits_to_target"]


def test_bits_of_signs(bench: Any) -> None:
    """A sign for every element; mark, exponent, a float of scale and two counts beside, and a schema once."""
    outcome = run(bench, "signsgd", error_feedback=True, workers=4)
    found = values(outcome)
    messages = 4 * STEPS
    assert 0 <= found["up_bits"] - messages * 8 * (-(-ELEMENTS // 8)) < messages * 8 * 14 + 4 * 8 * 64
    assert found["down_bits"] == 3 * found["up_bits"]
    assert found["rate"] == pytest.approx(found["up_bits"] / messages / ELEMENTS)
    assert found["rate_down"] == pytest.approx(3 * found["rate"])
    assert outcome.measurements["relative_variance"].n == STEPS
    assert {name: outcome.facts[name] for name in ("workers", "execution", "error_feedback", "unbiased")} == {
        "workers": 4,
        "execution": "simulated",
        "error_feedback": True,
        "unbiased": False,
    }
    assert outcome.facts["rate_class"] == "fixed"


def test_bits_to_the_target_end_with_the_first_epoch_that_reaches_it(bench: Any, digits: Examples) -> None:
    """Against a training of our own, whose validation accuracies say which epoch that is."""
    workers = Simulated(Scheme(SignSGD(), 2, True, "model", 0))
    history: list[tuple[float, int]] = []

    def note(epoch: int, epochs: int, accuracy: float | None) -> None:
        history.append((accuracy or 0.0, 8 * sum(one.up_nbytes + one.down_nbytes for one in workers.traffic)))

    trained = train(
        Mlp(width=16, depth=1), Adam(lr=0.01), digits, Training(**TRAINING), 0, "cpu", note, backward=workers
    )
    target = sorted(accuracy for accuracy, _ in history)[1]
    found = values(run(bench, "signsgd", error_feedback=True, target_accuracy=target))
    assert found["bits_to_target"] == next(bits for accuracy, bits in history if accuracy >= target)
    best = max(trained.metrics["validation_accuracy"])
    assert found["validation_accuracy"] == 100 * best
    assert found["up_bits"] + found["down_bits"] == history[-1][1]
    if best < 1:
        assert (
            values(run(bench, "signsgd", error_feedback=True, target_accuracy=1.0))["bits_to_target"] is None
        )


def test_variance_and_bias_of_an_unbiased_code(bench: Any) -> None:
    """By lemma 3.1 at most min(n / s^2, sqrt(n) / s); the projection has no bias: 5 standard errors over steps."""
    outcome = run(bench, "qsgd(levels=4,bucket_size=64)")
    variance, bias = (outcome.measurements[name] for name in ("relative_variance", "bias"))
    assert 0.1 < variance.value <= min(64 / 16, 8 / 4)
    samples = torch.tensor(bias.samples, dtype=torch.float64)
    assert abs(bias.value) < 5 * float(samples.std()) / len(samples) ** 0.5
    assert outcome.facts["unbiased"] is True
    assert outcome.facts["rate_class"] == "coded"


def test_with_error_feedback_a_message_is_set_against_the_gradient_of_its_step(digits: Examples) -> None:
    """g stays: e = (1 - 2^-t) g is owed after t steps, g^ = (1 - 2^-t) g, and the error 4^-t; a message's is 1/4."""
    module = Mlp(width=16, depth=1).build(digits.shape, digits.classes)
    inputs, labels = digits.train_inputs[:64].float(), digits.train_labels[:64]
    found = []
    for feedback in (True, False):
        workers = Simulated(Scheme(Halved(), 2, feedback, "model", 0))
        for _ in range(3):
            workers(module, inputs, labels)
        found.append(workers.traffic[0])
    assert found[0].errors == pytest.approx([1 / 4, 1 / 16, 1 / 64], rel=1e-5)
    assert found[0].projections == pytest.approx([1 / 2, 3 / 4, 7 / 8], rel=1e-5)
    assert found[1].errors == pytest.approx([1 / 4] * 3, rel=1e-5)


def test_the_drop_is_what_was_lost_less_what_was_gained(bench: Any, digits: Examples) -> None:
    found = values(run(bench, "signsgd"))
    assert found["lost"] + found["gained"] > 0
    difference = 100 * (found["lost"] - found["gained"]) / len(digits.test_labels)
    assert found["accuracy_drop"] == pytest.approx(difference, abs=1e-9)


def test_the_learning_rate_is_chosen_on_validation(bench: Any) -> None:
    """Of a rate near zero and one that learns; float has the same choice."""
    outcome = run(bench, "signsgd", error_feedback=True, lr_factors=(1e-6, 1.0))
    assert outcome.facts["lr_factor"] == outcome.facts["baseline_lr_factor"] == 1.0
    assert outcome.facts["lr_factors"] == "1e-06 1"
    assert values(outcome)["accuracy"] > 70


def test_the_uncompressed_run_is_trained_once_and_before_the_clock_starts(
    tmp_path: Path, make_bench: Callable[..., Any], digits: Examples
) -> None:
    bench = make_bench(tmp_path, COMPONENTS, {"digits": digits})
    run(bench, "signsgd")
    loaded = bench.events.index("loaded")
    assert loaded == 4
    assert all("uncompressed" in event for event in bench.events[:loaded])
    run(bench, "signsgd")
    assert bench.events[0] == "loaded"
    run(bench, "signsgd", workers=4)
    assert "uncompressed" in bench.events[0]


def test_global_randomness_is_left_alone(bench: Any) -> None:
    before = torch.get_rng_state()
    run(bench, "signsgd")
    assert torch.equal(torch.get_rng_state(), before)


def test_collectives_are_all_reducible(bench: Any) -> None:
    outcome = run(bench, "powersgd(rank=1)", granularity="layer", error_feedback=True)
    assert outcome.facts["all_reducible"] is True
    assert values(outcome)["rate"] == pytest.approx(values(outcome)["rate_down"], rel=0.05)


def test_training_that_diverges_is_worth_a_guess(bench: Any) -> None:
    outcome = run(bench, "blowing", "momentum(lr=0.05)")
    found = values(outcome)
    assert outcome.facts["diverged"] is True
    assert found["accuracy"] == 10
    assert found["accuracy_drop"] == found["baseline_accuracy"] - 10
    assert found["up_bits"] is None


@pytest.mark.usefixtures("no_process_left")
def test_two_workers_one_killed_in_the_middle(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell fails with a row that names the worker and its end; no process is left."""
    budget = {**BUDGET, "training": {**TRAINING, "epochs": 10_000}, "execution": "gloo"}
    # the float run beside it would be as long
    monkeypatch.setattr("qbench.tracks.compressed_training.Setting.reference", lambda setting: None)

    def kill(text: str) -> None:
        for child in psutil.Process().children():
            if child.cmdline()[-1] == "1":
                os.kill(child.pid, signal.SIGKILL)

    monkeypatch.setattr(bench, "note", kill)
    answer = _attempt({"op": "cell", "cell": cell_of("signsgd", budget).model_dump(mode="json")}, bench)
    assert answer["event"] == "failed"
    assert answer["status"] == "error"
    assert "worker 1 of 2 ended with signal 9 (Killed)" in answer["error"]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"workers": 3}, "batch_size=64 has no 3 equal parts"),
        (
            {"training": {**TRAINING, "validation": 0, "selection": "last"}},
            "nothing to choose a learning rate by",
        ),
        ({"lr_factors": [0.0]}, "above 0"),
        ({"execution": "mpi"}, "gloo"),
        ({"target_accuracy": 90}, "less than or equal to 1"),
    ],
)
def test_bad_budgets_say_what_is_allowed(budget: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GradientCompression(**{**BUDGET, **budget})


def test_a_quantizer_for_weights_is_refused(bench: Any) -> None:
    with pytest.raises(SuiteError, match="is not meant for gradients"):
        run(bench, "kept")


def test_nccl_without_devices_is_refused_before_anything_is_trained(bench: Any) -> None:
    with pytest.raises(
        SuiteError, match="execution=nccl needs a CUDA device for each of 2 workers, and cpu has 0"
    ):
        run(bench, "signsgd", execution="nccl")
    assert bench.events == []
