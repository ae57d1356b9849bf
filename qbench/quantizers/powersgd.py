"""PowerSGD: a matrix as the product of two thin ones, by one step of subspace iteration."""

from collections.abc import Generator
from hashlib import shake_128
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Collective, Context, Parameters, Quantizer
from ..message import Message
from .reading import values

_ADDENDS = 4
_LARGEST = 2.0**96


class PowerSgdParameters(Parameters):
    rank: int = Field(2, ge=1, le=1024, description="columns of each factor")
    warm_start: bool = Field(True, description="start from the factor of the last message at this site")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of the first start, the same for every worker")


@final
class PowerSgd(Quantizer, Collective):
    """``P = orthogonalize(M Q)``, ``Q = M^T P``, ``M^ = P Q^T``: M [n, m], P [n, rank], Q [m, rank], float32.

    Q starts from hashed numbers, nearly normal, or, warm, from the Q of the message before. Without a warm start every
    message of a site has other numbers. Exact where M has no higher rank; repeated on one M with a warm start, M^ tends
    to its best approximation of that rank.

    M is the first axis against all others, clipped to 2^96. A tensor of one dimension, or one that its factors would
    not make smaller, is sent as it is. Among workers the means of ``M Q`` and ``M^T P`` are exchanged, so that they
    all receive what this code makes of their mean M.

    Reference: Vogels, Karimireddy, Jaggi 2019, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed
    Optimization", algorithm 1 and lemma 3.
    """

    name = "powersgd"
    family = "optimized"
    reference = "Vogels, Karimireddy, Jaggi 2019, algorithm 1 (arXiv:1905.13727)"
    targets = ("weight", "gradient")
    Parameters = PowerSgdParameters
    sweep = tuple({"rank": r} for r in (1, 2, 4))

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        if not self._factors(x.shape):
            return {"x": x.clone()}
        m = _matrix(x)
        p = _orthogonalize(m @ self._start(m, context))
        q = m.T @ p
        context.state["q"] = q
        return {"p": p, "q": q}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        if not self._factors(shape):
            return values(codes, "x").clone()
        product: Tensor = values(codes, "p") @ values(codes, "q").T
        return product.reshape(shape)

    def exchange(self, x: Tensor, *, context: Context) -> Generator[Message, Message, Tensor]:
        if not self._factors(x.shape):
            mean = yield {"x": x}
            return values(mean, "x")
        m = _matrix(x)
        mean = yield {"p": m @ self._start(m, context)}
        p = _orthogonalize(values(mean, "p"))
        mean = yield {"q": m.T @ p}
        q = values(mean, "q")
        context.state["q"] = q
        return (p @ q.T).reshape(x.shape)

    def _factors(self, shape: torch.Size) -> bool:
        """Whether a tensor of that shape is sent as factors."""
        if len(shape) < 2 or not shape.numel():
            return False
        n, m = shape[0], shape.numel() // shape[0]
        return bool((n + m) * self.parameters.rank < n * m)

    def _start(self, m: Tensor, context: Context) -> Tensor:
        """Q before the step, [m, rank], and the number of this message noted."""
        shape = (m.shape[1], self.parameters.rank)
        last, number = context.state.get("q"), context.state.get("messages", 0)
        context.state["messages"] = number + 1
        if self.parameters.warm_start and isinstance(last, Tensor) and last.shape == shape and last.any():
            return last.to(m)
        return _hashed(f"powersgd/{self.parameters.seed}/{number}", shape).to(m)


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], -1).clamp(-_LARGEST, _LARGEST)


def _orthogonalize(p: Tensor) -> Tensor:
    """Orthonormal columns whose span holds those of ``p``, [n, rank]."""
    largest = p.abs().max().clamp(min=torch.finfo(p.dtype).tiny)
    basis: Tensor = torch.linalg.qr(p / largest).Q
    return basis


def _hashed(text: str, shape: tuple[int, int]) -> Tensor:
    """Sums of four hashed 16-bit integers about their mean, of variance 1/3, the same everywhere."""
    octets = bytearray(shake_128(text.encode()).digest(2 * _ADDENDS * shape[0] * shape[1]))
    parts = torch.frombuffer(octets, dtype=torch.uint8).reshape(*shape, _ADDENDS, 2).float()
    return (parts[..., 0] + 256 * parts[..., 1] - (2**16 - 1) / 2).sum(-1) / 2**16
