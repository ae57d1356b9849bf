"""Distortion and exact rate of every number format of the field; what they do with any tensor: test_scalar_contract."""

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
def test_distortion_and_rate_on_a_gaussian(code, gaussian, sqnr_db, sqnr_db_error, quantizer, expected, bits):
    """Within the reference's .02 dB and 4 standard errors, from 512 rows that share no block.

    A message adds its schema and counts, less than 48 bytes.
    """
    x = gaussian(512, 2048, seed=3)
    coded = code(quantizer, x)
    standard_error = sqnr_db_error(x, coded.reconstruction)
    assert abs(sqnr_db(x, coded.reconstruction) - expected) < 0.02 + 4 * standard_error
    assert standard_error < 0.02
    assert 0 < coded.nbytes - bits * x.numel() / 8 < 48


KEEPING_MAXIMA = [
    *(cls(**point) for cls in (Fp4, Fp8E4M3, Fp8E5M2, MxFp4, MxFp6, MxFp8, NvFp4) for point in cls.sweep),
    *(Nf4(**point) for point in Nf4.sweep if not point.get("double_quantization")),
    Fp4(group_size=7, scale_dtype="float16"),
    Nf4(group_size=128, scale_dtype="float16"),
]


@pytest.mark.parametrize("quantizer", KEEPING_MAXIMA, ids=str)
def test_coding_a_reconstruction_again_changes_nothing(code, gaussian, quantizer):
    """Where the scale follows from the largest magnitude; a float16 scale is rounded up by 2^-10 at most, twice."""
    once = code(quantizer, gaussian(6, 64)).reconstruction
    torch.testing.assert_close(code(quantizer, once).reconstruction, once, rtol=0.002, atol=1e-6)


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
