import pytest
import torch

from qbench.quantizers.nvfp4 import NvFp4


def nearest_e2m1(x):
    """By search among all values; ties, which real data do not have, are left open."""
    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    nearest = (x.abs()[..., None] - magnitudes).abs().argmin(-1)
    return torch.copysign(magnitudes[nearest], x)


def test_two_scales_as_nvidia_defines_them(code, gaussian):
    """Block scales are torch's own casts."""
    x = gaussian(24, 64, seed=2) * torch.logspace(-2, 0, 24)[:, None]
    scale = x.abs().amax() / (448 * 6)
    blocks = x.reshape(-1, 16)
    block_scale = (blocks.abs().amax(1, keepdim=True) / scale / 6).to(torch.float8_e4m3fn)
    coded = code(NvFp4(), x)
    assert torch.equal(coded.codes["scale"].values, block_scale.view(torch.uint8).reshape(-1))
    both = block_scale.float() * scale
    assert torch.equal(coded.reconstruction, (nearest_e2m1(blocks / both) * both).reshape(x.shape))
    assert coded.codebook["scale"].dtype == torch.float32
    assert coded.codebook["scale"].numel() == 1


def test_a_small_block_keeps_the_smallest_scale(code):
    """2^-9 s, s = 1 / 2688: levels of that times 1/2 to 6; below a quarter of it all is zero."""
    unit = 2.0**-9 / (448 * 6)
    x = torch.zeros(3, 16)
    x[0] = 1.0
    x[1] = 0.6 * unit
    x[2] = 0.2 * unit
    decoded = code(NvFp4(), x).reconstruction
    assert decoded[1].tolist() == pytest.approx([0.5 * unit] * 16)
    assert not decoded[2].any()


def test_what_exceeds_a_fitted_scale_saturates(code):
    x = torch.tensor([0.5, -0.5, 0.0])
    assert code(NvFp4(), 100 * x, fitted_on=x).reconstruction.tolist() == pytest.approx([0.5, -0.5, 0.0])
