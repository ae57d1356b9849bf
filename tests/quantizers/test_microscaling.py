"""The MX formats against their specification, written out in float64."""

import math

import pytest
import torch

from qbench.quantizers.mxfp4 import MxFp4
from qbench.quantizers.mxfp6 import MxFp6
from qbench.quantizers.mxfp8 import MxFp8

# (quantizer, mantissa bits, least normal exponent, exponent of the largest, largest): OCP MX v1.0, section 5.3.
FORMATS = [
    (MxFp8(element="e4m3"), 3, -6, 8, 448.0),
    (MxFp8(element="e5m2"), 2, -14, 15, 57344.0),
    (MxFp6(element="e2m3"), 3, 0, 2, 7.5),
    (MxFp6(element="e3m2"), 2, -2, 4, 28.0),
    (MxFp4(), 1, 0, 2, 6.0),
]
formats = pytest.mark.parametrize("form", FORMATS, ids=lambda form: str(form[0]))


def by_specification(x, mantissa_bits, least_exponent, largest_exponent, largest):
    """Section 6.3: the shared exponent is that of the largest magnitude less that of the format's largest number."""
    blocks = x.double().reshape(-1, 32)
    shared = torch.tensor(
        [2.0 ** (math.floor(math.log2(top)) - largest_exponent) for top in blocks.abs().amax(1).tolist()],
        dtype=torch.float64,
    )[:, None]
    scaled = blocks / shared
    step = 2.0 ** (scaled.abs().log2().floor().clamp(min=least_exponent) - mantissa_bits)
    return ((scaled / step).round() * step).clamp(-largest, largest).mul(shared).float().reshape(x.shape)


@formats
@pytest.mark.parametrize("exponent", [-60, 0, 1, 60])
def test_blocks_are_those_of_the_specification_at_any_scale(code, gaussian, form, exponent):
    """The specification is applied to the tensor as it is, the quantizer to a rescaled one: no bit may differ."""
    quantizer, *properties = form
    x = gaussian(8, 96) * torch.logspace(-3, 3, 8)[:, None] * 2.0**exponent
    assert torch.equal(code(quantizer, x).reconstruction, by_specification(x, *properties))


@formats
def test_scales_lie_as_far_apart_as_the_blocks(code, form):
    quantizer = form[0]
    x = torch.cat([torch.full((32,), 2.0**-k) for k in (0, 1, 5, 20)])
    coded = code(quantizer, x)
    scale = coded.codes["scale"].values.int()
    assert (scale[0] - scale).tolist() == [0, 1, 5, 20]
    assert coded.codes["scale"].levels == 256
    assert torch.equal(coded.reconstruction, x)


@formats
def test_a_block_beyond_all_scales_still_decodes(form):
    """E8M0 ends at 2^-127 and 2^127; the encoder is given tensors that were never rescaled."""
    quantizer = form[0]
    for x in (torch.full((32,), 1e-44), torch.full((32,), 3e38)):
        codes = quantizer.encode(x, {}, context=None)
        decoded = quantizer.decode(codes, {}, x.shape)
        assert bool(torch.isfinite(decoded).all())
        assert float((decoded - x).abs().max()) <= float(x.abs().max())


@pytest.mark.parametrize("size", [1, 31, 33, 100])
def test_a_block_that_is_not_full_costs_one_scale(code, gaussian, size):
    coded = code(MxFp4(), gaussian(size))
    assert coded.codes["codes"].values.numel() == size
    assert coded.codes["scale"].values.numel() == math.ceil(size / 32)
