"""Packing 10^7 codes on one core."""

import numpy as np
import pytest

from qbench import coders, packing

COUNT = 10**7


def codes(levels: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, levels, count, dtype=np.uint8 if levels <= 256 else np.uint16)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 16, 17, 256])
@pytest.mark.benchmark(group="pack")
def test_pack(benchmark, levels: int) -> None:
    benchmark(packing.pack, codes(levels), levels)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 16, 17, 256])
@pytest.mark.benchmark(group="unpack")
def test_unpack(benchmark, levels: int) -> None:
    benchmark(packing.unpack, packing.pack(codes(levels), levels), COUNT, levels)


@pytest.mark.parametrize("coder", ["elias", "rans"])
@pytest.mark.benchmark(group="entropy coding, 10^6 codes")
def test_entropy_coding(benchmark, coder: str) -> None:
    skewed = np.minimum(np.random.default_rng(0).geometric(0.4, 10**6) - 1, 15).astype(np.uint8)
    benchmark(coders.encode, skewed, 16, coder)
