"""How well a quantizer codes an iid source, or the weights of a trained model, for its bits."""

import math
import time
from typing import final

import torch
from pydantic import Field
from scipy.special import stdtrit

from ..components import Parameters, Source, Track
from ..layers import weight_tensors
from ..measuring import Coded, Distortion, code, fit
from ..schema import Cell, Measurement, Outcome, Recipe, Status, derived_seed
from ..training import Training
from ..workbench import Workbench
from .weights import code_weights, rate_class, total

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
    training: Training | None = Field(None, description="recipe of the models whose weights are coded")


@final
class RateDistortion(Track):
    """Mean squared error and bits per element of what decodes from the bytes alone.

    - source: a codebook is learned from a sample of its own; independent draws are coded with it, each alone. A cell
      is ``impossible`` iff mean MSE < D(mean R) (1 - max(0.005, t(draws - 1, 0.999) SE)), SE the relative standard
      error between draws and D the source's rate-distortion function or a lower bound on it.
    - weight: every weight tensor of a trained model is coded with a codebook of its own, which counts in full.

    ``gap_db`` = 10 log10(MSE / D(R)) is how far above the limit a code stays.
    """

    name = "rate-distortion"
    reference = "T. Berger, Rate Distortion Theory, 1971"
    version = 1
    targets = ("source", "weight")
    Parameters = RateDistortionParameters

    def baseline(self, cell: Cell) -> Recipe | None:
        if cell.target == "source":
            return None
        return Recipe.of(cell, (self.parameters.training or Training()).model_dump())

    def estimate(self, cell: Cell) -> float:
        if cell.target == "source":
            values: int = self.parameters.elements * self.parameters.draws + self.parameters.fit_elements
            return 0.3 + 2e-6 * values
        return 1.0

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        return self._weights(cell, bench) if cell.target == "weight" else self._source(cell, bench)

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

    def _weights(self, cell: Cell, bench: Workbench) -> Outcome:
        assert cell.quantizer is not None
        recipe = self.baseline(cell)
        assert recipe is not None
        baseline = bench.baseline(recipe)
        quantizer = bench.quantizer(cell.quantizer)
        bench.loaded()
        found = code_weights(quantizer, weight_tensors(baseline.module), cell.seed, bench)
        coded = [part.coded for part in found]
        return Outcome(
            measurements=_measurements([total([part.distortion for part in found])], [coded]),
            facts={"rate_class": rate_class(coded), "execution": "simulated", "tensors": len(found)},
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
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


def _measurements(units: list[Distortion], coded: list[list[Coded]]) -> dict[str, Measurement]:
    """One sample per unit: a draw of a source, or all weights of a model; ``coded`` holds the messages of each."""
    whole, messages = total(units), [c for part in coded for c in part]
    rates = [8 * sum(c.nbytes for c in part) / unit.count for part, unit in zip(coded, units, strict=True)]
    entropy = [
        sum(c.entropy_bits for c in part) / unit.count for part, unit in zip(coded, units, strict=True)
    ]
    throughput = whole.count / sum(c.encode_seconds for c in messages) / 1e6
    sqnr = whole.sqnr_db if math.isfinite(whole.sqnr_db) else None
    relative = whole.error / whole.energy if whole.energy else None
    return {
        "rate": Measurement.mean(rates, "bit/element"),
        "entropy_rate": Measurement.mean(entropy, "bit/element"),
        "mse": Measurement.mean([unit.mse for unit in units], "mse"),
        "relative_mse": Measurement(value=relative, unit="1", n=len(units)),
        "sqnr_db": Measurement(value=sqnr, unit="dB", n=len(units)),
        "cosine": Measurement(value=whole.cosine, unit="1", n=len(units)),
        "encode_throughput": Measurement(value=throughput, unit="Melem/s", timing=True),
    }


def _with_gap(measurements: dict[str, Measurement], limit: float) -> dict[str, Measurement]:
    mse = measurements["mse"].value
    gap = 10 * math.log10(mse / limit) if mse else None
    return {**measurements, "gap_db": Measurement(value=gap, unit="dB", n=measurements["mse"].n)}
