"""The infinite lattice: the nearest point, with its coordinates entropy-coded."""

from functools import cached_property
from typing import Annotated, Literal, final

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .lattices import LATTICES, Lattice, lattice
from .lattices.dither import voronoi_dither
from .reading import values
from .scaling import root_mean_square
from .vectors import blocks, unblocked

_CHUNK_VECTORS = 2**15
_DITHER_UNIT = 2**16
_MAX_STEPS = 2.0**30
_SEEDS = 2**31
# Next to a half but off every fraction that occurs: what float arithmetic rounds away decides nothing.
_THRESHOLD = 0.5 + 2.0**-10


class LatticeParameters(Parameters):
    lattice: str = Field("E8", description=f"{', '.join(LATTICES)}, or An or Dn")
    beta: float = Field(
        1.0, ge=1e-6, le=16, description="scale of the lattice in units of the data's root mean square"
    )
    dither: Literal["subtractive"] | Annotated[int, Field(strict=True, ge=0)] | None = Field(
        None, description="seed of a subtractive dither; subtractive: drawn for every message and sent"
    )

    @field_validator("lattice")
    @classmethod
    def _exists(cls, name: str) -> str:
        return lattice(name).name


@final
class LatticeQuantizer(Quantizer):
    """``x^ = beta (Q(x / beta + u) - u)``: Q the nearest lattice point, x in units of the fitted root mean square.

    Without dither u is 0. With it, u is uniform over the Voronoi cell: integers below 2^16 hashed from the seed and
    the place of the vectors, times the basis, over 2^16, less the nearest point. The error is then uniform over the
    cell whatever x is: ``MSE = G V^(2/n) beta^2``. ``dither=subtractive`` draws the seed anew for every message and
    sends it (4 bytes): E[x^] = x whatever x is.

    What is sent is ``q_i = c_i + round(sum over j > i of c_j B_ji / B_ii)``, c the coordinates of the point in the
    lower triangular basis B: q_i B_ii is the point's i-th coordinate to within B_ii / 2. Zigzag, one rANS stream
    for every distinct B_ii; levels are the least power of two that holds the values. At high rate the bits
    approach h(x) - log2(V^(1/n) beta); at low rate what the other coordinates tell about q_i is lost.

    Elements are taken n at a time in order; zeros fill the last vector. Vectors beyond 2^30 steps are clipped.

    Reference: Zamir & Feder 1992, "On Universal Quantization by Randomized Uniform/Lattice Quantizers";
    nearest points: Conway & Sloane 1982.
    """

    name = "lattice"
    family = "lattice"
    reference = "Zamir & Feder 1992; Conway & Sloane 1982"
    targets = ("source", "weight", "gradient")
    Parameters = LatticeParameters
    sweep = (
        *({"lattice": "E8", "beta": beta} for beta in (2.0, 1.0, 0.5)),
        {"lattice": "E8", "beta": 4.0, "dither": "subtractive"},
        {"lattice": "Leech", "beta": 0.25},
    )
    unbiased = {"dither": "subtractive"}

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": root_mean_square(x)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        step, seed = self._step(codebook), self._draw(context.generator)
        steps_per_unit = torch.where(step > 0, 1 / step, 0.0)
        vectors = blocks(x, self._lattice.dimension)
        q = torch.cat(
            [
                self._indices(self._nearest(part.double() * steps_per_unit, number, seed))
                for number, part in enumerate(torch.split(vectors, _CHUNK_VECTORS))
            ]
        )
        codes: Message = {f"q{i}": _stream(q[:, columns]) for i, columns in enumerate(self._columns)}
        return codes | ({"seed": torch.tensor(seed, dtype=torch.int32)} if self._sends_seed else {})

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        step = self._step(codebook)
        seed = int(values(codes, "seed")) if self._sends_seed else self.parameters.dither
        flat = torch.cat(
            [
                (self._points(part, number, seed) * step).float().reshape(-1)
                for number, part in enumerate(torch.split(self._received(codes), _CHUNK_VECTORS))
            ]
        )
        return unblocked(flat, shape)

    @cached_property
    def _lattice(self) -> Lattice:
        return lattice(self.parameters.lattice)

    @cached_property
    def _ratios(self) -> Tensor:
        """``B_ji / B_ii`` below the diagonal, [n, n]."""
        generator = self._lattice.generator
        return (generator / generator.diagonal()).tril(-1)

    @cached_property
    def _columns(self) -> list[list[int]]:
        """The places of equal B_ii."""
        pivots = self._lattice.generator.diagonal().tolist()
        return [[i for i, other in enumerate(pivots) if other == pivot] for pivot in dict.fromkeys(pivots)]

    def _step(self, codebook: Message) -> Tensor:
        step: Tensor = values(codebook, "scale").double() * float(self.parameters.beta)
        return step

    @property
    def _sends_seed(self) -> bool:
        return bool(self.parameters.dither == "subtractive")

    def _draw(self, generator: torch.Generator) -> int | None:
        """The dither's seed for one message, None without dither."""
        if not self._sends_seed:
            seed: int | None = self.parameters.dither
            return seed
        return int(torch.randint(_SEEDS, (), generator=generator, device=generator.device))

    def _nearest(self, x: Tensor, number: int, seed: int | None) -> Tensor:
        """Coordinates of the point nearest to ``x + u`` for the chunk of that number, in steps: [vectors, n]."""
        bounded = x.clamp(-_MAX_STEPS, _MAX_STEPS)
        return self._lattice.coordinates(self._lattice.nearest(bounded + self._dither(bounded, number, seed)))

    def _points(self, q: Tensor, number: int, seed: int | None) -> Tensor:
        """``Q(x + u) - u`` in steps, float64, [vectors, n]."""
        points = self._coordinates(q).double() @ self._lattice.generator.to(q.device)
        return points - self._dither(points, number, seed)

    def _dither(self, like: Tensor, number: int, seed: int | None) -> Tensor:
        """u for the vectors of a chunk, [vectors, n]; decided in integers."""
        if seed is None:
            return torch.zeros_like(like)
        key = f"{seed}/{number}"
        u = voronoi_dither(self._lattice, len(like), _DITHER_UNIT, key, like.device)
        return self._lattice.project(u / _DITHER_UNIT)

    def _indices(self, c: Tensor) -> Tensor:
        """q of the coordinates c, both int64, [vectors, n]."""
        return c + _round(c.double() @ self._ratios.to(c.device))

    def _coordinates(self, q: Tensor) -> Tensor:
        """c of q, last place first, since a place depends on those after it."""
        c, ratios = q.double(), self._ratios.to(q.device)
        for i in range(q.shape[1] - 2, -1, -1):
            c[:, i] -= _round(c[:, i + 1 :] @ ratios[i + 1 :, i])
        return c.long()

    def _received(self, codes: Message) -> Tensor:
        streams = [values(codes, f"q{i}").long() for i in range(len(self._columns))]
        n = self._lattice.dimension
        q = streams[0].new_zeros(sum(len(stream) for stream in streams) // n, n)
        for columns, stream in zip(self._columns, streams, strict=True):
            q[:, columns] = (stream >> 1 ^ -(stream & 1)).reshape(-1, len(columns))
        return q


def _round(x: Tensor) -> Tensor:
    return (x + _THRESHOLD).floor().long()


def _stream(q: Tensor) -> Stream:
    """0, -1, 1, -2, 2 as 0, 1, 2, 3, 4."""
    zigzag = q << 1 ^ q >> 63
    highest = int(zigzag.max()) if zigzag.numel() else 0
    return Stream(zigzag, 1 << max(1, highest.bit_length()), coder="rans")
