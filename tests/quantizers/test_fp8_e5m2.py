import pytest
import torch

from qbench.errors import InputError
from qbench.quantizers.fp8_e5m2 import Fp8E5M2


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_it_is_a_cast_of_torch_between_two_scalings(code, gaussian, granularity):
    x = gaussian(16, 512) * torch.logspace(-3, 2, 16)[:, None]
    scale = (x.abs().amax() if granularity == "tensor" else x.abs().amax(1, keepdim=True)) / 57344
    coded = code(Fp8E5M2(granularity=granularity), x)
    cast = (x / scale).to(torch.float8_e5m2)
    assert torch.equal(coded.reconstruction, cast.float() * scale)
    assert torch.equal(coded.codes["codes"].values, cast.view(torch.uint8).reshape(-1))
    assert coded.codebook["scale"].shape == ((1,) if granularity == "tensor" else (16,))


def test_what_exceeds_a_fitted_scale_saturates(code):
    x = torch.tensor([0.5, -0.25, 0.0])
    decoded = code(Fp8E5M2(granularity="tensor"), 100 * x, fitted_on=x).reconstruction
    assert decoded.tolist() == pytest.approx([0.5, -0.5, 0.0])


def test_codebook_of_other_channels_is_refused(code, gaussian):
    with pytest.raises(InputError, match="3 channels, the tensor has 5"):
        code(Fp8E5M2(), gaussian(5, 4), fitted_on=gaussian(3, 4))
