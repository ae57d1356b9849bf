"""Bitshift trellis coded quantization: a sequence is a walk through states, found by the Viterbi algorithm."""

import math
from functools import cache
from statistics import NormalDist
from typing import Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scale_search import best_scale, fitted_scale
from .vectors import strided

CodeName = Literal["quantiles", "1mad"]

# A value's distance from the codes that no longer changes which one is best; more would cost digits of the rest.
_LIMIT = 1024.0
_PATH_ENTRIES, _STATE_ENTRIES = 2**24, 2**18
_SAMPLE_ROWS, _SAMPLE_STATE_BITS = 32, 8


class TrellisParameters(Parameters):
    bits: int = Field(2, ge=1, le=4, description="bits per element, shifted into the state at each step")
    state_bits: int = Field(10, ge=6, le=16, description="bits of the state; coding time doubles with each")
    length: int = Field(256, ge=16, le=4096, description="elements in a sequence")
    code: CodeName = Field("quantiles", description="how a state becomes a number")


@final
class Trellis(Quantizer):
    """Every element is ``scale * c[s_t]``, where ``s_t = (s_(t-1) 2^k + symbol_t) mod 2^L`` and symbols have k bits.

    The state is a window of L bits that slides over the symbols of a sequence of T elements, k bits a step. It bites
    its own tail: the first states take the bits they lack from the end of the sequence, so nothing but T k bits is
    sent. c is a table of 2^L numbers that looks random and is close to Gaussian:

    - quantiles: the (h + 1/2) 2^-L quantile of N(0, 1), to the nearest 1/4096, with h = s (s + 1) / 2 mod 2^L, a
      permutation of the states.
    - 1mad: the sum of the four bytes of (34038481 s + 76625530) mod 2^32, less 510, over 128.

    The Viterbi algorithm finds the walk of least squared error for the bits in which start and end overlap. Those
    are taken from the middle of a first walk, free at both ends, through the sequence turned by half its length.

    The scale is that of least squared error on at most 32 sequences, on a grid in steps of 2^(1/16) about the root
    mean square, by a trellis of at most 8 state bits. Sequences run along the flattened tensor. What is left over is
    a shorter sequence, with zeros to L bits at least, and those are sent.

    Reference: Tseng, Sun, Hou & De Sa 2024, "QTIP: Quantization with Trellises and Incoherence Processing",
    section 3, algorithms 1 (1MAD) and 4 (tail-biting).
    """

    name = "trellis"
    family = "vector"
    reference = "Tseng, Sun, Hou & De Sa 2024, QTIP, section 3 (arXiv:2406.11235)"
    targets = ("source", "weight", "gradient")
    Parameters = TrellisParameters
    sweep = tuple({"bits": bits} for bits in (1, 2, 3, 4))

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": fitted_scale(x, self._best_scale)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        scale = values(codebook, "scale")
        inverse = torch.where(scale > 0, scale, torch.inf)
        c = code_table(self.parameters.code, self.parameters.state_bits).to(x.device)
        symbols = [walks(rows / inverse, c, self.parameters.bits) for rows in self._sequences(x) if len(rows)]
        flat = torch.cat([part.reshape(-1) for part in symbols]) if symbols else x.new_zeros(0)
        return {"symbols": Stream(flat, 2**self.parameters.bits)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        symbols = values(codes, "symbols")
        c = code_table(self.parameters.code, self.parameters.state_bits).to(symbols.device)
        whole = shape.numel() // self.parameters.length * self.parameters.length
        parts = [symbols[:whole].reshape(-1, self.parameters.length), symbols[whole:][None]]
        flat = torch.cat([c[states(p, self.parameters.bits, len(c))].reshape(-1) for p in parts])
        return (flat[: shape.numel()] * values(codebook, "scale")).reshape(shape)

    def _sequences(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The whole sequences [n, length], and what is left over [0 or 1, its length]."""
        flat, length = x.reshape(-1), self.parameters.length
        whole = len(flat) // length * length
        least = math.ceil(self.parameters.state_bits / self.parameters.bits)
        rest = F.pad(flat[whole:], (0, max(0, least - len(flat) + whole)))
        return flat[:whole].reshape(-1, length), rest[None][: len(flat) - whole]

    def _best_scale(self, x: Tensor, scale: float) -> float:
        whole, rest = self._sequences(x)
        sample = strided(whole, _SAMPLE_ROWS) if len(whole) else rest
        c = code_table(self.parameters.code, min(self.parameters.state_bits, _SAMPLE_STATE_BITS)).to(x.device)

        def errors(scales: Tensor) -> Tensor:
            factors = scales.to(x.device).repeat_interleave(len(sample))[:, None]
            rows = sample.repeat(len(scales), 1)
            symbols = walks(rows / factors, c, self.parameters.bits)
            decoded = c[states(symbols, self.parameters.bits, len(c))] * factors
            return (decoded - rows).double().square().reshape(len(scales), -1).sum(1).cpu()

        return best_scale(errors, scale / 4, max(scale, float(sample.abs().max())))


def walks(x: Tensor, c: Tensor, bits: int) -> Tensor:
    """Symbols [n, T] of tail-biting walks whose codes c [2^L] come close to sequences x [n, T]."""
    chunk = max(1, min(_PATH_ENTRIES * 2**bits // (x.shape[1] * len(c)), _STATE_ENTRIES // len(c)))
    middle, found = x.shape[1] // 2, []
    for part in torch.split(x.clamp(-_LIMIT, _LIMIT), chunk):
        overlap = viterbi(part.roll(middle, 1), c, bits)[:, middle] >> bits
        found.append(viterbi(part, c, bits, overlap) & (2**bits - 1))
    return torch.cat(found)


def states(symbols: Tensor, bits: int, count: int) -> Tensor:
    """The states [n, T] of tail-biting walks with these symbols [n, T], of ``count`` = 2^L there are."""
    symbols, found = symbols.long(), torch.zeros_like(symbols, dtype=torch.long)
    for step in range(math.ceil((count - 1).bit_length() / bits)):
        found |= symbols.roll(step, 1) << (bits * step)
    return found & (count - 1)


def viterbi(x: Tensor, c: Tensor, bits: int, overlap: Tensor | None = None) -> Tensor:
    """States [n, T] of the walk of least ``sum over t of (x_t - c[s_t])^2`` for each of sequences x [n, T].

    With an overlap [n], the upper L - k bits of the first state and the lower L - k bits of the last are those.
    """
    costs = _arrival_costs(x, c, bits, overlap)
    walk = torch.empty(x.shape, dtype=torch.long, device=x.device)
    lower = costs[-1].argmin(0) if overlap is None else overlap
    branches = torch.arange(2**bits, device=x.device)[:, None] * costs.shape[1]
    for t in range(x.shape[1] - 1, -1, -1):
        candidates = branches + lower
        codes = c[candidates]
        total = codes * (codes - 2 * x[:, t]) + costs[t].gather(0, candidates >> bits)
        walk[:, t] = candidates.gather(0, total.argmin(0)[None])[0]
        lower = walk[:, t] >> bits
    return walk


def _arrival_costs(x: Tensor, c: Tensor, bits: int, overlap: Tensor | None) -> Tensor:
    """The least cost of t steps that end in a state with these lower L - k bits, [T + 1, 2^(L - k), n].

    The cost of a step is less by x^2, which is the same for every walk.
    """
    (n, length), branches, ends = x.shape, 2**bits, len(c) >> bits
    costs = x.new_empty(length + 1, ends, n)
    costs[0] = 0.0 if overlap is None else torch.inf
    if overlap is not None:
        costs[0].scatter_(0, overlap[None], 0.0)
    pull, total = -2 * x.T.contiguous(), x.new_empty(len(c), n)
    energy, codes = c.square()[:, None], c[:, None]
    for t in range(length):
        torch.addcmul(energy, codes, pull[t], out=total)
        # a state's upper bits are the lower bits of the one before: same memory, other view
        total.view(ends, branches, n).add_(costs[t][:, None])
        torch.amin(total.view(branches, ends, n), 0, out=costs[t + 1])
    return costs


@cache
def code_table(name: CodeName, state_bits: int) -> Tensor:
    """The number of every state, [2^L], float32: integers over a power of two."""
    s = torch.arange(2**state_bits)
    if name == "1mad":
        word = (34038481 * s + 76625530) % 2**32
        octets = word[:, None] >> torch.tensor([0, 8, 16, 24]) & 255
        return ((octets.sum(1) - 510) / 128).float()
    h = s * (s + 1) // 2 % 2**state_bits
    return (quantiles(state_bits)[h] / 4096).float()


@cache
def quantiles(state_bits: int) -> Tensor:
    """The (i + 1/2) 2^-L quantiles of N(0, 1) in units of 1/4096, rounded, [2^L], int64."""
    half = 2 ** (state_bits - 1)
    upper = [round(4096 * NormalDist().inv_cdf(0.5 + (i + 0.5) / (2 * half))) for i in range(half)]
    return torch.tensor([-number for number in reversed(upper)] + upper)
