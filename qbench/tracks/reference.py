"""Known values: closed forms and published tables against what comes out here."""

import math
from typing import Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Parameters, Source, Track
from ..errors import ParameterError, SpecError
from ..measuring import code, fit
from ..quantizers.lattices import lattice
from ..schema import Cell, Measurement, Outcome, Recipe, Status, derived_seed
from ..workbench import Workbench
from .reference_quantities import (
    PAIRED,
    SCORED,
    Estimate,
    Quantity,
    Scored,
    Totals,
    exactly,
    in_units,
    paired,
    second_moment,
)
from .reference_value import Published

DEVIATES = 4.0
_UNITS = {"sqnr_db": "dB", "gap_db": "dB", "rate": "bit/element", "entropy": "bit/element", "angle": "degree"}
# A scale that is stored rounds up; from here it becomes 1 in every format.
_JUST_BELOW_ONE = 1 - 2.0**-20


class ReferenceParameters(Parameters):
    """The budget: what is known, and the sample that it is held against."""

    row: str = Field("", max_length=100, description="label of the row")
    quantity: Quantity = Field("mse", description="what has a known value")
    value: float | str = Field(
        0.0, description="a number is exact, a text rounded: .1175, 8.048(3), .328 to .368"
    )
    error: float = Field(0.0, ge=0, description="its standard error, where its text does not say")
    tolerance: float | str = Field(0.0, description="what its source allows, absolute or such as 2 %")
    at: float = Field(0.0, description="where the quantity is asked: a rate, a rank, a correlation")
    lattice: str = Field("", description="for nsm")
    shape: tuple[int, int] = Field((64, 16384), description="of the tensor; vectors lie along its last axis")
    draws: int = Field(1, ge=1, le=4096, description="tensors, each with a codebook of its own")
    fit_elements: int = Field(
        2**20, ge=0, le=2**26, description="values that a codebook is learned from; 0: from the tensor itself"
    )

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.quantity == "nsm" and not self.lattice:
            raise ParameterError(f"track 'reference', row {self.row!r}: quantity=nsm needs lattice=NAME")
        if min(self.shape) < 1 or math.prod(self.shape) * self.draws > 2**28:
            raise ValueError(
                f"shape={list(self.shape)}, draws={self.draws}: between 1 and 2^28 elements in all"
            )
        Published.read(self.value, self.error, self.tolerance)
        return self


