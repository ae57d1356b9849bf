"""How the error of a nested lattice code depends on beta, and where its local minima are."""

import math
from collections.abc import Sequence
from typing import Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Context, Parameters, Track
from ..errors import InvalidReconstructionError, SuiteError
from ..measuring import Distortion
from ..quantizers.lattices import lattice
from ..quantizers.nested_lattice import NestedLattice
from ..quantizers.reading import values
from ..schema import Cell, Measurement, Outcome, Recipe, Status, derived_seed
from ..training import Training
from ..workbench import Workbench
from .beta_landscape import SILENCE, Minimum, Point, decibel, minima, scan
from .lattice_data import Vectors, batched, gradient_vectors, on_sphere, source_vectors
from .lattice_origin import origin
from .lattice_survey import Survey
from .rate_distortion import limit_violation
from .weights import rate_class

_AGREEMENT = 1e-6
_MICROSECONDS = {"wrap": 0.3, "expand": 0.6, "best-of-k": 1.2, "shrink": 1.5, "nearest": 1.0}


class LatticeScalingParameters(Parameters):
    """The budget: how many values, where beta is tried, and how the values are made."""

    elements: int = Field(65536, ge=1024, le=2**26, description="values, the same for every beta and lattice")
    lower: float = Field(0.5, ge=1e-3, le=1e3, description="least beta, in units of the root mean square")
    upper: float = Field(64.0, ge=1e-3, le=1e5, description="largest beta")
    per_octave: int = Field(8, ge=1, le=64, description="betas in every factor of 2")
    refine: int = Field(4, ge=1, le=32, description="betas a step beside every local minimum of the grid")
    batches: int = Field(32, ge=8, le=1024, description="groups of vectors that standard errors come from")
    normalization: Literal["none", "block"] = Field(
        "none", description="block: every vector is given the norm sqrt(n)"
    )
    training: Training = Field(Training(), description="recipe of the model whose gradients are coded")
    pictures: int = Field(
        256, ge=1, le=65536, description="training pictures that the gradient is taken over"
    )

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        if self.upper < 2 * self.lower:
            raise ValueError(f"upper={self.upper} is less than twice lower={self.lower}")
        return self


