"""A dither that sender and receiver make from a text they share."""

from hashlib import shake_128

import torch
from torch import Tensor

from .lattice import Lattice


def voronoi_dither(lattice: Lattice, rows: int, unit: int, key: str, device: torch.device) -> Tensor:
    """Points of ``lattice / unit``, uniform over the Voronoi cell: [rows, N] float64, in units of ``1 / unit``.

    Integers below ``unit``, a power of two up to 2^16, hashed from ``key``, times the basis, less the nearest
    point: decided in dyadic numbers, on every machine alike.
    """
    n = lattice.dimension
    digest = shake_128(key.encode()).digest(2 * max(1, rows * n))
    integers = torch.frombuffer(bytearray(digest), dtype=torch.uint8).view(-1, 2).to(device, torch.float64)
    coordinates = (integers[:, 0] + 256 * integers[:, 1]).remainder(unit)[: rows * n].reshape(rows, n)
    u = coordinates @ lattice.basis.to(device)
    return u - lattice.decide(u, scale=unit)
