"""The product of binarized matrices, by exclusive or and bit count."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

_CHUNK_BYTES = 2**22


def packed_signs(x: Tensor) -> Tensor:
    """The signs of ``x`` [..., n] as bits, [..., ceil(n / 8)], uint8: 1 where x >= 0; bits left over are 0."""
    bits = F.pad((x >= 0).to(torch.uint8), (0, -x.shape[-1] % 8))
    places = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=x.device)
    octets = bits.reshape(*x.shape[:-1], -(-x.shape[-1] // 8), 8)
    packed: Tensor = (octets * places).sum(-1, dtype=torch.uint8)
    return packed


def packed_dot(a: Tensor, b: Tensor) -> Tensor:
    """``sign(a) sign(b)^T``, [m, k], float32, of floats [m, n] and [k, n], from 1 bit per element; sign(0) = 1.

    Two signs agree where the exclusive or of their bits is 0: ``dot = n - 2 popcount(a xor b)``. Sums of signs are
    integers, so up to n = 2^24 it equals the float product bit for bit, in whatever order that is summed.

    Raises:
        InputError: not two matrices with rows of one length, at most 2^24.

    Reference: Rastegari et al. 2016, "XNOR-Net", section 3.2 and eq. 11.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or a.shape[1] > 2**24:
        raise InputError(
            f"packed_dot: shapes {tuple(a.shape)} and {tuple(b.shape)}; give [m, n] and [k, n] with n <= 2^24"
        )
    left, right = packed_signs(a), packed_signs(b)
    counts = _bit_counts(a.device)
    rows = torch.split(left, max(1, _CHUNK_BYTES // max(1, right.numel())))
    differing = [counts[(part[:, None] ^ right).int()].sum(2, dtype=torch.int32) for part in rows]
    return (a.shape[1] - 2 * torch.cat(differing)).float()


def _bit_counts(device: torch.device) -> Tensor:
    """How many bits of 0 to 255 are 1, [256]."""
    byte = torch.arange(256, device=device)
    return ((byte[:, None] >> torch.arange(8, device=device)) & 1).sum(1).to(torch.uint8)
