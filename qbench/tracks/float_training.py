"""Training in floating point: what every quantized network is compared with, as a result of its own."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

from pydantic import Field
from torch import Tensor

from ..baselines import Baseline
from ..classifier import evaluate
from ..components import Examples, Kind, Parameters, Track
from ..costs import training_flops
from ..energy import joules_per_call
from ..errors import SuiteError
from ..metrics import accuracy, bits_per_character
from ..schema import Cell, Fact, Measurement, Outcome, Recipe
from ..training import Training, training_examples
from ..workbench import Workbench
from .transfer import transfer

_BATCH = 512


class FloatTrainingParameters(Parameters):
    """The budget: how the model is trained, and what else it is tested on."""

    training: Training = Field(Training(), description="recipe of the model")
    transfer: str | None = Field(
        None, description="another data set of the same shape and classes; its test examples are scored too"
    )


@final
class FloatTraining(Track):
    """A model, a data set and an optimizer, and no quantizer: the float baseline itself.

    ``accuracy`` is that of the weights that ``training`` keeps, ``last_accuracy`` that of the last epoch's, on test
    examples, which choose neither; ``validation_accuracy`` and ``validation_loss`` are of the epoch kept,
    ``training_loss`` is the mean over its steps, in nats. ``generalization_gap`` is the accuracy on examples trained on
    (as many as there are test examples, or all) less that on test examples, in percentage points. Text is also scored
    in bits per character.

    ``seconds_per_epoch`` is the mean over the passes through the training examples, without validation;
    ``examples_per_second`` goes with it, and ``flops_per_second`` is that times ``training_flops``, the operations of
    matrix products and convolutions for one example, forward and backward. They are from when the baseline was trained;
    so is ``joules_per_epoch``. ``joules_per_example`` is of inference in batches of at most 512. Joules are of the
    device's own counter, whatever else ran included; null without one (:mod:`qbench.energy`).
    """

    name = "float"
    reference = "Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, 1986"
    version = 1
    targets = ("weight",)
    extensible = False
    specified: ClassVar[Mapping[str, Kind]] = {"transfer": "dataset"}
    Parameters = FloatTrainingParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        if cell.dataset is not None and cell.dataset.name == "digits":
            return 0.2
        return 1.0 if cell.model is not None and cell.model.name in ("mlp", "gpt") else 10.0

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is not None:
            raise SuiteError(
                f"track 'float' has no quantizer, and its grid names {cell.quantizer}; leave it out"
            )
        recipe = self.baseline(cell)
        baseline = bench.baseline(recipe)
        bench.loaded()
        other = transfer(self.parameters.transfer, {"": baseline.module}, baseline.data, bench)
        return Outcome(
            measurements={
                **_accuracies(baseline),
                **self._gap(baseline, cell.seed),
                **_text_measurements(baseline),
                **other,
                **_size_and_speed(baseline),
            },
            facts=_facts(baseline.metrics, self.parameters.training),
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _gap(self, baseline: Baseline, seed: int) -> dict[str, Measurement]:
        data, count = baseline.data, len(baseline.data.test_labels)
        inputs, labels = training_examples(data, self.parameters.training, seed)
        shown = accuracy(evaluate(baseline.module, inputs[:count]), labels[:count].flatten())
        gap = 100 * (shown - accuracy(baseline.test_logits, _labels(data)))
        return {"generalization_gap": Measurement(value=gap, unit="%", n=data.test_labels.numel())}


def _labels(data: Examples) -> Tensor:
    return data.test_labels.flatten()


def _accuracies(baseline: Baseline) -> dict[str, Measurement]:
    metrics, data = baseline.metrics, baseline.data
    n, epoch = data.test_labels.numel(), metrics["selected_epoch"] - 1
    found = {
        "accuracy": Measurement(value=100 * accuracy(baseline.test_logits, _labels(data)), unit="%", n=n),
        "last_accuracy": Measurement(value=100 * metrics["last_test_accuracy"], unit="%", n=n),
        "training_loss": Measurement(value=_finite(metrics["training_loss"][epoch]), unit="nat"),
    }
    held = metrics["validation_predictions"]
    if held:
        share, loss = (metrics[f"validation_{name}"][epoch] for name in ("accuracy", "loss"))
        found["validation_accuracy"] = Measurement(value=100 * share, unit="%", n=held)
        found["validation_loss"] = Measurement(value=_finite(loss), unit="nat", n=held)
    return found


def _text_measurements(baseline: Baseline) -> dict[str, Measurement]:
    if baseline.data.inputs != "text":
        return {}
    labels = _labels(baseline.data)
    bits = bits_per_character(baseline.test_logits, labels)
    return {"bits_per_character": Measurement(value=_finite(bits), unit="bit/character", n=len(labels))}


def _size_and_speed(baseline: Baseline) -> dict[str, Measurement]:
    seconds: list[float] = baseline.metrics["epoch_seconds"]
    flops = training_flops(baseline.module, baseline.data.test_inputs[:1])
    joules: list[float] = [spent for spent in baseline.metrics.get("epoch_joules", []) if spent is not None]
    rate = len(seconds) * baseline.metrics["epoch_examples"] / math.fsum(seconds)
    return {
        "parameters": Measurement(value=sum(p.numel() for p in baseline.module.parameters()), unit="1"),
        "training_flops": Measurement(value=flops, unit="FLOP"),
        "seconds_per_epoch": Measurement.mean(seconds, "s", timing=True),
        "examples_per_second": Measurement(value=rate, unit="1/s", n=len(seconds), timing=True),
        "flops_per_second": Measurement(value=flops * rate, unit="FLOP/s", n=len(seconds), timing=True),
        "joules_per_epoch": Measurement.mean(joules, "J", timing=True)
        if joules
        else Measurement(value=None, unit="J", timing=True),
        "joules_per_example": Measurement(value=_joules_per_example(baseline), unit="J", timing=True),
    }


def _joules_per_example(baseline: Baseline) -> float | None:
    batch = baseline.data.test_inputs[:_BATCH]
    spent = joules_per_call(lambda: evaluate(baseline.module, batch, _BATCH), batch.device)
    return None if spent is None else spent / len(batch)


def _facts(metrics: dict[str, Any], training: Training) -> dict[str, Fact]:
    return {
        "epochs": metrics["epochs"],
        "selected_epoch": metrics["selected_epoch"],
        "selection": training.selection,
        "precision": metrics["precision"],
        "execution": "native",
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
