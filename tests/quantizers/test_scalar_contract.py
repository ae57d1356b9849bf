"""What every scalar and sparse quantizer, number formats among them, does with any tensor.

At each point of its sweep and at a few more.
"""

import math

import pytest
import torch

from qbench.quantizers.binary import Binary
from qbench.quantizers.ecsq import Ecsq
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.fp4 import Fp4
from qbench.quantizers.fp8_e4m3 import Fp8E4M3
from qbench.quantizers.fp8_e5m2 import Fp8E5M2
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.lloyd_max import LloydMax
from qbench.quantizers.log2 import Log2
from qbench.quantizers.mxfp4 import MxFp4
from qbench.quantizers.mxfp6 import MxFp6
from qbench.quantizers.mxfp8 import MxFp8
from qbench.quantizers.nf4 import Nf4
from qbench.quantizers.nvfp4 import NvFp4
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.topk import TopK
from qbench.quantizers.uniform import Uniform

FORMATS = [Fp4, Fp8E4M3, Fp8E5M2, Log2, MxFp4, MxFp6, MxFp8, Nf4, NvFp4]
CLASSES = [Binary, Ecsq, EntropyCoded, KMeans, LloydMax, StochasticRounding, TopK, Uniform, *FORMATS]
FURTHER = [
    Uniform(bits=1, scheme="asymmetric", granularity="tensor", range="percentile"),
    Uniform(bits=16, scheme="midrise", granularity="channel", scale_dtype="float32"),
    Uniform(bits=3, scheme="midrise", granularity="group", group_size=48, range="mse"),
    Uniform(bits=5, scheme="asymmetric", granularity="channel", range="mse"),
    StochasticRounding(bits=16, granularity="channel"),
    LloydMax(bits=2, granularity="channel"),
    LloydMax(bits=5, table="laplacian", granularity="channel"),
    KMeans(levels=256),
    TopK(fraction=1.0),
    Ecsq(rate=8.0),
    EntropyCoded(inner=Uniform(bits=16)),
    EntropyCoded(inner=EntropyCoded(inner=KMeans(levels=5))),
    Fp4(group_size=7, scale_dtype="float16"),
    Log2(bits=8, granularity="group"),
    Log2(bits=3, granularity="tensor", range="max", rounding="linear"),
    Nf4(group_size=128, scale_dtype="float16"),
]
QUANTIZERS = [cls(**point) for cls in CLASSES for point in cls.sweep] + FURTHER
SHAPES = [(), (1,), (200,), (7, 31), (1, 64), (5, 1), (2, 3, 4, 5), (3, 65, 2)]
EMPTY = [(0,), (0, 3), (3, 0), (2, 0, 4)]

every = pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)


def is_format(quantizer):
    return isinstance(quantizer, tuple(FORMATS))


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
    """No level of a format lies beyond sqrt(2) times the largest magnitude, as in log2, and none of the others
    beyond twice, as with one asymmetric bit; 1 % for float16.
    """
    reach = 1.01 * (math.sqrt(2) if is_format(quantizer) else 2)
    for x in tensors():
        decoded = code(quantizer, x).reconstruction
        assert decoded.shape == x.shape
        assert bool(torch.isfinite(decoded).all())
        assert float(decoded.abs().max()) <= reach * float(x.abs().max())


@pytest.mark.parametrize("quantizer", [*filter(is_format, QUANTIZERS)], ids=str)
def test_every_tensor_is_better_off_in_a_format_than_as_zeros(code, quantizer):
    for x in tensors():
        error = (code(quantizer, x).reconstruction - x).double().square().sum()
        assert float(error) < float(x.double().square().sum())


@every
def test_empty_tensors_come_back_empty(code, quantizer):
    for shape in EMPTY:
        assert code(quantizer, torch.zeros(shape)).reconstruction.shape == shape


@every
def test_zeros_stay_zeros(code, quantizer):
    for shape in SHAPES:
        assert not code(quantizer, torch.zeros(shape)).reconstruction.any()


@pytest.mark.parametrize("quantizer", [*filter(is_format, QUANTIZERS)], ids=str)
def test_rows_of_zeros_among_others_stay_zeros_in_a_format(code, quantizer):
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
def test_same_seed_same_result_whatever_the_scale_of_the_data(code, gaussian, quantizer):
    x = gaussian(6, 40)
    first, again, scaled = (code(quantizer, t).reconstruction for t in (x, x.clone(), x * 2.0**-30))
    assert torch.equal(first, again)
    assert torch.equal(first * 2.0**-30, scaled)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_million_elements(code, gaussian, sqnr_db, cls):
    """Better than zeros, of 0 dB; what each is worth is in its own tests."""
    x = gaussian(1000, 1000)
    assert sqnr_db(x, code(cls(), x).reconstruction) > 0


@pytest.mark.parametrize("cls", CLASSES)
def test_description(cls):
    assert cls.reference
    assert set(cls.targets) <= {"source", "weight", "activation", "gradient"}
    assert all(field.description for field in cls.Parameters.model_fields.values())
    points = [str(cls(**point)) for point in cls.sweep]
    assert len(set(points)) == len(points) > 0
