"""Lloyd-Max quantization: the levels of least mean squared error for a density, or for the data itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import numpy as np
import torch
from pydantic import Field
from scipy import linalg, special
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scalar_codebook import Floats, ascending, companded, lloyd, look_up, nearest
from .scaling import Layout, load_scale, require_rows, store_scale


class LloydMaxParameters(Parameters):
    bits: int = Field(4, ge=1, le=8, description="bits per code")
    table: Literal["adaptive", "gaussian", "laplacian"] = Field(
        "adaptive", description="levels learned from the data, or those of a density times the RMS"
    )
    granularity: Literal["tensor", "channel"] = Field("tensor", description="which elements share a codebook")


@final
class LloydMax(Quantizer):
    """Every value goes to the nearest of 2^b levels; each level is the centroid of its cell.

    ``table`` gaussian or laplacian: the levels of that density at zero mean and unit variance, times the
    RMS of the row, which is all that is fitted (float16). adaptive: levels are learned, from a start of
    density p^(1/3) by Lloyd's iteration, and kept in float32.

    Reference: Max 1960, "Quantizing for Minimum Distortion", eq. 4 and 5; Lloyd 1982, method I.
    """

    name = "lloyd-max"
    family = "scalar"
    reference = "Max 1960, eq. 4-5; Lloyd 1982, method I"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = LloydMaxParameters
    sweep = (
        *({"bits": b, "table": "gaussian"} for b in range(1, 9)),
        *({"bits": b, "table": "laplacian"} for b in (2, 3, 4)),
        *({"bits": b, "table": "adaptive"} for b in (2, 3, 4, 8)),
    )

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity)

    @property
    def count(self) -> int:
        return int(2**self.parameters.bits)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        rows = self.layout.split(x)
        if self.parameters.table != "adaptive":
            return {"scale": store_scale(rows.square().mean(1).sqrt(), "float16")}
        ordered = ascending(rows)
        levels = lloyd(ordered, companded(ordered, self.count), iterations=200)
        return {"levels": levels.float().to(x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        rows, levels = self.layout.split(x), self._levels(codebook)
        require_rows(rows, levels, self.name)
        return {"codes": Stream(self.layout.join(nearest(rows, levels), x.shape), self.count)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        rows = self.layout.split(values(codes, "codes").reshape(shape))
        return self.layout.join(look_up(rows, self._levels(codebook)), shape)

    def _levels(self, codebook: Message) -> Tensor:
        if self.parameters.table == "adaptive":
            return values(codebook, "levels")
        scale = load_scale(values(codebook, "scale"))
        return scale[:, None] * fixed_levels(self.parameters.table, self.count).to(scale)


Function = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Density:
    """A symmetric density p of unit variance, by functions of t >= 0.

    ``mass_above`` and ``moment_above`` integrate p and t p from t to infinity; ``companded`` is the quantile
    function of |t| under a density proportional to p^(1/3).
    """

    p: Function
    mass_above: Function
    moment_above: Function
    companded: Function


_ROOT2 = math.sqrt(2)
DENSITIES = {
    "gaussian": Density(
        p=lambda t: np.exp(-t * t / 2) / math.sqrt(2 * math.pi),
        mass_above=lambda t: special.ndtr(-t),
        moment_above=lambda t: np.exp(-t * t / 2) / math.sqrt(2 * math.pi),
        companded=lambda u: math.sqrt(3) * special.ndtri((1 + u) / 2),
    ),
    "laplacian": Density(
        p=lambda t: np.exp(-_ROOT2 * t) / _ROOT2,
        mass_above=lambda t: np.exp(-_ROOT2 * t) / 2,
        moment_above=lambda t: np.exp(-_ROOT2 * t) * (_ROOT2 * t + 1) / (2 * _ROOT2),
        companded=lambda u: -3 / _ROOT2 * np.log1p(-u),
    ),
}


@lru_cache
def fixed_levels(density: str, count: int) -> Tensor:
    """The Lloyd-Max levels of a density of zero mean and unit variance, ascending, [count], float32.

    They are multiples of 2^-20, which float32 holds exactly. No level comes within 1e-9 of a tie between two
    multiples, far more than Newton's error, so machines whose last bits differ agree on the table.
    """
    half = np.round(exact_half(DENSITIES[density], count) * 2**20) / 2**20
    return torch.from_numpy(np.concatenate([-half[::-1], half])).float()


def exact_half(density: Density, count: int) -> Floats:
    """The positive ones of ``count`` Lloyd-Max levels, [count / 2], float64, by Newton's method.

    Unknown are the levels y. With thresholds t half way between them, and masses P and first moments M of
    the cells, the equations are ``y P - M = 0``. A threshold moves half as far as a level beside it, so the
    Jacobian is tridiagonal. Ten of Lloyd's iterations, y = M / P, come first.
    """
    y = density.companded((np.arange(count // 2) + 0.5) / (count // 2))
    for iteration in range(60):
        t = np.concatenate([[0.0], (y[1:] + y[:-1]) / 2])
        mass = -np.diff(density.mass_above(t), append=0.0)
        moment = -np.diff(density.moment_above(t), append=0.0)
        if iteration < 10:
            y = moment / mass
            continue
        below = density.p(t) * (y - t) / 2
        below[0] = 0.0
        above = np.append(density.p(t[1:]) * (y[:-1] - t[1:]) / 2, 0.0)
        bands = np.stack([np.roll(above, 1), mass + above - below, np.roll(-below, -1)])
        y = y - linalg.solve_banded((1, 1), bands, y * mass - moment)
    return y
