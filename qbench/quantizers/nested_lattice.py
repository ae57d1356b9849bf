"""Nested lattice codes: a fine lattice inside the Voronoi cell of a coarse copy of itself."""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Literal, Self, final

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..errors import ParameterError
from ..message import Message, Stream, narrowest
from .lattices import LATTICES, lattice
from .lattices.voronoi_code import EXPANSIONS, SEARCH_LIMIT, UNIT, VoronoiCode
from .reading import values

# The leading 64 bits of the fractional parts of the square roots of 2, 3 and 5; a signed byte a dimension.
GENERIC_OFFSET = bytes.fromhex("6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82b")
_CHUNK_VECTORS = 2**15
_FIT_VECTORS = 8192
_FIT_ENTRIES = 2**27
_TRIALS = 64  # about the nearest points that overload=shrink takes for a vector


class NestedLatticeParameters(Parameters):
    lattice: str = Field("E8", description=f"{', '.join(LATTICES)}, or An or Dn")
    m: int = Field(4, ge=2, le=4096, description="levels per dimension: log2(m) bits per element")
    beta: Literal["auto"] | Annotated[float, Field(ge=1e-6, le=1e6)] = Field(
        "auto", description="scale of the coarse lattice in units of the data's root mean square"
    )
    offset: Literal["generic", "zero"] | Annotated[int, Field(strict=True, ge=0)] = Field(
        "generic", description="shift of the lattice: generic, zero, or the seed of another one"
    )
    overload: Literal["nearest", "wrap", "shrink", "expand"] = Field(
        "nearest", description="what happens to a vector outside the coarse cell"
    )

    @model_validator(mode="after")
    def _search_is_bounded(self) -> Self:
        n = lattice(self.lattice).dimension
        if self.overload == "nearest" and self.m**n > SEARCH_LIMIT:
            largest = math.floor(SEARCH_LIMIT ** (1 / n) + 1e-9)
            smaller = f"m <= {largest}, or " if largest >= 2 else ""
            raise ParameterError(
                f"quantizer 'nested-lattice': m={self.m}, overload=nearest: the search would visit m^n = "
                f"{self.m}^{n} codewords of {self.lattice} and is limited to {SEARCH_LIMIT}; "
                f"use {smaller}overload=shrink, expand or wrap"
            )
        return self


