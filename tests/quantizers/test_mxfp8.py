import torch

from qbench.quantizers.mxfp8 import MxFp8


def test_elements_are_torch_casts_of_the_block(code):
    """Magnitudes up to 448 / 512 of a power of two: the scale of E4M3 is 2^-8 of 1, of E5M2 2^-15."""
    x = torch.linspace(-0.875, 0.875, 32)
    for element, dtype, scale in (
        ("e4m3", torch.float8_e4m3fn, 2.0**-9),
        ("e5m2", torch.float8_e5m2, 2.0**-16),
    ):
        cast = (x / scale).to(dtype)
        coded = code(MxFp8(element=element), x)
        assert torch.equal(coded.codes["codes"].values, cast.view(torch.uint8))
        assert torch.equal(coded.reconstruction, cast.float() * scale)


def test_e4m3_saturates_above_seven_quarters(code):
    """1.99 has exponent 0, so X = 2^-8, and 1.99 * 256 lies beyond 448 = 1.75 * 256."""
    assert code(MxFp8(), torch.tensor([1.99, 1.0, -1.8])).reconstruction.tolist() == [1.75, 1.0, -1.75]
