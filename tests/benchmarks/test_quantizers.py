"""Encode and decode of every quantizer beside a copy into a buffer that exists, one thread for all."""

import pytest
import torch

from qbench import plugins
from qbench.codec import Code
from qbench.components import Context

ELEMENTS = 2**20


def points() -> list[str]:
    found = plugins.load(["all"])
    components = [found.entry("quantizer", name).component for name in found.names("quantizer")]
    return [str(component(**component.sweep[len(component.sweep) // 2]).spec) for component in components]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(0))


@pytest.mark.benchmark(group="encode")
def test_copy(benchmark, x: torch.Tensor) -> None:
    benchmark(torch.empty_like(x).copy_, x)


@pytest.mark.parametrize("point", points())
@pytest.mark.benchmark(group="encode", max_time=2, min_rounds=3)
def test_encode(benchmark, x: torch.Tensor, point: str) -> None:
    code, context = Code(plugins.catalog().quantizer(point)), Context(torch.Generator().manual_seed(0))
    codebook = code.fit(x[: ELEMENTS // 8], context)
    benchmark(code.encode, x, codebook, context)


@pytest.mark.parametrize("point", points())
@pytest.mark.benchmark(group="decode", max_time=2, min_rounds=3)
def test_decode(benchmark, x: torch.Tensor, point: str) -> None:
    code, context = Code(plugins.catalog().quantizer(point)), Context(torch.Generator().manual_seed(0))
    codebook = code.fit(x[: ELEMENTS // 8], context)
    codes = code.encode(x, codebook, context)
    benchmark(code.decode, codes, codebook, x.shape)
