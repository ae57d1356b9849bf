"""Nested lattice codes: a fine lattice inside the Voronoi cell of a coarse copy of itself."""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Annotated, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..errors import ParameterError
from ..message import Message, Stream, narrowest
from .lattices import LATTICES, lattice
from .lattices.betas import best_subset
from .lattices.dither import voronoi_dither
from .lattices.voronoi_code import EXPANSIONS, SEARCH_LIMIT, UNIT, VoronoiCode
from .reading import values
from .scaling import root_mean_square
from .vectors import blocks, unblocked

# The leading 64 bits of the fractional parts of the square roots of 2, 3 and 5; a signed byte a dimension.
GENERIC_OFFSET = bytes.fromhex("6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82b")
_CHUNK_VECTORS = 2**15
_FIT_VECTORS, _ROUGH_FIT_VECTORS = 4096, 1024
_FIT_ENTRIES = 2**27
_TRIALS = 64  # about the nearest points that overload=shrink takes for a vector
_SEEDS = 2**31
_CHOICES = {"expand": "expansion", "best-of-k": "choice"}  # what such a policy sends for every vector

Beta = Annotated[float, Field(ge=1e-6, le=1e6)]


class NestedLatticeParameters(Parameters):
    lattice: str = Field("E8", description=f"{', '.join(LATTICES)}, or An or Dn")
    m: int = Field(4, ge=2, le=4096, description="levels per dimension: log2(m) bits per element")
    beta: Literal["auto"] | Beta | Annotated[tuple[Beta, ...], Field(min_length=2, max_length=8)] = Field(
        "auto",
        description="scale of the coarse lattice in units of the data's root mean square; "
        "overload=best-of-k: a list of them, least first",
    )
    k: int = Field(4, ge=2, le=8, description="number of betas; for overload=best-of-k with beta=auto")
    coder: Literal["fixed", "rans"] = Field("fixed", description="of the indices and of what overload sends")
    offset: Literal["generic", "zero", "half"] | Annotated[int, Field(strict=True, ge=0)] = Field(
        "generic", description="shift of the lattice: generic, zero, half, or the seed of another one"
    )
    overload: Literal["nearest", "wrap", "shrink", "expand", "best-of-k"] = Field(
        "nearest", description="what happens to a vector outside the coarse cell"
    )
    dither: Literal["subtractive"] | None = Field(
        None, description="a shift for every vector, from a seed that is sent"
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

    @model_validator(mode="after")
    def _policy_has_its_parameters(self) -> Self:
        several = isinstance(self.beta, tuple)
        if self.overload == "best-of-k" and not several and self.beta != "auto":
            raise _refused(f"beta={self.beta}, overload=best-of-k: give a list, such as [3.3,4.2], or auto")
        if several and self.overload != "best-of-k":
            raise _refused(
                f"beta={list(self.betas)}, overload={self.overload}: give one, or use overload=best-of-k"
            )
        if any(low >= high for low, high in pairwise(self.betas)):
            raise _refused(f"beta={list(self.betas)}: every one must be larger than the one before it")
        if self.dither and self.overload == "nearest":
            raise _refused(
                "dither=subtractive, overload=nearest: every vector has codewords of its own then, and no table of "
                "them is searched; use overload=shrink, wrap, expand or best-of-k"
            )
        return self

    @property
    def betas(self) -> tuple[float, ...]:
        """Those of a list."""
        return self.beta if isinstance(self.beta, tuple) else ()


def _refused(why: str) -> ParameterError:
    return ParameterError(f"quantizer 'nested-lattice': {why}")


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
    - best-of-k: of k betas the one whose x^ is nearest to x; every vector sends which, at log2(k)
      bits. Where x overloads with all of them, it may be shrunk with the largest.

    ``coder="rans"`` codes the indices, and what expand and best-of-k send, with their own frequencies: log2(m)
    bits per element where m is no power of two, and less where codewords are not equally likely.

    ``beta="auto"`` is the beta of least squared error on at most 4096 vectors (fewer for a long search), on
    a grid over the whole range in steps of 2^(1/4), then of 2^(1/16) around the best; for best-of-k the k
    betas, chosen greedily and exchanged one by one while that helps. It does not weigh the rate.

    ``offset="generic"`` is one fixed vector without symmetry, in units of 1/256, folded into the Voronoi cell;
    an integer is the seed of another one. With offset 0 many codewords lie on the boundary, and the error
    depends on how ties are broken. ``half`` is 1/2 in every coordinate: of the integers it makes the midrise code.

    With ``dither="subtractive"`` a is, for every vector, a plus u: uniform over the Voronoi cell of Lambda in units
    of Lambda / 256, hashed from a seed that the encoder draws and sends (4 bytes). Without overload the error does
    not depend on x then: ``MSE = G V^(2/n) (beta / M)^2``.

    Elements are taken n at a time in order; zeros fill the last vector, and their codes are sent.

    Reference: Conway & Sloane, 1983, A fast encoding method for lattice codes and quantizers; dither: Zamir &
    Feder, 1992, On universal quantization by randomized uniform/lattice quantizers; several scales: Savkin, Porat,
    Ordentlich & Polyanskiy, 2025, NestQuant.
    """

    name = "nested-lattice"
    family = "lattice"
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
        if self.parameters.overload == "best-of-k":
            betas: float | list[float] = [1.0] * self.parameters.k
            if scale > 0:
                betas = self._best_betas(x, float(scale), context.generator)
        else:
            betas = self._best_beta(x, float(scale), context.generator) if scale > 0 else 1.0
        return {"scale": scale, "beta": torch.tensor(betas, dtype=torch.float32, device=x.device)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        step = self._step(codebook)
        steps_per_unit = torch.where(step > 0, 1 / step, 0.0)
        seed = self._draw_seed(context.generator) if self.parameters.dither else None
        factors = self._factors(codebook)
        parts = [
            self._codes(part.double() * steps_per_unit, factors, self._dither(part, number, seed))
            for number, part in enumerate(torch.split(self._vectors(x), _CHUNK_VECTORS))
        ]
        index, choice = (torch.cat(each) for each in zip(*parts, strict=True))
        coder = self.parameters.coder
        codes: Message = {"index": Stream(index, self.parameters.m, coder)}
        name = _CHOICES.get(self.parameters.overload)
        if name:
            codes[name] = Stream(choice, len(factors), coder)
        if seed is not None:
            codes["seed"] = torch.tensor(seed, dtype=torch.int32)
        return codes

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        step, factors = self._step(codebook), self._factors(codebook)
        index = values(codes, "index").reshape(-1, self._code.lattice.dimension)
        name = _CHOICES.get(self.parameters.overload)
        choice = values(codes, name) if name else index.new_zeros(len(index))
        seed = int(values(codes, "seed")) if self.parameters.dither else None
        parts = zip(torch.split(index, _CHUNK_VECTORS), torch.split(choice, _CHUNK_VECTORS), strict=True)
        flat = torch.cat(
            [
                (self._points(part, f, factors, self._dither(part, number, seed)) * step).float().reshape(-1)
                for number, (part, f) in enumerate(parts)
            ]
        )
        return unblocked(flat, shape)

    @property
    def _code(self) -> VoronoiCode:
        return _voronoi_code(self.parameters.lattice, self.parameters.m, self.parameters.offset)

    def _vectors(self, x: Tensor) -> Tensor:
        return blocks(x, self._code.lattice.dimension)

    def _step(self, codebook: Message) -> Tensor:
        """1/256 of the fine lattice in units of x, ``beta scale / (256 M)``, float64; for best-of-k with beta 1."""
        scale = values(codebook, "scale").double()
        if self.parameters.overload != "best-of-k":
            beta = self.parameters.beta
            scale = scale * (values(codebook, "beta").double() if beta == "auto" else float(beta))
        step: Tensor = scale / (self.parameters.m * UNIT)
        return step

    def _factors(self, codebook: Message) -> list[float]:
        """By what a choice multiplies the step."""
        if self.parameters.overload == "expand":
            return [float(factor) for factor in EXPANSIONS]
        if self.parameters.overload != "best-of-k":
            return [1.0]
        return list(self.parameters.betas) or values(codebook, "beta").double().tolist()

    def _draw_seed(self, generator: torch.Generator) -> int:
        return int(torch.randint(_SEEDS, (), generator=generator, device=generator.device))

    def _dither(self, vectors: Tensor, number: int, seed: int | None) -> Tensor | None:
        """The dither of the chunk of that number, [vectors, N], in steps."""
        if seed is None:
            return None
        kind = self._code.lattice
        return voronoi_dither(kind, len(vectors), UNIT, f"{seed}/{number}", vectors.device)

    def _codes(self, x: Tensor, factors: Sequence[float], dither: Tensor | None) -> tuple[Tensor, Tensor]:
        """Index [vectors, n] and choice [vectors] of vectors in steps."""
        x, dtype = self._code.lattice.embed(x), narrowest(self.parameters.m)
        if self.parameters.overload == "best-of-k":
            index, choice = self._code.choose(x, factors, dither)
            return index.to(dtype), choice
        index, overloads = self._code.encode(x, dither)
        choice = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        rest = overloads.nonzero()[:, 0]
        shift = None if dither is None else dither[rest]
        if self.parameters.overload == "nearest":
            index[rest] = self._code.search(x[rest])
        elif self.parameters.overload == "shrink":
            index[rest] = self._code.shrink(x[rest], shift)
        elif self.parameters.overload == "expand":
            index[rest], choice[rest] = self._code.expand(x[rest], shift)
        return index.to(dtype), choice

    def _points(
        self, index: Tensor, choice: Tensor, factors: Sequence[float], dither: Tensor | None
    ) -> Tensor:
        """What index and choice stand for, in steps, float64."""
        factor = torch.tensor(factors, dtype=torch.float64, device=index.device)[choice.long()]
        return self._code.lattice.project(self._code.decode(index, dither)) * factor[:, None]

    def _best_beta(self, x: Tensor, scale: float, generator: torch.Generator) -> float:
        sample = self._sample(x, generator).double() / scale
        least = 0.5 / (EXPANSIONS[-1] if self.parameters.overload == "expand" else 1)
        nearest = self.parameters.overload == "nearest"
        searched = self._code.size if nearest else _TRIALS * self._code.lattice.cosets
        rough = self._least_error(
            sample[: min(_ROUGH_FIT_VECTORS, _FIT_ENTRIES // 4 // searched)], _grid(sample, least)
        )
        return self._least_error(
            sample[: _FIT_ENTRIES // searched], [rough * 2 ** (k / 16) for k in range(-3, 4)]
        )

    def _best_betas(self, x: Tensor, scale: float, generator: torch.Generator) -> list[float]:
        sample = self._sample(x, generator).double() / scale
        sample = sample[: _FIT_ENTRIES // (_TRIALS * self._code.lattice.cosets)]
        grid, k = _grid(sample, 0.5), self.parameters.k
        grid += [grid[-1] * 2 ** (i / 4) for i in range(1, k + 1 - len(grid))]
        rough = best_subset(torch.stack([self._squared_errors(sample, beta) for beta in grid]), k)
        finer = [grid[i] * 2 ** (j / 16) for i in rough for j in (0, -1, 1)]
        errors = torch.stack([self._squared_errors(sample, beta) for beta in finer])
        return sorted(finer[i] for i in best_subset(errors, k, start=list(range(0, 3 * k, 3))))

    def _sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        vectors = self._vectors(x)
        if len(vectors) <= _FIT_VECTORS:
            return vectors
        return vectors[torch.randint(len(vectors), (_FIT_VECTORS,), generator=generator, device=x.device)]

    def _least_error(self, vectors: Tensor, betas: Sequence[float]) -> float:
        """The first beta of least squared error on vectors in units of the root mean square; ``betas`` ascend."""
        found, least = betas[0], math.inf
        # large ones first: few vectors overload there, and what they reach ends most of the long searches
        for beta in reversed(betas):
            if self._least_possible_error(vectors, beta) <= least:
                error = float(self._squared_errors(vectors, beta).sum())
                found, least = (beta, error) if error <= least else (found, least)
        return found

    def _least_possible_error(self, vectors: Tensor, beta: float) -> float:
        """A squared error that the one of ``beta`` is not below, known without finding any codes."""
        if self.parameters.dither or self.parameters.overload not in ("nearest", "shrink"):
            return 0.0
        step: float = beta / (self.parameters.m * UNIT)
        bounds = self._code.bound(self._code.lattice.embed(vectors / step))
        return float(bounds.sum()) * step * step * (1 - 1e-9)

    def _squared_errors(self, vectors: Tensor, beta: float) -> Tensor:
        """Of every vector; vectors are in units of the root mean square."""
        step = beta / (self.parameters.m * UNIT)
        factors = EXPANSIONS if self.parameters.overload == "expand" else (1.0,)
        dither = self._dither(vectors, 0, 0 if self.parameters.dither else None)
        index, choice = self._codes(vectors / step, factors, dither)
        errors: Tensor = (self._points(index, choice, factors, dither) * step - vectors).square().sum(1)
        return errors


def _grid(vectors: Tensor, least: float) -> list[float]:
    """Steps of 2^(1/4) up to three times the longest vector: there none overloads, and larger cells only lose."""
    largest = 3 * float(torch.linalg.vector_norm(vectors, dim=1).max())
    return [least * 2 ** (k / 4) for k in range(math.ceil(4 * math.log2(largest / least)) + 1)]


@lru_cache(maxsize=32)
def _voronoi_code(name: str, m: int, offset: Literal["generic", "zero", "half"] | int) -> VoronoiCode:
    kind = lattice(name)
    return VoronoiCode(kind, m, _offset(offset, kind.dimension))


def _offset(offset: Literal["generic", "zero", "half"] | int, n: int) -> Sequence[int]:
    """n integers in units of 1/256."""
    if offset in ("zero", "half"):
        return [UNIT // 2 if offset == "half" else 0] * n
    if offset == "generic":
        return struct.unpack(f"{n}b", GENERIC_OFFSET[:n])
    return struct.unpack(f"<{n}H", blake2b(str(offset).encode(), digest_size=2 * n).digest())