@final
class LatticeScaling(Track):
    """The landscape of ``MSE(beta)`` for C = (beta/M) Lambda / beta Lambda, with its certified minima.

    The quantizer is a ``nested-lattice`` with ``beta=auto``; beta is tried on a global geometric grid and, finer,
    beside the grid's minima, every time on the same vectors with the same random draws. For ``best-of-k`` the betas
    keep their ratios (those of the list, or fitted on other data) and ``beta`` is the least of them. Errors are
    those of what the quantizer's decoder returns, relative to the energy of the vectors; at the minima they are
    checked against what decodes from the bytes alone.

    - source: values of an iid source, taken n at a time.
    - gradient: the gradients of a trained model's weights, each layer divided by its root mean square.

    A minimum is certified iff it is interior and its prominence is at least 0.1 dB and 5 paired standard errors.
    ``granular_mse`` is the part of the vectors that do not overload (for ``expand``: that are sent without expansion),
    ``overload_mse`` the rest; the fact ``origin`` says which of them trades at each minimum, and why there are several.
    """

    name = "lattice-scaling"
    reference = "Conway & Sloane 1983, A fast encoding method for lattice codes and quantizers"
    version = 1
    targets = ("source", "gradient")
    quantizers = frozenset({"nested-lattice"})
    Parameters = LatticeScalingParameters

    def baseline(self, cell: Cell) -> Recipe | None:
        return None if cell.target == "source" else self._recipe(cell)

    def estimate(self, cell: Cell) -> float:
        budget = self.parameters
        betas = budget.per_octave * math.log2(budget.upper / budget.lower) + 4 * budget.refine
        overload = cell.quantizer.parameters.get("overload") if cell.quantizer else None
        cost = _MICROSECONDS.get(str(overload), 1.0)
        return float(0.5 + 1e-6 * cost * betas * budget.elements)

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        quantizer = _scannable(cell, bench)
        budget, n = self.parameters, lattice(quantizer.parameters.lattice).dimension
        if cell.target == "source":
            data = source_vectors(cell, bench, budget.elements, n)
        else:
            data = gradient_vectors(cell, bench, self._recipe(cell), budget.pictures, budget.elements, n)
        bench.loaded()
        normalized = on_sphere if budget.normalization == "block" else lambda x: x
        x, seed = normalized(batched(data.x, budget.batches)), derived_seed("encoder", cell.seed)
        ratios = _ratios(quantizer, normalized(data.fitted_on), seed)
        survey = Survey(_automatic(quantizer), x, budget.batches, seed, ratios)
        points = scan(survey.measure, budget.lower, budget.upper, budget.per_octave, budget.refine)
        return self._outcome(survey, points, data, bench)

    def _recipe(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def _outcome(self, survey: Survey, points: list[Point], data: Vectors, bench: Workbench) -> Outcome:
        found = minima(points)
        best = min(points, key=lambda point: point.mse)
        checked = [best, *(points[one.place] for one in found if one.certified)]
        coded = [survey.coded(point.beta) for point in checked]
        errors = _decoded(survey, checked, bench.decode([one.payload for one in coded]))
        rate = 8 * coded[0].nbytes / survey.x.numel()
        measurements = {
            **_curve(points, best),
            **_listed(found),
            "decoded_mse": Measurement(value=errors[0], unit="1", samples=errors, n=len(errors)),
            "rate": Measurement(value=rate, unit="bit/element"),
            "entropy_rate": Measurement(value=coded[0].entropy_bits / survey.x.numel(), unit="bit/element"),
            "sqnr_db": Measurement(value=-decibel(best.mse) if best.mse > SILENCE else None, unit="dB"),
        }
        error = None
        if data.limit and self.parameters.normalization == "none":
            limit = data.limit(rate)
            measurements["distortion_limit"] = Measurement(value=limit, unit="mse")
            measurements["gap_db"] = Measurement(value=decibel(best.mse) - decibel(limit), unit="dB")
            error = limit_violation(best.batches.tolist(), limit)
        return Outcome(
            measurements=measurements,
            facts={
                **data.facts,
                "rate_class": rate_class(coded[:1]),
                "execution": "simulated",
                "origin": origin(points, found, survey.sizes),
            },
            status=Status.IMPOSSIBLE if error else Status.OK,
            error=error,
            baseline_id=data.baseline_id,
            baseline_sha256=data.baseline_sha256,
        )


def _scannable(cell: Cell, bench: Workbench) -> NestedLattice:
    if cell.quantizer is None:
        raise SuiteError(
            "a cell of track 'lattice-scaling' lacks a quantizer; name a nested-lattice in its grid"
        )
    quantizer = bench.quantizer(cell.quantizer)
    if not isinstance(quantizer, NestedLattice):
        raise SuiteError(
            f"track 'lattice-scaling' scans the beta of quantizer 'nested-lattice'; {quantizer.name!r} has none: name "
            "points such as nested-lattice(lattice=E8,m=4)"
        )
    if isinstance(quantizer.parameters.beta, float):
        raise SuiteError(
            f"track 'lattice-scaling' tries every beta, so beta={quantizer.parameters.beta} of {quantizer} says "
            "nothing: leave it out, or give overload=best-of-k the list of its ratios"
        )
    return quantizer


def _automatic(quantizer: NestedLattice) -> NestedLattice:
    """The same with betas from its codebook."""
    return NestedLattice(**{**quantizer.parameters.model_dump(), "beta": "auto"})


def _ratios(quantizer: NestedLattice, fitted_on: Tensor, seed: int) -> list[float]:
    """Of the betas to the least of them."""
    if quantizer.parameters.overload != "best-of-k":
        return [1.0]
    betas = list(quantizer.parameters.betas)
    if not betas:
        generator = torch.Generator(fitted_on.device).manual_seed(seed)
        betas = values(quantizer.fit(fitted_on, context=Context(generator)), "beta").double().tolist()
    return [beta / betas[0] for beta in betas]


def _decoded(survey: Survey, points: Sequence[Point], decoded: Sequence[Tensor]) -> list[float]:
    """The relative errors of what was decoded elsewhere."""
    found = []
    for point, y in zip(points, decoded, strict=True):
        distortion = Distortion.between(survey.x, y)
        found.append(distortion.error / distortion.energy if distortion.energy else 0.0)
        if abs(found[-1] - point.mse) > _AGREEMENT * max(point.mse, 1.0):
            raise InvalidReconstructionError(
                f"{survey.quantizer} at beta={point.beta} decodes to a relative error of {found[-1]:.6g}, "
                f"not the {point.mse:.6g} that was found while scanning"
            )
    return found


def _curve(points: Sequence[Point], best: Point) -> dict[str, Measurement]:
    """Every quantity at the best beta, with its values at all betas as samples."""

    def curve(name: str, unit: str = "1") -> Measurement:
        samples = [float(getattr(point, name)) for point in points]
        return Measurement(value=float(getattr(best, name)), unit=unit, samples=samples, n=len(samples))

    return {
        "beta": curve("beta"),
        "mse": curve("mse"),
        "granular_mse": curve("granular_mse"),
        "overload_mse": curve("overload_mse"),
        "overload_probability": curve("overload"),
    }


def _listed(found: Sequence[Minimum]) -> dict[str, Measurement]:
    """How many minima are certified, and of every local minimum where and how deep it is."""
    certified = sum(one.certified for one in found)

    def every(samples: list[float], unit: str) -> Measurement:
        return Measurement(value=None, unit=unit, samples=samples, n=max(1, len(samples)))

    return {
        "minima": Measurement(value=certified, unit="minima"),
        "local_minima": Measurement(value=len(found), unit="minima"),
        "minimum_beta": every([one.beta for one in found], "1"),
        "minimum_mse": every([one.mse for one in found], "1"),
        "minimum_prominence_db": every([one.prominence_db for one in found], "dB"),
        "minimum_prominence_se": every([one.prominence_se for one in found], "1"),
        "minimum_certified": every([float(one.certified) for one in found], "1"),
    }
