"""Random rotations: hashed signs, then a fast Walsh-Hadamard transform; and hashed turns of pairs.

Only single additions, subtractions, multiplications and divisions of floats occur, so every machine computes the
same bits.
"""

import math
from hashlib import shake_128

import torch
from torch import Tensor

# Butterflies closer together than this run on a transposed copy, where their operands are contiguous.
_NEAR = 64


def signs(seed: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """``n`` signs, +1 or -1, float32: the bits of SHAKE-128 of the seed, lowest first. More of them start the same."""
    octets = bytearray(shake_128(f"signs/{seed}".encode()).digest((n + 7) // 8 + 1))
    hashed = torch.frombuffer(octets, dtype=torch.uint8).to(device)
    bits = hashed[:, None] >> torch.arange(8, dtype=torch.uint8, device=hashed.device) & 1
    return 1.0 - 2.0 * bits.reshape(-1)[:n].float()


def block_sizes(n: int) -> list[int]:
    """The powers of two that add up to ``n``, descending.

    >>> block_sizes(1000)
    [512, 256, 128, 64, 32, 8]
    """
    return [1 << bit for bit in reversed(range(n.bit_length())) if n >> bit & 1]


def rotate(x: Tensor, seed: int) -> Tensor:
    """``H D x`` along the last dimension: D the :func:`signs` of the seed, H a Hadamard transform for every block.

    Orthonormal for any length: its :func:`block_sizes` stand in order, and each is mixed for itself.

    Reference: Ailon & Chazelle 2009, "The Fast Johnson-Lindenstrauss Transform and Approximate Nearest Neighbors",
    section 2.
    """
    return _by_blocks(x * signs(seed, x.shape[-1], x.device).to(x.dtype))


def rotate_back(x: Tensor, seed: int) -> Tensor:
    """``D H x``, the inverse and transpose of :func:`rotate`."""
    return _by_blocks(x) * signs(seed, x.shape[-1], x.device).to(x.dtype)


def turn(x: Tensor, seed: int) -> Tensor:
    """Every pair of neighbours along the last dimension, of even length, turned by a hashed angle of its own.

    ``(a, b) -> (c a - s b, s a + c b)`` with ``c = (1 - t^2) / (1 + t^2)``, ``s = 2 t / (1 + t^2)`` and t from -1 to 1
    in steps of 2^-15, by SHAKE-128 of the seed: angles up to a right one, either way.
    """
    return _turned(x, *_angles(seed, x.shape[-1] // 2, x))


def turn_back(x: Tensor, seed: int) -> Tensor:
    """The inverse and transpose of :func:`turn`."""
    cosine, sine = _angles(seed, x.shape[-1] // 2, x)
    return _turned(x, cosine, -sine)


def hadamard(x: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform along the last dimension, in natural order; its own inverse.

    ``H_2n = [[H_n, H_n], [H_n, -H_n]] / sqrt(2)``.

    Raises:
        ValueError: a length that is no power of two.
    """
    n = x.shape[-1]
    if n < 1 or n & (n - 1):
        raise ValueError(
            f"a Hadamard transform has a power of two as length, not {n}; split it with block_sizes()"
        )
    near = min(n, _NEAR)
    y = _butterflies(x.reshape(x.numel() // n, n // near, near))
    y = _butterflies(y.reshape(1, x.numel() // near, near).mT).mT.reshape(x.shape)
    bits = n.bit_length() - 1
    return y * math.ldexp(math.sqrt(0.5) if bits % 2 else 1.0, -(bits // 2))


def _angles(seed: int, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [n] each, in the dtype and on the device of ``like``."""
    octets = bytearray(shake_128(f"turns/{seed}".encode()).digest(2 * n + 2))
    hashed = torch.frombuffer(octets, dtype=torch.uint8)[: 2 * n].reshape(n, 2).double()
    t = (hashed[:, 0] + 256 * hashed[:, 1] + 0.5) / 2**15 - 1
    scale = 1 + t * t
    return ((1 - t * t) / scale).to(like), (2 * t / scale).to(like)


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([cosine * a - sine * b, sine * a + cosine * b], -1).flatten(-2)


def _by_blocks(x: Tensor) -> Tensor:
    if not x.shape[-1]:
        return x
    return torch.cat([hadamard(part) for part in torch.split(x, block_sizes(x.shape[-1]), dim=-1)], dim=-1)


def _butterflies(x: Tensor) -> Tensor:
    """The transform without its factor along the middle one of three dimensions."""
    rows, n, width = x.shape
    x = x.clone(memory_format=torch.contiguous_format)
    other = torch.empty_like(x)
    h = 1
    while h < n:
        pairs = (rows, n // (2 * h), 2, h * width)
        (a, b), (total, difference) = x.view(pairs).unbind(2), other.view(pairs).unbind(2)
        torch.add(a, b, out=total)
        torch.sub(a, b, out=difference)
        x, other = other, x
        h *= 2
    return x
