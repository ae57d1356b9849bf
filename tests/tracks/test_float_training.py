import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qbench import energy
from qbench.components import Examples, Model
from qbench.errors import InputError, SuiteError
from qbench.models.gpt import Gpt
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.sgd import Sgd
from qbench.schema import Cell, Outcome, Spec
from qbench.tracks.float_training import FloatTraining
from qbench.training import Training, train, training_examples

TRAINING = {"epochs": 3, "batch_size": 32, "schedule": "constant"}


class Constant(Model):
    """Says class 1, by a bias that a tiny learning rate leaves alone."""

    name = "constant"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        layer = nn.Linear(math.prod(shape), classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.bias[1] = 1.0
        return nn.Sequential(nn.Flatten(), layer)


def darker(data: Examples) -> Examples:
    return Examples(data.train_inputs, data.train_labels, data.test_inputs // 2, data.test_labels, 10)


def text() -> Examples:
    """Characters 0 1 2 3 0 1 ... in windows of 8: what follows is certain."""
    stream = torch.arange(8 * 40 + 1) % 4
    inputs, labels = stream[:-1].view(40, 8), stream[1:].view(40, 8)
    return Examples(inputs[:32].to(torch.uint8), labels[:32], inputs[32:].to(torch.uint8), labels[32:], 4)


@pytest.fixture
def bench(tmp_path: Path, digits: Examples, make_bench: Callable[..., Any]) -> Any:
    sets = {"digits": digits, "darker": darker(digits), "text": text()}
    return make_bench(tmp_path, (Mlp, Gpt, Constant, Adam, Sgd), sets)


def ran(bench: Any, model: Spec, optimizer: Spec, dataset: str = "digits", **budget: Any) -> Outcome:
    track = FloatTraining(**{"training": TRAINING, **budget})
    cell = Cell(
        track="float",
        track_version=1,
        target="weight",
        model=model,
        dataset=Spec(name=dataset),
        optimizer=optimizer,
        seed=2,
        budget=track.spec.parameters,
    )
    return track.run(cell, bench)


def value(outcome: Outcome, name: str) -> float:
    found = outcome.measurements[name].value
    assert found is not None
    return found


MLP = Spec(name="mlp", parameters={"width": 16, "depth": 1})
ADAM = Spec(name="adam", parameters={"lr": 0.003})
STILL = Spec(name="sgd", parameters={"lr": 1e-30})


def test_it_reports_the_training_that_was_done(bench: Any, digits: Examples) -> None:
    """The same recipe trained here gives the same metrics; the kept epoch's are reported."""
    outcome = ran(bench, MLP, ADAM)
    assert bench.events == ["baseline", "loaded"]
    data, training = digits, Training(**TRAINING)
    trained = train(Mlp(width=16, depth=1), Adam(lr=0.003), data, training, seed=2)
    epoch = trained.metrics["selected_epoch"] - 1
    with torch.no_grad():
        share = (trained.module(data.test_inputs).argmax(1) == data.test_labels).double().mean().item()
    assert value(outcome, "accuracy") == pytest.approx(100 * share)
    assert value(outcome, "validation_accuracy") == 100 * trained.metrics["validation_accuracy"][epoch]
    assert value(outcome, "validation_loss") == trained.metrics["validation_loss"][epoch]
    assert value(outcome, "training_loss") == trained.metrics["training_loss"][epoch]
    assert value(outcome, "last_accuracy") == 100 * trained.metrics["last_test_accuracy"]
    assert outcome.facts["selected_epoch"] == epoch + 1
    assert outcome.facts["epochs"] == 3
    assert outcome.baseline_sha256 is not None


def test_a_network_that_says_one_class(bench: Any, digits: Examples) -> None:
    """Accuracies are the shares of that class; ln(9 + e) - P(1) nats is the loss; the gap is a difference of shares."""
    outcome = ran(bench, Spec(name="constant"), STILL)
    data = digits
    _, labels = training_examples(data, Training(**TRAINING), seed=2)
    share = (data.test_labels == 1).double().mean().item()
    shown = (labels[: len(data.test_labels)] == 1).double().mean().item()
    assert value(outcome, "accuracy") == pytest.approx(100 * share)
    assert value(outcome, "last_accuracy") == pytest.approx(100 * share)
    assert value(outcome, "generalization_gap") == pytest.approx(100 * (shown - share))
    held = value(outcome, "validation_accuracy") / 100
    assert value(outcome, "validation_loss") == pytest.approx(math.log(9 + math.e) - held, rel=1e-5)
    assert outcome.measurements["validation_accuracy"].n == round(0.1 * len(data.train_labels))
    assert outcome.measurements["accuracy"].n == len(data.test_labels)


def test_operations_and_parameters_of_a_linear_layer(bench: Any, digits: Examples) -> None:
    """64 x 10 weights: 2 operations each forward, 2 for their gradient, none for the input's."""
    outcome = ran(bench, Spec(name="constant"), STILL)
    assert value(outcome, "parameters") == 650
    assert value(outcome, "training_flops") == 2 * 2 * 640
    rate = value(outcome, "examples_per_second")
    assert value(outcome, "flops_per_second") == pytest.approx(2560 * rate)
    shown = 32 * (len(training_examples(digits, Training(**TRAINING), 2)[1]) // 32)
    seconds = outcome.measurements["seconds_per_epoch"]
    assert rate * value(outcome, "seconds_per_epoch") == pytest.approx(shown)
    assert seconds.n == len(seconds.samples) == 3
    timed = {name for name, m in outcome.measurements.items() if m.timing}
    speeds = {"seconds_per_epoch", "examples_per_second", "flops_per_second"}
    assert timed == speeds | {"joules_per_epoch", "joules_per_example"}


def test_joules_are_those_of_the_counter(
    bench: Any, digits: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that moves by 3 J whenever it is read: 3 J between an epoch's ends; none, and there are no joules."""
    readings = itertools.count(0.0, 3.0)
    monkeypatch.setattr(energy, "counters", lambda *_: [])
    assert ran(bench, Spec(name="constant"), STILL).measurements["joules_per_example"].value is None
    monkeypatch.setattr(energy, "counters", lambda *_: [energy.Counter(lambda: next(readings))])
    outcome = ran(bench, Spec(name="constant"), STILL, training=TRAINING | {"epochs": 2})
    assert outcome.measurements["joules_per_epoch"].samples == [3.0, 3.0]
    assert 0 < value(outcome, "joules_per_example") <= 3.0 / min(512, len(digits.test_labels))


def test_text_is_scored_in_bits(bench: Any) -> None:
    """Of four characters in turn each is certain from the one before: far below the 2 bits of guessing."""
    model = Spec(name="gpt", parameters={"width": 16, "depth": 1, "heads": 2})
    training = {"epochs": 40, "batch_size": 8}
    outcome = ran(bench, model, Spec(name="adam", parameters={"lr": 0.01}), dataset="text", training=training)
    assert 0 < value(outcome, "bits_per_character") < 0.2
    assert value(outcome, "accuracy") == 100
    assert outcome.measurements["accuracy"].n == 64
    assert "bits_per_character" not in ran(bench, MLP, ADAM).measurements


def test_it_is_tested_on_another_data_set_as_well(bench: Any) -> None:
    """The same examples transfer exactly; a network that says one class does not mind darker ones."""
    same = ran(bench, MLP, ADAM, transfer="digits")
    assert value(same, "transfer_accuracy") == pytest.approx(value(same, "accuracy"))
    outcome = ran(bench, Spec(name="constant"), STILL, transfer="darker")
    assert value(outcome, "transfer_accuracy") == pytest.approx(value(outcome, "accuracy"))
    assert "transfer_accuracy" not in ran(bench, MLP, ADAM).measurements
    with pytest.raises(InputError, match="transfer='text'"):
        ran(bench, MLP, ADAM, transfer="text")


def test_without_validation(bench: Any) -> None:
    training = {**TRAINING, "validation": 0.0, "selection": "last"}
    outcome = ran(bench, MLP, ADAM, training=training)
    assert "validation_accuracy" not in outcome.measurements
    assert value(outcome, "last_accuracy") == pytest.approx(value(outcome, "accuracy"))


def test_a_quantizer_has_no_place_here(bench: Any) -> None:
    cell = Cell(track="float", track_version=1, target="weight", quantizer=Spec(name="uniform"))
    with pytest.raises(SuiteError, match="track 'float' has no quantizer, and its grid names uniform"):
        FloatTraining().run(cell, bench)
