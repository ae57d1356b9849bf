"""What every number format of the field does: distortion, exact rate, and any tensor."""

import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.quantizers.fp4 import Fp4
from qbench.quantizers.fp8_e4m3 import Fp8E4M3
from qbench.quantizers.fp8_e5m2 import Fp8E5M2
from qbench.quantizers.log2 import Log2
from qbench.quantizers.mxfp4 import MxFp4
from qbench.quantizers.mxfp6 import MxFp6
from qbench.quantizers.mxfp8 import MxFp8
from qbench.quantizers.nf4 import Nf4
from qbench.quantizers.nvfp4 import NvFp4

CLASSES = [Fp4, Fp8E4M3, Fp8E5M2, Log2, MxFp4, MxFp6, MxFp8, Nf4, NvFp4]
FURTHER = [
    Fp4(group_size=7, scale_dtype="float16"),
    Log2(bits=8, granularity="group"),
    Log2(bits=3, granularity="tensor", range="max", rounding="linear"),
    Nf4(group_size=128, scale_dtype="float16"),
]
QUANTIZERS = [cls(**point) for cls in CLASSES for point in cls.sweep] + FURTHER
SHAPES = [(), (1,), (200,), (7, 31), (1, 64), (5, 1), (2, 3, 4, 5), (3, 65, 2)]
EMPTY = [(0,), (0, 3), (3, 0), (2, 0, 4)]

every = pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)


# SQNR in dB on N(0, 1), simulated with bitsandbytes and torchao; bits per element without what a tensor adds once.
GAUSSIAN = [
    (Fp8E4M3(granularity="channel"), 31.55, 8),
    (MxFp8(element="e4m3"), 30.65, 8 + 8 / 32),
    (MxFp8(element="e5m2"), 25.37, 8 + 8 / 32),
    (MxFp6(element="e2m3"), 30.94, 6 + 8 / 32),
    (MxFp6(element="e3m2"), 25.37, 6 + 8 / 32),
    (MxFp4(), 18.79, 4 + 8 / 32),
    (NvFp4(), 20.44, 4 + 8 / 16),
    (Fp4(table="e2m1"), 19.52, 4 + 32 / 64),
    (Fp4(table="bnb"), 18.28, 4 + 32 / 64),
    (Fp4(table="bnb", scale_dtype="float16"), 18.28, 4 + 16 / 64),
    (Nf4(group_size=64), 20.73, 4 + 32 / 64),
    (Nf4(group_size=128), 20.39, 4 + 32 / 128),
    (Nf4(group_size=256), 20.11, 4 + 32 / 256),
    (Nf4(group_size=64, double_quantization=True), 20.73, 4 + 8 / 64 + 32 / (64 * 256)),
]


@pytest.mark.parametrize(("quantizer", "expected", "bits"), GAUSSIAN, ids=lambda value: str(value))
def test_distortion_and_rate_on_a_gaussian(code, gaussian, sqnr_db, quantizer, expected, bits):
    """Within the reference's .02 dB and 4 standard errors, from 512 rows that share no block.

    A message adds its schema and counts, less than 48 bytes.
    """
    x = gaussian(512, 2048, seed=3)
    coded = code(quantizer, x)
    error = (coded.reconstruction - x).double().square().mean(1)
    energy = x.double().square().mean(1)
    relative = error / error.mean() - energy / energy.mean()
    standard_error = 10 / math.log(10) * float(relative.std()) / math.sqrt(len(relative))
    assert abs(sqnr_db(x, coded.reconstruction) - expected) < 0.02 + 4 * standard_error
    assert standard_error < 0.02
    assert 0 < coded.nbytes - bits * x.numel() / 8 < 48


def tensors():
    """Ordinary values in every shape, odd ones in one."""
    generator = torch.Generator().manual_seed(0)
    yield from (torch.randn(shape, generator=generator) for shape in SHAPES)
    x = torch.randn(7, 31, generator=generator)
    yield from (x * 1e-9, x * 1e9, x.abs(), torch.full_like(x, -0.3), torch.full((), 0.5))
    yield x * 10.0 ** -(torch.rand(x.shape, generator=generator) * 30)
    yield x * torch.tensor([1, 1e-6, 0, 1, 1e-30, 1e-3, 1])[:, None]


