"""Fixtures that the tests of several quantizers share."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from qbench.codec import Code
from qbench.components import Context, Quantizer
from qbench.message import Message, nbytes, pack, unpack


@dataclass(frozen=True)
class Coded:
    """What came back, and the messages as the decoder read them; the codebook without the core's exponent."""

    reconstruction: Tensor
    codes: Message
    codebook: Message
    nbytes: int


def _through_bytes(message: Message) -> Message:
    packed = pack(message)
    assert nbytes(message) == len(packed)
    read, used = unpack(packed)
    assert used == len(packed)
    return read


@pytest.fixture
def code() -> Callable[..., Coded]:
    """Fit, encode, pack, unpack, and decode with an instance that has seen nothing else."""

    def run(quantizer: Quantizer, x: Tensor, *, fitted_on: Tensor | None = None, seed: int = 0) -> Coded:
        context = Context(torch.Generator().manual_seed(seed))
        coder = Code(quantizer)
        codebook = coder.fit(x if fitted_on is None else fitted_on, context)
        codes = _through_bytes(coder.encode(x, codebook, context))
        codebook = _through_bytes(codebook)
        fresh = Code(type(quantizer)(**dict(quantizer.parameters)))
        reconstruction = fresh.decode(codes, codebook, x.shape)
        assert reconstruction.dtype == torch.float32
        return Coded(reconstruction, codes, codebook["c"], nbytes(codes))

    return run


@pytest.fixture
def gaussian() -> Callable[..., Tensor]:
    """Independent N(0, 1) values."""
    return lambda *shape, seed=0: _gaussian(shape, seed).clone()


@pytest.fixture
def laplacian() -> Callable[..., Tensor]:
    """Independent Laplacian values of unit variance."""
    return lambda *shape, seed=0: _laplacian(shape, seed).clone()


@lru_cache(maxsize=8)
def _gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@lru_cache(maxsize=8)
def _laplacian(shape: tuple[int, ...], seed: int) -> Tensor:
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    return (-uniform.sign() * torch.log1p(-2 * uniform.abs()) / math.sqrt(2)).float()


@pytest.fixture
def z_score() -> Callable[[Tensor, Tensor, float], float]:
    """How many standard errors the mean squared error lies above its expected value."""

    def z(x: Tensor, reconstruction: Tensor, expected: float) -> float:
        squares = (x - reconstruction).double().square()
        return float((squares.mean() - expected) / (squares.std() / math.sqrt(squares.numel())))

    return z


@pytest.fixture
def gain_z() -> Callable[[Tensor, Tensor], float]:
    """How many standard errors the mean of paired gains ``before - after`` lies above zero; a pair per unit."""

    def z(before: Tensor, after: Tensor) -> float:
        gains = (before - after).double()
        return float(gains.mean() / (gains.std() / math.sqrt(len(gains))))

    return z


@pytest.fixture
def sqnr_db() -> Callable[[Tensor, Tensor], float]:
    """10 log10 of energy over squared error."""

    def sqnr(x: Tensor, reconstruction: Tensor) -> float:
        ratio = x.double().square().sum() / (x - reconstruction).double().square().sum()
        return 10 * math.log10(float(ratio))

    return sqnr


@pytest.fixture
def sqnr_db_error() -> Callable[[Tensor, Tensor], float]:
    """Standard error of the SQNR, to first order from the spread of rows that share no block."""

    def standard_error(x: Tensor, reconstruction: Tensor) -> float:
        error = (x - reconstruction).double().square().mean(1)
        energy = x.double().square().mean(1)
        relative = error / error.mean() - energy / energy.mean()
        return 10 / math.log(10) * float(relative.std()) / math.sqrt(len(relative))

    return standard_error
