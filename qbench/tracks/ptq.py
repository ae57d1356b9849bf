"""Post-training quantization: a trained model with quantized weights against the same model in float32."""

import math
from collections.abc import Sequence
from typing import Literal, final

from pydantic import Field
from torch import Tensor, nn

from ..classifier import evaluate
from ..components import Parameters, Track
from ..errors import InputError, SuiteError
from ..layers import Weight, swapped_weights, weight_tensors
from ..metrics import accuracy, flips, kl, mcnemar
from ..schema import Cell, Fact, Measurement, Outcome, Recipe
from ..training import Training
from ..workbench import Workbench
from .weights import CodedWeight, code_weights, rate_class, total


class PtqParameters(Parameters):
    """The budget: how the float model is trained, and which of its layers are quantized."""

    training: Training = Field(Training(), description="recipe of the float model")
    first_last: Literal["quantize", "keep"] = Field(
        "quantize", description="what happens to the first and last layer"
    )


@final
class Ptq(Track):
    """Weights only, no calibration: each weight tensor is coded with its own codebook and decoded elsewhere.

    ``rate`` = 8 bytes / elements over the quantized weights; ``model_rate`` counts all that must be stored,
    float32 leftovers included, per parameter. ``accuracy_drop`` is in percentage points, ``kl`` goes from the
    float model's softmax to the quantized one's. ``lost`` and ``gained`` are pictures that only the float or
    only the quantized model gets right.
    """

    name = "ptq"
    reference = "Nagel et al., A white paper on neural network quantization, 2021, section 3"
    version = 1
    targets = ("weight",)
    Parameters = PtqParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        if cell.dataset is not None and cell.dataset.name == "digits":
            return 0.1
        return 0.5 if cell.model is not None and cell.model.name == "mlp" else 6.0

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is None:
            raise SuiteError("a cell of track 'ptq' lacks a quantizer; name one in its grid")
        recipe = self.baseline(cell)
        baseline = bench.baseline(recipe)
        float_logits = baseline.test_logits
        quantizer = bench.quantizer(cell.quantizer)
        bench.loaded()
        chosen = chosen_weights(baseline.module, self.parameters.first_last)
        quantized = code_weights(quantizer, chosen, cell.seed, bench)
        with swapped_weights(baseline.module, {q.weight.name: q.decoded for q in quantized}):
            logits = evaluate(baseline.module, baseline.images.test_images)
        return Outcome(
            measurements={
                **_quality(float_logits, logits, baseline.images.test_labels),
                **_size(baseline.module, quantized),
                **_distortion(quantized),
            },
            facts=self._facts(quantized),
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _facts(self, quantized: Sequence[CodedWeight]) -> dict[str, Fact]:
        return {
            "first_last": self.parameters.first_last,
            "execution": "simulated",
            "rate_class": rate_class([q.coded for q in quantized]),
            "selection": self.parameters.training.selection,
            "calibration": "none",
            "tensors": len(quantized),
        }


def chosen_weights(module: nn.Module, first_last: Literal["quantize", "keep"]) -> list[Weight]:
    """The weights to quantize, in the order of their layers.

    Raises:
        InputError: the policy leaves none.
    """
    weights = weight_tensors(module)
    chosen = weights[1:-1] if first_last == "keep" else weights
    if not chosen:
        raise InputError(f"first_last={first_last!r} leaves none of {len(weights)} weights to quantize")
    return chosen


def _quality(float_logits: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Measurement]:
    pictures = len(labels)
    before, after = 100 * accuracy(float_logits, labels), 100 * accuracy(logits, labels)
    test = mcnemar(float_logits, logits, labels)
    return {
        "baseline_accuracy": Measurement(value=before, unit="%", n=pictures),
        "accuracy": Measurement(value=after, unit="%", n=pictures),
        "accuracy_drop": Measurement(value=before - after, unit="%", n=pictures),
        "flips": Measurement(value=100 * flips(float_logits, logits), unit="%", n=pictures),
        "kl": Measurement(value=_finite(kl(float_logits, logits)), unit="nat", n=pictures),
        "lost": Measurement(value=test.only_first, unit="pictures", n=pictures),
        "gained": Measurement(value=test.only_second, unit="pictures", n=pictures),
    }


def _size(module: nn.Module, quantized: Sequence[CodedWeight]) -> dict[str, Measurement]:
    """Bytes of everything a copy of the model needs: parameters and buffers, shared ones once."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    float_bytes = sum(tensor.nbytes for tensor in tensors.values())
    replaced = sum(q.weight.parameter.nbytes for q in quantized)
    code_bytes = sum(q.coded.nbytes for q in quantized)
    elements = sum(q.weight.parameter.numel() for q in quantized)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    stored = float_bytes - replaced + code_bytes
    entropy_bits = sum(q.coded.entropy_bits for q in quantized)
    seconds = [q.seconds for q in quantized]
    return {
        "rate": Measurement(value=8 * code_bytes / elements, unit="bit/element", n=len(quantized)),
        "entropy_rate": Measurement(value=entropy_bits / elements, unit="bit/element", n=len(quantized)),
        "model_rate": Measurement(value=8 * stored / parameters, unit="bit/element"),
        "stored_bytes": Measurement(value=stored, unit="B"),
        "float_bytes": Measurement(value=float_bytes, unit="B"),
        "coverage": Measurement(value=elements / parameters, unit="1"),
        "quantize_seconds": Measurement(value=math.fsum(seconds), unit="s", n=len(seconds), timing=True),
    }


def _distortion(quantized: Sequence[CodedWeight]) -> dict[str, Measurement]:
    found = total([q.distortion for q in quantized])
    return {
        "sqnr_db": Measurement(value=_finite(found.sqnr_db), unit="dB", n=len(quantized)),
        "cosine": Measurement(value=found.cosine, unit="1", n=len(quantized)),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
