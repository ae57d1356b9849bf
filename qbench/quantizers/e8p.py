"""The padded E8 codebook of QuIP#: 2^16 points of a shifted E8, found from a table of 256."""

from functools import cache
from itertools import product
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scale_search import best_scale, fitted_scale
from .vector_codebook import (
    nearest,
)
from .vectors import blocks, strided, unblocked

# The vectors of squared norm 12 that fill the table up to 256, in units of 1/2, as QuIP# lists them.
PADDING = (
    "31113333 13113333 11313333 11133333 33313311 33313131 33311331 33313113 33311313 33311133 "
    "33133311 33133131 33131331 33133113 33131313 33131133 31333311 31333131 31331331 31333113 "
    "31331313 13331133 13333311 13333131 13331331 13333113 13331313 11331333 33113331"
)
# Scale of the first stage over that of the residual, by bits, as QuIP# has them.
_RESIDUAL = {3: 2.04, 4: 3.45}
_SAMPLE_VECTORS = 2048
_CHUNK_VECTORS = 2**16


class E8PParameters(Parameters):
    bits: Literal[2, 3, 4] = Field(
        2, description="bits per element; above 2 a second stage codes the residual"
    )


@final
class E8P(Quantizer):
    """Eight elements at a time go to the nearest of 2^16 codewords, ``x^ = scale (signs * a + shift)``.

    a is one of 256 vectors of odd multiples of 1/2 (8 bits): the 227 of magnitudes of D8 + 1/2 with squared norm at
    most 10, and 29 of squared norm 12. Of the signs 7 are sent; the first makes the coordinates' sum even. The
    shift of all coordinates is 1/4 or -1/4 (1 bit). So codewords are points of E8 + 1/4, in integers of 1/4.

    The nearest codeword is found exactly: with the signs of x taken off, one sign at most has to be wrong to make
    the sum even, and it stands at a 1/2, since a wrong sign at 3/2 is farther than 1/2 at that place.

    With 4 bits the residual is coded by the same codewords at scale / 3.45, with 3 bits by 256 points of E8 at
    scale / 2.04: the 241 of squared norm at most 2 and 15 of the 16 of squared norm 4 on the axes.

    The scale is that of least squared error on at most 2048 vectors, on a grid in steps of 2^(1/16) about the root
    mean square. Zeros fill the last vector.

    Reference: Tseng, Chee, Sun, Kuleshov & De Sa 2024, "QuIP#: Even Better LLM Quantization with Hadamard
    Incoherence and Lattice Codebooks", section 4.2 and appendix C.
    """

    name = "e8p"
    family = "lattice"
    reference = "Tseng et al. 2024, QuIP#, section 4.2 (arXiv:2402.04396)"
    targets = ("source", "weight", "gradient")
    Parameters = E8PParameters
    sweep = ({"bits": 2}, {"bits": 3}, {"bits": 4})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": fitted_scale(x, self._best_scale)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        scale = values(codebook, "scale")
        parts = torch.split(blocks(x, 8), _CHUNK_VECTORS)
        first, second = (
            torch.cat(each) for each in zip(*(self._codes(p, scale) for p in parts), strict=True)
        )
        codes: Message = {"codes": Stream(first, 2**16)}
        if self.parameters.bits > 2:
            codes["residual"] = Stream(second, len(self._residual_points))
        return codes

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale = values(codebook, "scale")
        second = values(codes, "residual") if self.parameters.bits > 2 else None
        return unblocked(self._points(values(codes, "codes"), second, scale), shape)

    @property
    def _residual_points(self) -> Tensor:
        return codewords() if self.parameters.bits == 4 else e8_points()

    def _codes(self, vectors: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [n] of both stages of vectors [n, 8]; the second are zeros where there is none."""
        first = nearest_codeword(_over(vectors, scale))
        if self.parameters.bits == 2:
            return first, torch.zeros_like(first)
        left = vectors - self._points(first, None, scale)
        left = _over(left, scale / _RESIDUAL[self.parameters.bits])
        if self.parameters.bits == 4:
            return first, nearest_codeword(left)
        return first, nearest(left, e8_points().to(left) / 4)

    def _points(self, first: Tensor, second: Tensor | None, scale: Tensor) -> Tensor:
        """What the codes [n] stand for, [n, 8], float32; ``scale`` is a number, or [n, 1]."""
        points = codewords().to(first.device)[first.long()].float() * (scale / 4)
        if second is None:
            return points
        table = self._residual_points.to(first.device)
        return points + table[second.long()].float() * (scale / (4 * _RESIDUAL[self.parameters.bits]))

    def _best_scale(self, x: Tensor, scale: float) -> float:
        sample = strided(blocks(x, 8), _SAMPLE_VECTORS)

        def errors(scales: Tensor) -> Tensor:
            rows = scales.to(x.device).repeat_interleave(len(sample))[:, None]
            vectors = sample.repeat(len(scales), 1)
            first, second = self._codes(vectors, rows)
            decoded = self._points(first, second if self.parameters.bits > 2 else None, rows)
            return (decoded - vectors).double().square().reshape(len(scales), -1).sum(1).cpu()

        return best_scale(errors, scale / 4, max(scale, float(sample.abs().max())))


def _over(vectors: Tensor, scale: Tensor) -> Tensor:
    """``vectors / scale``, 0 where the scale is 0, and no number too large for what follows."""
    return (vectors / torch.where(scale > 0, scale, torch.inf)).clamp(-(2.0**20), 2.0**20)


def nearest_codeword(x: Tensor) -> Tensor:
    """Codes [n], int64, of the nearest of the :func:`codewords` / 4 to vectors x [n, 8]."""
    y = torch.cat([x + 0.25, x - 0.25])
    negative, magnitude = y < 0, y.abs()
    odd = negative.sum(1) % 2 == 1
    error, code = torch.empty_like(y[:, 0]), torch.empty_like(odd, dtype=torch.long)
    for chosen, part in zip((~odd, odd), _folded(), strict=True):
        points, entry, wrong = (table.to(x.device) for table in part)
        index = nearest(magnitude[chosen], points)
        error[chosen] = (magnitude[chosen] - points[index]).square().sum(1)
        code[chosen] = entry[index] * 256 + _bits((negative[chosen] ^ wrong[index])[:, 1:]) * 2
    n = len(x)
    return torch.where(error[n:] < error[:n], code[n:] + 1, code[:n])


def _bits(flags: Tensor) -> Tensor:
    """The numbers whose bits, lowest first, are the columns."""
    return (flags.long() << torch.arange(flags.shape[1], device=flags.device)).sum(1)


@cache
def magnitudes() -> Tensor:
    """The 256 vectors a in units of 1/2, [256, 8], int64."""
    inside = [v for v in product((1, 3, 5), repeat=8) if sum(i * i for i in v) <= 40]
    return torch.tensor(inside + [tuple(map(int, word)) for word in PADDING.split()])


@cache
def codewords() -> Tensor:
    """Every codeword by its code, in units of 1/4, [65536, 8], int8."""
    code = torch.arange(2**16)
    a = magnitudes()[code >> 8]
    negative = (code[:, None] >> torch.arange(1, 8)) & 1
    # a sign moves the sum of the coordinates by an odd number
    first = (a.sum(1) // 2 + negative.sum(1)) & 1
    signs = 1 - 2 * torch.cat([first[:, None], negative], 1)
    return (2 * a * signs + 2 * (code[:, None] & 1) - 1).to(torch.int8)


@cache
def _folded() -> list[tuple[Tensor, Tensor, Tensor]]:
    """What is nearest to some vector without negative coordinates: points [c, 8], table rows [c], wrong signs [c, 8].

    First for vectors that had an even number of signs taken off, then for an odd number: the rows that need no
    further sign, and the others with one wrong sign at each of their 1/2.
    """
    a = magnitudes()
    odd = a.sum(1) // 2 % 2 == 1
    return [_with_one_wrong_sign(a, ~odd), _with_one_wrong_sign(a, odd)]


def _with_one_wrong_sign(a: Tensor, fits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    plain = fits.nonzero()[:, 0]
    row, place = ((a == 1) & ~fits[:, None]).nonzero(as_tuple=True)
    entry = torch.cat([plain, row])
    wrong = torch.cat([torch.zeros(len(plain), 8, dtype=torch.bool), torch.arange(8) == place[:, None]])
    return a[entry] * torch.where(wrong, -1, 1) / 2, entry, wrong


@cache
def e8_points() -> Tensor:
    """The 256 points of E8 for a residual at 1 bit, in units of 1/4, [256, 8], int8."""
    integers = [v for v in product((-1, 0, 1), repeat=8) if sum(i * i for i in v) in (0, 2)]
    halves = [v for v in product((-1, 1), repeat=8) if sum(v) % 4 == 0]
    axes = 2 * torch.cat([torch.eye(8, dtype=torch.long), -torch.eye(8, dtype=torch.long)])[:15]
    return torch.cat([4 * torch.tensor(integers), 2 * torch.tensor(halves), 4 * axes]).to(torch.int8)