@every
def test_any_tensor_comes_back_in_its_shape_and_size(code, quantizer):
    """No level lies beyond sqrt(2) times the largest magnitude, as in log2; 1 % for float16."""
    for x in tensors():
        decoded = code(quantizer, x).reconstruction
        assert decoded.shape == x.shape
        assert bool(torch.isfinite(decoded).all())
        assert float(decoded.abs().max()) <= 1.01 * math.sqrt(2) * float(x.abs().max())
        assert float((decoded - x).double().square().sum()) < float(x.double().square().sum())


@every
def test_empty_tensors_come_back_empty(code, quantizer):
    for shape in EMPTY:
        assert code(quantizer, torch.zeros(shape)).reconstruction.shape == shape


@every
def test_zeros_stay_zeros(code, quantizer):
    for shape in SHAPES:
        assert not code(quantizer, torch.zeros(shape)).reconstruction.any()
    x = torch.ones(4, 256)
    x[1:3] = 0
    assert not code(quantizer, x).reconstruction[1:3].any()


@every
def test_a_codebook_codes_another_tensor(code, gaussian, quantizer):
    """Of another length, a thousand times as large or as small, or fitted on zeros."""
    fitted = gaussian(4, 50)
    for x in (gaussian(4, 77, seed=1), 1000 * fitted, fitted / 1000, torch.zeros(4, 3)):
        assert bool(torch.isfinite(code(quantizer, x, fitted_on=fitted).reconstruction).all())
    assert bool(torch.isfinite(code(quantizer, fitted, fitted_on=torch.zeros(4, 50)).reconstruction).all())


@every
def test_same_result_whatever_the_scale_of_the_data(code, gaussian, quantizer):
    x = gaussian(6, 40)
    first, again, scaled = (code(quantizer, t).reconstruction for t in (x, x.clone(), x * 2.0**-30))
    assert torch.equal(first, again)
    assert torch.equal(first * 2.0**-30, scaled)


KEEPING_MAXIMA = [
    q for q in QUANTIZERS if not isinstance(q, Log2) and "double_quantization=true" not in str(q)
]


@pytest.mark.parametrize("quantizer", KEEPING_MAXIMA, ids=str)
def test_coding_a_reconstruction_again_changes_nothing(code, gaussian, quantizer):
    """Up to the last bits of a scale, where the scale follows from the largest magnitude."""
    once = code(quantizer, gaussian(6, 64)).reconstruction
    torch.testing.assert_close(code(quantizer, once).reconstruction, once, rtol=0.002, atol=1e-6)


@pytest.mark.parametrize("cls", CLASSES)
def test_description(cls):
    assert cls.reference
    assert set(cls.targets) <= {"source", "weight", "activation", "gradient"}
    assert all(field.description for field in cls.Parameters.model_fields.values())
    points = [str(cls(**point)) for point in cls.sweep]
    assert 4 >= len(set(points)) == len(points) > 0


@pytest.mark.parametrize(
    ("cls", "parameters", "message"),
    [
        (Fp8E4M3, {"granularity": "group"}, "'tensor' or 'channel'"),
        (MxFp8, {"element": "e3m4"}, "'e4m3' or 'e5m2'"),
        (MxFp6, {"element": "e2m1"}, "'e2m3' or 'e3m2'"),
        (MxFp4, {"group_size": 16}, "no parameter 'group_size'"),
        (Fp4, {"table": "e3m0"}, "'e2m1' or 'bnb'"),
        (Nf4, {"group_size": 32}, "64, 128 or 256"),
        (Log2, {"bits": 1}, "bits=1"),
    ],
)
def test_bad_parameters_say_what_is_allowed(cls, parameters, message):
    with pytest.raises(ParameterError, match=message):
        cls(**parameters)