@final
class Reference(Track):
    """One number against a known one: ``z = (measured - reference) / SE``, ``|z| <= 4``.

    ``SE^2 = ours^2 + reference^2 + rounding^2 / 12``. Ours is the jackknife's, over independent units: draws, each with
    a codebook of its own, or parts of one tensor's first axis. A stated tolerance counts as four standard errors.
    What a quantizer is asked for is measured on what decodes from its bytes.

    A codebook is learned from a sample of its own, scaled to the unit variance that the known values are for, or from
    the scored tensor, as formats do. Every row draws its own data, so that z are independent.
    """

    name = "reference"
    reference = "Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans"
    version = 1
    targets = ("source",)
    extensible = False
    Parameters = ReferenceParameters

    def baseline(self, cell: Cell) -> Recipe | None:
        self._require_parts(cell)
        return None

    def estimate(self, cell: Cell) -> float:
        p = self.parameters
        return float(0.1 + 2e-7 * p.draws * (math.prod(p.shape) + p.fit_elements))

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        self._require_parts(cell)
        bench.loaded()
        return self._outcome(self._totals(cell, bench).jackknife())

    def _require_parts(self, cell: Cell) -> None:
        needs = {"nsm": (), "limit": ("dataset",)}.get(self.parameters.quantity, ("quantizer", "dataset"))
        missing = [kind for kind in needs if getattr(cell, kind) is None]
        if missing:
            raise SpecError(
                f"row {self.parameters.row!r}: quantity={self.parameters.quantity} needs {' and '.join(missing)}"
            )

    def _totals(self, cell: Cell, bench: Workbench) -> Totals:
        p, data = self.parameters, torch.Generator().manual_seed(_seed("data", cell))
        if p.quantity == "nsm":
            units, points = p.shape
            return second_moment(lattice(p.lattice), units, points, data)
        source: Source = bench.build("dataset", cell.dataset)  # type: ignore[arg-type]
        if p.quantity == "limit":
            return exactly(source.distortion_limit(p.at))
        if p.quantity == "rate":
            return self._rate(cell, source, data, bench)
        x, y = self._decoded(cell, source, data, bench)
        return SCORED[p.quantity](Scored(x, y, p.at, source))

    def _decoded(
        self, cell: Cell, source: Source, data: torch.Generator, bench: Workbench
    ) -> tuple[Tensor, Tensor]:
        """The sample and what the bytes decode to, [units, vectors, length]."""
        tensors, payloads = [], []
        encoder = torch.Generator(bench.device).manual_seed(_seed("encoder", cell))
        for _ in range(self.parameters.draws):
            tensors.append(self._sample(source, data).to(bench.device))
            payloads.append(self._payload(cell, source, tensors[-1], data, encoder, bench))
        x, y = torch.stack(tensors), torch.stack(bench.decode(payloads))
        length = self.parameters.shape[1]
        return (x, y) if len(x) > 1 else (in_units(x[0], length), in_units(y[0], length))

    def _sample(self, source: Source, data: torch.Generator) -> Tensor:
        x = source.sample(math.prod(self.parameters.shape), data).reshape(self.parameters.shape)
        return paired(x, self.parameters.at) if self.parameters.quantity in PAIRED else x

    def _payload(
        self,
        cell: Cell,
        source: Source,
        x: Tensor,
        data: torch.Generator,
        encoder: torch.Generator,
        bench: Workbench,
    ) -> bytes:
        quantizer = bench.quantizer(cell.quantizer)  # type: ignore[arg-type]
        codebook = None
        if self.parameters.fit_elements:
            sample = source.sample(self.parameters.fit_elements, data).double()
            scaled = (sample * (_JUST_BELOW_ONE / sample.square().mean().sqrt())).float()
            codebook = fit(quantizer, scaled.reshape(len(x), -1).to(bench.device), generator=encoder)
        return code(quantizer, x, generator=encoder, codebook=codebook).payload

    def _rate(self, cell: Cell, source: Source, data: torch.Generator, bench: Workbench) -> Totals:
        """What the second half of the elements costs: all bytes, without those that a message has once."""
        quantizer = bench.quantizer(cell.quantizer)  # type: ignore[arg-type]
        x = self._sample(source, data).to(bench.device)
        encoder = torch.Generator(bench.device).manual_seed(_seed("encoder", cell))
        whole, half = (code(quantizer, part, generator=encoder).nbytes for part in (x, x[: len(x) // 2]))
        return exactly(8 * (whole - half) / (x.numel() - x[: len(x) // 2].numel()))

    def _outcome(self, found: Estimate) -> Outcome:
        p = self.parameters
        known = Published.read(p.value, p.error, p.tolerance)
        error, z = known.standard_error(found.standard_error), known.z(found.value, found.standard_error)
        unit = _UNITS.get(p.quantity, "1")
        deviates = abs(z) > DEVIATES
        return Outcome(
            measurements={
                "measured": Measurement(
                    value=found.value, unit=unit, samples=found.samples, n=len(found.samples)
                ),
                "reference": Measurement(value=known.nearest(found.value), unit=unit),
                "standard_error": Measurement(value=error, unit=unit),
                "z": Measurement(value=z, unit="1"),
            },
            facts={"row": p.row, "reference": self._printed, "varies": self._varies(known, found)},
            status=Status.IMPOSSIBLE if deviates else Status.OK,
            error=self._contradiction(found.value, error, z) if deviates else None,
        )

    @property
    def _printed(self) -> str:
        value = self.parameters.value
        return value if isinstance(value, str) else f"{value:.10g}"

    def _varies(self, known: Published, found: Estimate) -> bool:
        """Whether z has a variance: there is one known value, and something beside it is not exact."""
        return known.is_point and bool(found.standard_error or known.error or known.rounding)

    def _contradiction(self, measured: float, error: float, z: float) -> str:
        p = self.parameters
        return (
            f"{p.row or p.quantity}: measured {measured:.6g}, reference {self._printed}, z = {z:+.1f} with a standard "
            f"error of {error:.2g}: contradicts a known value; look for the mistake in the code, then in the row"
        )


def _seed(what: str, cell: Cell) -> int:
    """Differs from row to row."""
    budget = cell.budget
    row = [budget.get("row"), budget.get("quantity"), budget.get("at"), budget.get("lattice")]
    return derived_seed("reference", what, cell.seed, str(cell.quantizer), str(cell.dataset), row)
