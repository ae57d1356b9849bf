"""Sparse vectors as messages: where the nonzeros stand, and signed integers most of which are zero."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import PayloadError
from ..message import Coder, Message, Stream, nbytes
from .reading import values

Coding = Literal["index", "bitmap", "elias", "rans"]


def write_positions(kept: Tensor, count: int, codings: Sequence[Coding]) -> Message:
    """The shortest of the messages that ``codings`` make of ascending positions ``kept`` [k] below ``count``.

    - index: each position at a fixed length, log2(count) bits.
    - bitmap: a bit for every one of the ``count`` elements.
    - elias: the gaps, how many elements are skipped before each position, in an Elias delta code.
    - rans: gap = high 2^m + low with 2^m about a quarter of the mean gap or less: low at m bits, high by rANS. Where
      gaps are geometric the low bits carry next to no information, so the length is close to log2 C(count, k).
    """
    gaps = kept.diff(prepend=kept.new_tensor([-1])) - 1
    return min((_positions(kept, gaps, count, coding) for coding in codings), key=nbytes)


def read_positions(message: Message, count: int) -> Tensor:
    """The positions [k], int64, that :func:`write_positions` wrote.

    Raises:
        PayloadError: there are none, or they are not below ``count``.
    """
    if "bitmap" in message:
        kept = values(message, "bitmap").nonzero()[:, 0]
    elif "index" in message:
        kept = values(message, "index").long()
    else:
        kept = (_gaps(message, count) + 1).cumsum(0) - 1
    if kept.numel() and int(kept.max()) >= count:
        raise PayloadError(f"position {int(kept.max())} in a tensor of {count} elements")
    return kept


def write_signed(numbers: Tensor, largest: int, coder: Coder) -> Message:
    """Integers [n] in [-largest, largest].

    With ``fixed`` and ``rans`` one stream of 2 largest + 1 levels. With ``elias`` the positions of the nonzeros (their
    gaps in an Elias code or, where that is shorter, a bitmap), a sign for each, and the Elias code of each magnitude.
    """
    if coder != "elias":
        return {"codes": Stream(numbers + largest, 2 * largest + 1, coder)}
    kept = numbers.nonzero()[:, 0]
    nonzero = numbers[kept]
    return {
        **write_positions(kept, numbers.numel(), ("elias", "bitmap")),
        "sign": Stream(nonzero < 0, 2),
        "size": Stream(nonzero.abs() - 1, largest, coder),
    }


def read_signed(message: Message, count: int, largest: int) -> Tensor:
    """The integers that :func:`write_signed` wrote, [count], as float32.

    Raises:
        PayloadError: a part is missing, or positions are not below ``count``.
    """
    if "codes" in message:
        return values(message, "codes").float() - largest
    kept = read_positions(message, count)
    signs = 1.0 - 2.0 * values(message, "sign").float()
    nonzero = signs * (values(message, "size").float() + 1.0)
    return nonzero.new_zeros(count).index_put((kept,), nonzero)


def _positions(kept: Tensor, gaps: Tensor, count: int, coding: Coding) -> Message:
    levels = max(1, count)
    if coding == "index":
        return {"index": Stream(kept, levels)}
    if coding == "bitmap":
        mask = torch.zeros(count, dtype=torch.uint8, device=kept.device)
        return {"bitmap": Stream(mask.index_fill_(0, kept, 1), 2)}
    if coding == "elias":
        return {"gaps": Stream(gaps, levels, "elias")}
    m = _low_bits(count, kept.numel())
    return {"low": Stream(gaps & (1 << m) - 1, 1 << m), "high": Stream(gaps >> m, (levels >> m) + 1, "rans")}


def _gaps(message: Message, count: int) -> Tensor:
    if "gaps" in message:
        return values(message, "gaps").long()
    low, high = values(message, "low"), values(message, "high")
    return (high.long() << _low_bits(count, low.numel())) + low.long()


def _low_bits(count: int, kept: int) -> int:
    """The m of ``4 2^m <= count / kept < 8 2^m``, at least 0."""
    return max((count // max(1, kept)).bit_length() - 3, 0)
