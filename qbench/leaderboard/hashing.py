"""Random bits that are the same in Python and in the page's JavaScript: a hash of a counter, nothing remembered.

A number of 32 bits, ``counter = purpose << 28 | draw << 12 | slot`` with ``purpose < 16``, ``draw < 65536`` and
``slot < 4096`` (larger ones modulo that), is hashed, modulo 2^32 throughout::

    h = counter * 0x9E3779B1
    h ^= h >> 16;  h *= 0x85EBCA6B
    h ^= h >> 13;  h *= 0xC2B2AE35
    h ^= h >> 16

In JavaScript ``Math.imul``, ``>>>`` and a last ``>>> 0``. From the hash are made

- an index below n: ``floor(h * n / 2^32)``, exact in double precision for n < 2^21;
- a uniform number in (0, 1): ``(h + 0.5) / 2^32``;
- a standard normal number: ``sqrt(-2 ln u) cos(2 pi v)``, u and v the uniform numbers of the purposes NORMAL_U and
  NORMAL_V at one draw and slot (the one thing that may differ between languages, by a few units in the last place);
- a sign: -1 where the highest bit of the hash is set (h >= 2^31), else +1.

What :mod:`qbench.leaderboard.standings` draws with them. Units are in ascending order of their texts (by code point)
everywhere, and so are data sets; D data sets, M_d units in data set d, M the largest M_d.

- Resampling ``draw`` takes at each position j < D the data set ``d = index(DATASET, draw, j; D)``, and in it for each
  k < M_d the unit ``index(UNIT, draw, s; M_d)`` among those of d, ``s = j M + k``, with the noise
  ``z = normal(draw, s)`` times the standard error of that unit's gain.
- Flip ``draw`` gives unit i of n the sign of (FLIP, draw, i).

>>> [int(h) for h in hashes(UNIT, 7, [0, 1])]
[2995673069, 1562417263]

Reference: Appleby 2011, MurmurHash3 (its finalizer of 32 bits); Salmon et al. 2011, "Parallel Random Numbers: As
Easy as 1, 2, 3" (a counter instead of a state); Box and Muller 1958.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

DATASET, UNIT, NORMAL_U, NORMAL_V, FLIP = 1, 2, 3, 4, 5
DRAWS, SLOTS = 1 << 16, 1 << 12

Words = NDArray[np.uint32]
Numbers = NDArray[np.float64]


def hashes(purpose: int, draw: ArrayLike, slot: ArrayLike) -> Words:
    """32 random bits for each draw and slot.

    Args:
        purpose: what they are for, one of the constants of this module.
        draw, slot: non-negative integers, arrays that broadcast with each other.
    """
    draws = np.asarray(draw, dtype=np.uint64) % DRAWS
    slots = np.asarray(slot, dtype=np.uint64) % SLOTS
    return mixed((np.uint64(purpose) << np.uint64(28)) | (draws << np.uint64(12)) | slots)


def mixed(counter: ArrayLike) -> Words:
    """The hash of the module's docstring; a bijection of the numbers below 2^32."""
    low = np.uint64(0xFFFFFFFF)
    h = (np.asarray(counter, dtype=np.uint64) * np.uint64(0x9E3779B1)) & low
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & low
    return np.asarray(h ^ (h >> np.uint64(16)), dtype=np.uint32)


def indices(purpose: int, draw: ArrayLike, slot: ArrayLike, below: ArrayLike) -> NDArray[np.int64]:
    """An index, 0 to ``below`` - 1, for each draw and slot."""
    wide = hashes(purpose, draw, slot).astype(np.uint64) * np.asarray(below, dtype=np.uint64)
    return (wide >> np.uint64(32)).astype(np.int64)


def uniforms(purpose: int, draw: ArrayLike, slot: ArrayLike) -> Numbers:
    """A number in (0, 1) for each draw and slot."""
    return (hashes(purpose, draw, slot).astype(np.float64) + 0.5) / 2**32


def normals(draw: ArrayLike, slot: ArrayLike) -> Numbers:
    """A standard normal number for each draw and slot."""
    u, v = uniforms(NORMAL_U, draw, slot), uniforms(NORMAL_V, draw, slot)
    return np.asarray(np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v))


def signs(draw: ArrayLike, slot: ArrayLike) -> Numbers:
    """+1 or -1 for each draw and slot."""
    return np.where(hashes(FLIP, draw, slot) >= 2**31, -1.0, 1.0)
