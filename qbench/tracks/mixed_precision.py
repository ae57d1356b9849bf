"""Mixed precision: each layer gets bits of its own, together no more bytes than a budget allows."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator
from torch import Tensor

from ..allocation import Option, greedy, optimal, uniform, water_filling
from ..baselines import Baseline
from ..calibration import Calibration
from ..classifier import evaluate
from ..components import Parameters, Quantizer, Track
from ..errors import InputError, SuiteError
from ..layers import Weight, swapped_weights, weight_tensors
from ..metrics import kl
from ..schema import Cell, Fact, Measurement, Outcome, Recipe, Spec
from ..training import Training
from ..workbench import Workbench
from .calibrated import (
    calibration_facts,
    calibration_of,
    calibration_pictures,
    calibration_seconds,
    example_facts,
)
from .efficiency import EFFICIENCY_FACTS, efficiency
from .ptq import Ptq
from .scores import distortion_of, quality, size_of
from .sensitivity import Trial, code_each, sensitivities
from .weights import CodedWeight, rate_class

_METHODS: dict[str, Callable[[list[list[Option]], int], list[int]]] = {
    "greedy": greedy,
    "optimal": optimal,
    "uniform": uniform,
}


class MixedPrecisionParameters(Parameters):
    """The budget: how the float model is trained, what a layer may have, what all may take, and who decides."""

    training: Training = Field(Training(), description="recipe of the float model")
    choices: list[Annotated[int, Field(ge=1, le=16)]] = Field(
        [2, 3, 4, 5, 6, 8], min_length=1, description="bits that a layer may have, rising"
    )
    rate: float = Field(
        4.0, gt=0, le=32, description="bits per quantized weight on average, all bytes counted"
    )
    method: Literal["greedy", "optimal", "water-filling", "uniform"] = Field(
        "greedy", description="how the budget is shared among layers"
    )
    weighting: Literal["measured", "equal"] = Field(
        "measured", description="what a squared error costs in each layer, for method=water-filling"
    )
    calibration: int = Field(
        256, ge=1, le=2**20, description="training examples that sensitivities are measured on"
    )

    @model_validator(mode="after")
    def _choices_rise_and_weighting_is_used(self) -> Self:
        if self.choices != sorted(set(self.choices)):
            raise ValueError("choices are different numbers of bits in rising order, such as [2, 3, 4]")
        if self.weighting != "measured" and self.method != "water-filling":
            raise ValueError(f"method={self.method} has no use for a weighting; leave it out")
        return self


@final
class MixedPrecision(Track):
    """Weights only: a quantizer's ``bits`` are chosen layer by layer for a budget of bytes; scored as in ptq.

    The specification's own ``bits`` play no part. ``sensitivity`` is the KL divergence, in nats, from the float
    network's softmax to that of a network in which one layer alone is quantized, at the middle choice, layer by
    layer; all choices of all layers are measured so, on training examples. Sums of them stand for the loss of the whole
    (losses are assumed to add up): ``predicted_kl`` is that sum at the chosen bits, ``calibration_kl`` what the whole
    network has on the same examples, ``kl`` on the test examples.

    - greedy: upgrades of most sensitivity saved per byte, from the cheapest or, where that ends better, from one
      choice for all; optimal: the least sum that fits.
    - water-filling: reverse water-filling over the layers' variances, weighted by KL per squared error at the middle
      choice, or equally; real bits rounded down to choices, at the highest rate that fits; what is left goes to
      upgrades of most squared error saved, as the theory predicts it, per byte.
    - uniform: the largest choice that all layers can have.

    Reference: Shoham & Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers"; Cover & Thomas
    2006, theorem 10.3.3; one layer at a time: Nagel et al. 2021, "A white paper on neural network quantization",
    section 3.
    """

    name = "mixed-precision"
    reference = "Shoham & Gersho 1988; Cover & Thomas 2006, theorem 10.3.3"
    version = 1
    targets = ("weight",)
    provides = frozenset({"importance", "gram", "loss"})
    Parameters = MixedPrecisionParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        codings = len(self.parameters.choices) + 1
        # on few pictures the coding takes longer than the testing
        return codings * max(0.2, Ptq(training=self.parameters.training).estimate(cell))

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        quantizers = self._quantizers(cell, bench)
        recipe = self.baseline(cell)
        baseline = bench.baseline(recipe)
        bench.loaded()
        inputs, labels = calibration_pictures(baseline.data, self.parameters.calibration, cell.seed)
        calibration = calibration_of(quantizers[0], baseline.module, inputs, labels)
        weights = weight_tensors(baseline.module)
        chosen = calibration.reachable(weights) if calibration else weights
        if not chosen:
            raise InputError(f"the calibration inputs reach none of {len(weights)} weights of {cell.model}")
        table = sensitivities(baseline.module, chosen, quantizers, inputs, cell.seed, bench, calibration)
        picks, coded = self._coded(chosen, quantizers, table, cell.seed, bench, calibration)
        predicted = math.fsum(row[pick].kl for row, pick in zip(table, picks, strict=True))
        return Outcome(
            measurements={
                **_scores(baseline, inputs, coded, predicted),
                "sensitivity": _mean([row[self._middle].kl for row in table], "nat"),
                **calibration_seconds(calibration.seconds if calibration else None),
            },
            facts={
                **self._facts(coded, picks),
                **example_facts(inputs),
                **calibration_facts(calibration, weights, chosen),
            },
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    @property
    def _middle(self) -> int:
        return (len(self.parameters.choices) - 1) // 2

    def _quantizers(self, cell: Cell, bench: Workbench) -> list[Quantizer]:
        """The cell's quantizer at every choice."""
        if cell.quantizer is None:
            raise SuiteError("a cell of track 'mixed-precision' lacks a quantizer; name one in its grid")
        spec = bench.quantizer(cell.quantizer).spec
        return [bench.quantizer(with_bits(spec, bits)) for bits in self.parameters.choices]

    def _coded(
        self,
        weights: Sequence[Weight],
        quantizers: Sequence[Quantizer],
        table: Sequence[Sequence[Trial]],
        seed: int,
        bench: Workbench,
        calibration: Calibration | None,
    ) -> tuple[list[int], list[CodedWeight]]:
        """The choice for each layer and what it is coded as, in no more bytes than the budget has.

        A layer may take other bytes than alone, where it is entropy-coded behind layers that are quantized: then it
        is chosen anew, with so many bytes less.
        """
        elements = [weight.parameter.numel() for weight in weights]
        limit = budget = math.floor(self.parameters.rate * sum(elements) / 8)
        while True:
            picks = self._picks(weights, table, limit)
            named = {w.name: quantizers[pick] for w, pick in zip(weights, picks, strict=True)}
            coded = code_each(named, weights, seed, bench, calibration)
            excess = sum(q.coded.nbytes for q in coded) - budget
            if excess <= 0:
                return picks, coded
            limit -= excess

    def _picks(self, weights: Sequence[Weight], table: Sequence[Sequence[Trial]], budget: int) -> list[int]:
        if self.parameters.method != "water-filling":
            options = [[Option(trial.nbytes, trial.kl) for trial in row] for row in table]
            return _METHODS[self.parameters.method](options, budget)
        return water_filling(
            [[trial.nbytes for trial in row] for row in table],
            self.parameters.choices,
            [float(weight.parameter.detach().double().var(correction=0)) for weight in weights],
            [weight.parameter.numel() for weight in weights],
            [self._cost(row[self._middle]) for row in table],
            budget,
        )

    def _cost(self, trial: Trial) -> float:
        """What an element's squared error of 1 costs: KL per sum of squared errors, or 1."""
        if self.parameters.weighting == "equal":
            return 1.0
        return max(0.0, trial.kl) / trial.distortion.error if trial.distortion.error else 0.0

    def _facts(self, coded: Sequence[CodedWeight], picks: Sequence[int]) -> dict[str, Fact]:
        choices = self.parameters.choices
        return {
            "first_last": "quantize",
            "execution": "simulated",
            **EFFICIENCY_FACTS,
            "rate_class": rate_class([q.coded for q in coded]),
            "selection": self.parameters.training.selection,
            "tensors": len(coded),
            "method": self.parameters.method,
            "budget_rate": self.parameters.rate,
            "layers": " ".join(q.weight.name.removesuffix(".weight") for q in coded),
            "bits": " ".join(str(choices[pick]) for pick in picks),
            "sensitivity_bits": choices[self._middle],
            **({"weighting": self.parameters.weighting} if self.parameters.method == "water-filling" else {}),
        }


