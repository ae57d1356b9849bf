"""How well a quantizer codes an iid source, or the tensors of a trained model, for its bits."""

import math
import time
from collections.abc import Sequence
from typing import final

import torch
from pydantic import Field
from scipy.special import stdtrit
from torch import Tensor

from ..bandwidth import copy_bandwidth
from ..baselines import Baseline
from ..components import Parameters, Quantizer, Source, Track
from ..measuring import Coded, Distortion, code, fit
from ..schema import Cell, Measurement, Outcome, Recipe, Status, derived_seed
from ..training import Training
from ..workbench import Workbench
from . import trained
from .fidelity import DOT_LENGTH, dot_correlations
from .trained import quality, throughput
from .weights import rate_class, total

_TOLERANCE = 0.005
_CONFIDENCE = 0.999
_ROUNDING = 2.0**-24


class RateDistortionParameters(Parameters):
    """The budget: sizes of the draws for sources, the training recipe for weights."""

    elements: int = Field(65536, ge=64, le=2**26, description="values in each scored draw of a source")
    draws: int = Field(8, ge=2, le=64, description="independent draws of a source")
    fit_elements: int = Field(
        262144, ge=64, le=2**26, description="values that a static codebook is learned from"
    )
    pictures: int = Field(16, ge=1, le=4096, description="test pictures whose activations are coded")
    batches: int = Field(2, ge=1, le=64, description="minibatches whose gradients are coded")
    training: Training | None = Field(None, description="recipe of the models whose tensors are coded")


@final
class RateDistortion(Track):
    """Mean squared error and bits per element of what decodes from the bytes alone.

    - source: a codebook is learned from a sample of its own; independent draws are coded with it, each alone. A cell
      is ``impossible`` iff mean MSE < D(mean R) (1 - max(0.005, t(draws - 1, 0.999) SE)), SE the relative standard
      error between draws and D the source's rate-distortion function or a lower bound on it.
    - weight: every weight tensor of a trained model is coded with a codebook of its own, which counts in full.
    - activation: the inputs of every layer but the first. The codebook is learned on training pictures and is
      static; each test picture is a message, whose schema counts once per layer.
    - gradient: of minibatches at the trained weights, every weight's tensor a message with its own codebook.

    ``dot_correlation`` is the correlation of dot products with those of the quantized tensor: of vectors of two
    draws (``dot_correlation_both``: both quantized), or of weights with real inputs; mean over layers.
    ``gap_db`` = 10 log10(MSE / D(R)) is how far above the limit a code stays.

    ``encode_throughput`` stands beside ``copy_bandwidth``, bytes a second that the same process copies: a code of b
    bits that reads float32 from memory stays below copy_bandwidth / (4 + b/8) elements a second.
    """

    name = "rate-distortion"
    reference = "T. Berger, Rate Distortion Theory, 1971"
    version = 2
    targets = ("source", "weight", "activation", "gradient")
    Parameters = RateDistortionParameters

    def baseline(self, cell: Cell) -> Recipe | None:
        if cell.target == "source":
            return None
        return Recipe.of(cell, (self.parameters.training or Training()).model_dump())

    def estimate(self, cell: Cell) -> float:
        if cell.target == "source":
            values: int = self.parameters.elements * self.parameters.draws + self.parameters.fit_elements
            return 0.1 + 1e-6 * values
        return 0.8

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        # before the clock of the cell starts
        copying = Measurement(value=copy_bandwidth(bench.device), unit="B/s", timing=True)
        found = self._source(cell, bench) if cell.target == "source" else self._model(cell, bench)
        return found.model_copy(update={"measurements": {**found.measurements, "copy_bandwidth": copying}})

    def _model(self, cell: Cell, bench: Workbench) -> Outcome:
        recipe = self.baseline(cell)
        assert recipe is not None
        assert cell.quantizer is not None
        baseline, quantizer = bench.baseline(recipe), bench.quantizer(cell.quantizer)
        bench.loaded()
        coded = self._trained(cell, quantizer, baseline, bench)
        return coded.model_copy(
            update={"baseline_id": recipe.baseline_id, "baseline_sha256": baseline.sha256}
        )

    def _trained(self, cell: Cell, quantizer: Quantizer, baseline: Baseline, bench: Workbench) -> Outcome:
        budget = self.parameters
        if cell.target == "weight":
            return trained.weights(quantizer, baseline, budget.pictures, cell.seed, bench)
        if cell.target == "activation":
            sizes = budget.pictures, budget.fit_elements
            return trained.activations(quantizer, baseline, *sizes, cell.seed, bench)
        size = (budget.training or Training()).batch_size
        return trained.gradients(quantizer, baseline, budget.batches, size, cell.seed, bench)

    def _source(self, cell: Cell, bench: Workbench) -> Outcome:
        assert cell.quantizer is not None
        assert cell.dataset is not None
        source: Source = bench.build("dataset", cell.dataset)
        quantizer = bench.quantizer(cell.quantizer)
        data = torch.Generator().manual_seed(derived_seed("draws", cell.seed, str(cell.dataset)))
        encoder = torch.Generator(bench.device).manual_seed(derived_seed("encoder", cell.seed))
        sample = source.sample(self.parameters.fit_elements, data).to(bench.device)
        draws = [
            source.sample(self.parameters.elements, data).to(bench.device)
            for _ in range(self.parameters.draws)
        ]
        bench.loaded()
        began = time.perf_counter()
        codebook = fit(quantizer, sample, generator=encoder)
        fit_seconds = time.perf_counter() - began
        coded = [code(quantizer, draw, generator=encoder, codebook=codebook) for draw in draws]
        decoded = bench.decode([c.payload for c in coded])
        found = [Distortion.between(draw, x) for draw, x in zip(draws, decoded, strict=True)]
        rate = 8 * sum(c.nbytes for c in coded) / (self.parameters.elements * len(coded))
        limit = source.distortion_limit(rate)
        measurements = {
            **_measurements(found, [[c] for c in coded]),
            **_correlations(draws, decoded),
            "distortion_limit": Measurement(value=limit, unit="mse"),
            "fit_seconds": Measurement(value=fit_seconds, unit="s", timing=True),
            "static_bytes": Measurement(value=coded[0].static_nbytes, unit="B"),
        }
        errors = [distortion.mse for distortion in found]
        entropy_rate = measurements["entropy_rate"].value or 0.0
        error = limit_violation(errors, limit) or limit_violation(
            errors, source.distortion_limit(entropy_rate)
        )
        return Outcome(
            measurements=_with_gap(measurements, limit),
            facts={"rate_class": rate_class(coded), "limit": source.limit, "execution": "simulated"},
            status=Status.IMPOSSIBLE if error else Status.OK,
            error=error,
        )


