"""Number formats side by side with the libraries of the field: the same tensor, the same parameters.

Needs what `pip install .[test,libraries]` brings (`tox -e libraries`); without a library its tests are skipped.
"""

import math

import pytest
import torch
from torch import Tensor

import qbench

pytestmark = pytest.mark.filterwarnings("ignore")
CLOSE_DB = 0.05  # a bound on what rounding alone makes of the same tensor, no sampling error
SCHEMA = 8 * 64  # bits that names, kinds and counts of a message may take


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(512, 1024, generator=torch.Generator().manual_seed(0))


def sqnr_db(x: Tensor, y: Tensor) -> float:
    error = (x - y.reshape(x.shape)).double().square().sum()
    return 10 * math.log10(float(x.double().square().sum() / error))


def compare(x: Tensor, ours: str, theirs: Tensor, rate: float) -> None:
    """SQNR within 0.05 dB, at the ``rate`` that the library's tensors have when counted by our rules."""
    found = qbench.measure(qbench.quantizer(ours), x)
    assert found.sqnr_db == pytest.approx(sqnr_db(x, theirs.float()), abs=CLOSE_DB)
    assert rate <= found.rate <= rate + SCHEMA / x.numel()


@pytest.mark.parametrize("group_size", [64, 128, 256])
def test_nf4_of_bitsandbytes(x: Tensor, group_size: int) -> None:
    library = pytest.importorskip("bitsandbytes.functional")
    codes, state = library.quantize_4bit(x, blocksize=group_size, quant_type="nf4")
    theirs = library.dequantize_4bit(codes, state)
    rate = 8 * (codes.nbytes + state.absmax.nbytes) / x.numel()
    assert rate == 4 + 32 / group_size
    compare(x, f"nf4(group_size={group_size},scale_dtype=float32)", theirs, rate)
    ours = qbench.measure(qbench.quantizer("nf4", group_size=group_size, scale_dtype="float32"), x)
    assert torch.equal(ours.reconstruction, theirs)


def test_nf4_with_double_quantization_of_bitsandbytes(x: Tensor) -> None:
    library = pytest.importorskip("bitsandbytes.functional")
    codes, state = library.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=True)
    stored = codes.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes + 4
    compare(x, "nf4(double_quantization=true)", library.dequantize_4bit(codes, state), 8 * stored / x.numel())


def test_fp4_of_bitsandbytes(x: Tensor) -> None:
    library = pytest.importorskip("bitsandbytes.functional")
    codes, state = library.quantize_4bit(x, blocksize=64, quant_type="fp4")
    compare(x, "fp4(table=bnb)", library.dequantize_4bit(codes, state), 4.5)


@pytest.mark.parametrize(
    ("ours", "element", "rate"),
    [
        ("mxfp8(element=e4m3)", torch.float8_e4m3fn, 8.25),
        ("mxfp8(element=e5m2)", torch.float8_e5m2, 8.25),
        ("mxfp6(element=e2m3)", "fp6_e2m3", 6.25),
        ("mxfp6(element=e3m2)", "fp6_e3m2", 6.25),
        ("mxfp4", torch.float4_e2m1fn_x2, 4.25),
    ],
)
def test_microscaling_of_torchao(x: Tensor, ours: str, element: object, rate: float) -> None:
    library = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    theirs = library.MXTensor.to_mx(x, element, 32).dequantize(torch.float32)
    compare(x, ours, theirs, rate)
    assert torch.equal(qbench.measure(qbench.quantizer(ours), x).reconstruction, theirs)


def test_nvfp4_of_torchao(x: Tensor) -> None:
    library = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    scale = library.per_tensor_amax_to_scale(x.abs().max())
    theirs = library.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale).dequantize(torch.float32)
    compare(x, "nvfp4", theirs, 4.5 + 32 / x.numel())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_integers_of_torchao(x: Tensor, bits: int, group_size: int, scheme: str) -> None:
    """Scales are float32 on both sides; a symmetric grid runs from -(2^(b-1) - 1) to 2^(b-1) - 1."""
    library = pytest.importorskip("torchao.quantization.quant_primitives")
    half = 2 ** (bits - 1)
    ends = (1 - half, half - 1) if scheme == "symmetric" else (0, 2 * half - 1)
    dtype = torch.int8 if scheme == "symmetric" else torch.uint8
    mapping = library.MappingType[scheme.upper()]
    block = (1, group_size)
    scale, zero = library.choose_qparams_affine(x, mapping, block, dtype, *ends, scale_dtype=torch.float32)
    codes = library.quantize_affine(x, block, scale, zero, dtype, *ends)
    theirs = library.dequantize_affine(codes, block, scale, zero, dtype, *ends)
    parameters = f"bits={bits},scheme={scheme},granularity=group,group_size={group_size},scale_dtype=float32"
    extra = bits if scheme == "asymmetric" else 0
    compare(x, f"uniform({parameters})", theirs, bits + (32 + extra) / group_size)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_hqq_of_its_authors(x: Tensor, bits: int) -> None:
    library = pytest.importorskip("hqq.core.quantize").Quantizer
    settings = {"nbits": bits, "group_size": 64, "axis": 1, "device": "cpu", "compute_dtype": torch.float32}
    theirs = library.dequantize(*library.quantize(x, **settings))
    found = qbench.measure(qbench.quantizer("hqq", bits=bits, group_size=64), x)
    assert found.sqnr_db == pytest.approx(sqnr_db(x, theirs.float()), abs=CLOSE_DB)
    assert found.rate == pytest.approx(bits + 32 / 64, abs=SCHEMA / x.numel())  # scale and zero in float16