def with_bits(spec: Spec, bits: int) -> Spec:
    """The same quantizer, or the one that a wrapper holds, at another number of bits.

    Raises:
        SuiteError: neither it nor a quantizer inside it has a parameter ``bits``.
    """
    if "bits" in spec.parameters:
        return Spec(name=spec.name, parameters={**spec.parameters, "bits": bits})
    inner = spec.parameters.get("inner")
    if not isinstance(inner, Spec):
        raise SuiteError(
            f"track 'mixed-precision' chooses the bits of each layer, and {spec.name!r} has no parameter 'bits'; "
            "name a quantizer that has one, such as uniform, gptq or kmeans"
        )
    return Spec(name=spec.name, parameters={**spec.parameters, "inner": with_bits(inner, bits)})


def _scores(
    baseline: Baseline, inputs: Tensor, coded: Sequence[CodedWeight], predicted: float
) -> dict[str, Measurement]:
    network, data = baseline.module, baseline.data
    before = evaluate(network, inputs)
    with swapped_weights(network, {q.weight.name: q.decoded for q in coded}):
        logits, after = evaluate(network, data.test_inputs), evaluate(network, inputs)
        size = size_of(network, network, coded)
    return {
        **quality(baseline.test_logits, logits, data.test_labels),
        **size,
        **distortion_of(coded),
        **efficiency(network, network, data.test_inputs, coded, {}),
        "predicted_kl": _nats(predicted, len(before)),
        "calibration_kl": _nats(kl(before, after), len(before)),
        "layer_sqnr": _mean([q.distortion.sqnr_db for q in coded], "dB"),
    }


def _nats(value: float, predictions: int) -> Measurement:
    return Measurement(value=value if math.isfinite(value) else None, unit="nat", n=predictions)


def _mean(samples: list[float], unit: str) -> Measurement:
    """Null, with no samples, where one of them is not finite."""
    if all(map(math.isfinite, samples)):
        return Measurement.mean(samples, unit)
    return Measurement(value=None, unit=unit, n=len(samples))