def limit_violation(errors: list[float], limit: float) -> str | None:
    """Why these mean squared errors of independent draws cannot be, or None.

    They cannot iff mean < limit (1 - max(0.005, t(n - 1, 0.999) SE)), SE the relative standard error of the mean, where
    2^-24 is added to the root of the mean: draws are float32, so their last bits are no part of the source.

    >>> limit_violation([0.24, 0.26], 0.25) is None
    True
    """
    mean = math.fsum(errors) / len(errors)
    deviation = math.sqrt(math.fsum((e - mean) ** 2 for e in errors) / (len(errors) - 1) / len(errors))
    relative = deviation / mean if mean else 0.0
    margin = max(_TOLERANCE, float(stdtrit(len(errors) - 1, _CONFIDENCE)) * relative)
    if (math.sqrt(mean) + _ROUNDING) ** 2 >= limit * (1 - margin):
        return None
    return (
        f"mean squared error {mean:.6g} is below the limit {limit:.6g} of its rate by more than {margin:.2%}: "
        "the decoder knows what was not in the bytes"
    )


def _correlations(draws: Sequence[Tensor], decoded: Sequence[Tensor]) -> dict[str, Measurement]:
    pairs = len(draws) * (draws[0].numel() // DOT_LENGTH)
    names = ("dot_correlation", "dot_correlation_both")
    values = dot_correlations(draws, decoded)
    return {
        name: Measurement(value=value, unit="1", n=pairs) for name, value in zip(names, values, strict=True)
    }


def _measurements(units: list[Distortion], coded: list[list[Coded]]) -> dict[str, Measurement]:
    """One sample per unit, a draw of a source; ``coded`` holds the messages of each."""
    whole, messages = total(units), [c for part in coded for c in part]
    rates = [8 * sum(c.nbytes for c in part) / unit.count for part, unit in zip(coded, units, strict=True)]
    entropy = [
        sum(c.entropy_bits for c in part) / unit.count for part, unit in zip(coded, units, strict=True)
    ]
    return {
        "rate": Measurement.mean(rates, "bit/element"),
        "entropy_rate": Measurement.mean(entropy, "bit/element"),
        "mse": Measurement.mean([unit.mse for unit in units], "mse"),
        **quality(whole, len(units)),
        "encode_throughput": throughput(whole.count, messages),
    }


def _with_gap(measurements: dict[str, Measurement], limit: float) -> dict[str, Measurement]:
    mse = measurements["mse"].value
    gap = 10 * math.log10(mse / limit) if mse else None
    return {**measurements, "gap_db": Measurement(value=gap, unit="dB", n=measurements["mse"].n)}
