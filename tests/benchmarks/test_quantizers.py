"""Fit, encode and decode of every quantizer beside copies and the field's libraries, one thread for all.

Every figure is for 2^20 float32 values. `Melem/s` and `of copy`, the share of the speed of a copy into a buffer that
exists, are in the extra information of each (`--benchmark-json`).
"""

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench import plugins
from qbench.codec import Code
from qbench.components import Context

ELEMENTS = 2**20
SHAPE = (1024, 1024)
pytestmark = pytest.mark.filterwarnings("ignore")


def points() -> list[str]:
    """The middle of every quantizer's sweep, of those that need nothing beside the tensor."""
    found = plugins.load(["all"])
    components = [found.entry("quantizer", name).component for name in found.names("quantizer")]
    middle = [component(**component.sweep[len(component.sweep) // 2]) for component in components]
    return [str(one.spec) for one in middle if not any(part.needs for part in one.parts())]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


@functools.cache
def copy_seconds() -> float:
    """The least of many copies of as many values into a buffer that exists."""
    x = torch.ones(ELEMENTS)
    into = torch.empty_like(x)
    times = []
    for _ in range(50):
        began = time.perf_counter()
        into.copy_(x)
        times.append(time.perf_counter() - began)
    return min(times)


def timed(benchmark: Any, work: Callable[..., Any], *arguments: Any) -> None:
    benchmark(work, *arguments)
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["Melem/s"] = round(ELEMENTS / seconds / 1e6, 2)
    benchmark.extra_info["of copy"] = round(copy_seconds() / seconds, 5)


def made(point: str) -> tuple[Code, Context]:
    return Code(plugins.catalog().quantizer(point)), Context(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("group", ["encode", "decode"])
def test_copy(benchmark, x: Tensor, group: str) -> None:
    benchmark.group = group
    timed(benchmark, torch.empty_like(x).copy_, x)


@pytest.mark.parametrize("point", points())
@pytest.mark.benchmark(group="fit", max_time=1, min_rounds=1)
def test_fit(benchmark, x: Tensor, point: str) -> None:
    code, context = made(point)
    timed(benchmark, code.fit, x, context)


@pytest.mark.parametrize("point", points())
@pytest.mark.benchmark(group="encode", max_time=2, min_rounds=3)
def test_encode(benchmark, x: Tensor, point: str) -> None:
    code, context = made(point)
    timed(benchmark, code.encode, x, code.fit(x, context), context)


@pytest.mark.parametrize("point", points())
@pytest.mark.benchmark(group="decode", max_time=2, min_rounds=3)
def test_decode(benchmark, x: Tensor, point: str) -> None:
    code, context = made(point)
    codebook = code.fit(x, context)
    timed(benchmark, code.decode, code.encode(x, codebook, context), codebook, x.shape)


def nf4(x: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    library = pytest.importorskip("bitsandbytes.functional")
    sent = library.quantize_4bit(x, blocksize=64, quant_type="nf4")
    return (
        lambda: library.quantize_4bit(x, blocksize=64, quant_type="nf4"),
        lambda: library.dequantize_4bit(*sent),
    )


def int8(x: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    library = pytest.importorskip("torchao.quantization.quant_primitives")
    block, ends = (1, SHAPE[1]), (-127, 127)

    def encode() -> tuple[Tensor, Tensor, Tensor]:
        scale, zero = library.choose_qparams_affine(
            x, library.MappingType.SYMMETRIC, block, torch.int8, *ends
        )
        return library.quantize_affine(x, block, scale, zero, torch.int8, *ends), scale, zero

    codes, scale, zero = encode()
    return encode, lambda: library.dequantize_affine(codes, block, scale, zero, torch.int8, *ends)


def mxfp4(x: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    library = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor").MXTensor
    sent = library.to_mx(x, torch.float4_e2m1fn_x2, 32)
    return (
        lambda: library.to_mx(x, torch.float4_e2m1fn_x2, 32),
        lambda: sent.dequantize(torch.float32),
    )


def product_quantizer(x: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    library = pytest.importorskip("faiss")
    library.omp_set_num_threads(1)
    vectors, quantizer = x.reshape(-1, 8).numpy(), library.ProductQuantizer(8, 1, 8)
    quantizer.train(vectors[: 2**14])
    sent = quantizer.compute_codes(vectors)
    return lambda: quantizer.compute_codes(vectors), lambda: quantizer.decode(sent)


def hqq(x: Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    library = pytest.importorskip("hqq.core.quantize").Quantizer
    settings = {"nbits": 4, "group_size": 64, "axis": 1, "device": "cpu", "compute_dtype": torch.float32}
    sent = library.quantize(x, **settings)
    return lambda: library.quantize(x, **settings), lambda: library.dequantize(*sent)


LIBRARIES = {
    "bitsandbytes-nf4": nf4,
    "torchao-int8": int8,
    "torchao-mxfp4": mxfp4,
    "faiss-product-vq": product_quantizer,
    "hqq-4-bits": hqq,
}


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("group", ["encode", "decode"])
@pytest.mark.benchmark(max_time=2, min_rounds=3)
def test_library(benchmark, x: Tensor, group: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encode, decode = LIBRARIES[name](x)
    benchmark.group = group
    timed(benchmark, encode if group == "encode" else decode)