@final
class NestedLattice(Quantizer):
    """The Voronoi code ``C = (beta/M) (Lambda - a)`` inside the Voronoi cell of ``beta Lambda``.

    With x in units of the root mean square that was fitted, Q the nearest lattice point, G the generator:
    ``t = Q(M x / beta + a)``, ``index = t G^-1 mod M``;
    ``p = index G - a``, ``x^ = (beta/M) (p - M Q(p/M))``.
    The decoder works in integers of 1/256, for A_n in its n + 1 coordinates, so every machine finds the same
    codeword.

    A vector overloads where ``x^`` is not ``(beta/M) (t - a)``. Then, by ``overload``:

    - nearest: the codeword nearest to x, found among all M^n of them (at most 2^16).
    - wrap: x^ stays what it is.
    - shrink: x is moved towards 0 until it does not overload (bisection, to 1 part in 4096).
    - expand: beta is multiplied by 1, 2, 4 or 8, the first without overload; every vector sends which, at
      2 bits. Where 8 is too little, x is shrunk as well.

    ``beta="auto"`` is the beta of least squared error on at most 8192 vectors (fewer for a long search), on
    a grid over the whole range in steps of 2^(1/4), then of 2^(1/16) around the best. It does not weigh the
    rate. ``offset="generic"`` is one fixed vector without symmetry, in units of 1/256, folded into the
    Voronoi cell; an integer is the seed of another one. With offset 0 many codewords lie on the boundary,
    and the error depends on how ties are broken.

    Elements are taken n at a time in order; zeros fill the last vector, and their codes are sent.

    Reference: Conway & Sloane, 1983, A fast encoding method for lattice codes and quantizers.
    """

    name = "nested-lattice"
    reference = "Conway & Sloane 1983, A fast encoding method for lattice codes and quantizers"
    targets = ("source", "weight", "gradient")
    Parameters = NestedLatticeParameters
    sweep = (
        *({"lattice": "E8", "m": m, "overload": "nearest"} for m in (2, 3, 4)),
        *({"lattice": "E8", "m": m, "overload": "shrink"} for m in (8, 16)),
        *({"lattice": "Z", "m": m, "overload": "nearest"} for m in (4, 16)),
    )

    def fit(self, x: Tensor, *, context: Context) -> Message:
        scale = root_mean_square(x)
        if self.parameters.beta != "auto":
            return {"scale": scale}
        beta = self._best_beta(x, float(scale), context.generator) if scale > 0 else 1.0
        return {"scale": scale, "beta": torch.tensor(beta, dtype=torch.float32, device=x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        step = self._step(codebook)
        steps_per_unit = torch.where(step > 0, 1 / step, 0.0)
        parts = [
            self._codes(part.double() * steps_per_unit)
            for part in torch.split(self._vectors(x), _CHUNK_VECTORS)
        ]
        index, expansion = (torch.cat(each) for each in zip(*parts, strict=True))
        codes: Message = {"index": Stream(index, self.parameters.m)}
        if self.parameters.overload == "expand":
            codes["expansion"] = Stream(expansion, len(EXPANSIONS))
        return codes

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        step = self._step(codebook)
        index = values(codes, "index").reshape(-1, self._code.lattice.dimension)
        expands = self.parameters.overload == "expand"
        expansion = values(codes, "expansion") if expands else index.new_zeros(len(index))
        parts = zip(torch.split(index, _CHUNK_VECTORS), torch.split(expansion, _CHUNK_VECTORS), strict=True)
        flat = torch.cat([(self._points(*part) * step).float().reshape(-1) for part in parts])
        return flat[: shape.numel()].reshape(shape)

    @property
    def _code(self) -> VoronoiCode:
        return _voronoi_code(self.parameters.lattice, self.parameters.m, self.parameters.offset)

    def _vectors(self, x: Tensor) -> Tensor:
        n = self._code.lattice.dimension
        padded: Tensor = F.pad(x.reshape(-1), (0, -x.numel() % n))
        return padded.reshape(-1, n)

    def _step(self, codebook: Message) -> Tensor:
        """1/256 of the fine lattice in units of x, ``beta scale / (256 M)``, float64."""
        scale = values(codebook, "scale").double()
        if self.parameters.beta == "auto":
            scale = scale * values(codebook, "beta").double()
        else:
            scale = scale * float(self.parameters.beta)
        step: Tensor = scale / (self.parameters.m * UNIT)
        return step

    def _codes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Index [vectors, n] and exponent of the expansion [vectors] of vectors in steps."""
        x = self._code.lattice.embed(x)
        index, overloads = self._code.encode(x)
        expansion = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        rest = overloads.nonzero()[:, 0]
        if self.parameters.overload == "nearest":
            index[rest] = self._code.search(x[rest])
        elif self.parameters.overload == "shrink":
            index[rest] = self._code.shrink(x[rest])
        elif self.parameters.overload == "expand":
            index[rest], expansion[rest] = self._code.expand(x[rest])
        return index.to(narrowest(self.parameters.m)), expansion

    def _points(self, index: Tensor, expansion: Tensor) -> Tensor:
        """What index and expansion stand for, in steps, float64."""
        factors = torch.tensor(EXPANSIONS, device=index.device)[expansion.long()]
        return self._code.lattice.project(self._code.decode(index)) * factors[:, None]

    def _best_beta(self, x: Tensor, scale: float, generator: torch.Generator) -> float:
        sample = self._sample(x, generator).double() / scale
        # Where beta is three times the longest vector none overloads, and larger cells only lose.
        largest = 3 * float(torch.linalg.vector_norm(sample, dim=1).max())
        least = 0.5 / (EXPANSIONS[-1] if self.parameters.overload == "expand" else 1)
        grid = [least * 2 ** (k / 4) for k in range(math.ceil(4 * math.log2(largest / least)) + 1)]
        nearest = self.parameters.overload == "nearest"
        searched = self._code.size if nearest else _TRIALS * self._code.lattice.cosets
        rough = self._least_error(sample[: _FIT_ENTRIES // 4 // searched], grid)
        return self._least_error(
            sample[: _FIT_ENTRIES // searched], [rough * 2 ** (k / 16) for k in range(-3, 4)]
        )

    def _sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        vectors = self._vectors(x)
        if len(vectors) <= _FIT_VECTORS:
            return vectors
        return vectors[torch.randint(len(vectors), (_FIT_VECTORS,), generator=generator, device=x.device)]

    def _least_error(self, vectors: Tensor, betas: Sequence[float]) -> float:
        """The beta of least squared error on vectors in units of the root mean square."""

        def error(beta: float) -> float:
            step = beta / (self.parameters.m * UNIT)
            return float((self._points(*self._codes(vectors / step)) * step - vectors).square().sum())

        return min(betas, key=error)


def root_mean_square(x: Tensor) -> Tensor:
    """About zero, float32, 0 where there are no elements."""
    norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return (norm / math.sqrt(max(1, x.numel()))).float()


@lru_cache(maxsize=32)
def _voronoi_code(name: str, m: int, offset: Literal["generic", "zero"] | int) -> VoronoiCode:
    kind = lattice(name)
    return VoronoiCode(kind, m, _offset(offset, kind.dimension))


def _offset(offset: Literal["generic", "zero"] | int, n: int) -> Sequence[int]:
    """n integers in units of 1/256."""
    if offset == "zero":
        return [0] * n
    if offset == "generic":
        return struct.unpack(f"{n}b", GENERIC_OFFSET[:n])
    return struct.unpack(f"<{n}H", blake2b(str(offset).encode(), digest_size=2 * n).digest())
