import math

import pytest
import torch

from qbench.quantizers.signsgd import SignSGD
from qbench.schema import Spec
from qbench.testing import parametrize_checks


def test_by_hand(code):
    x = torch.tensor([0.75, -0.25, 0.0, 0.5])
    assert code(SignSGD(), x).reconstruction.tolist() == [0.375, -0.375, 0.375, 0.375]
    assert code(SignSGD(bucket_size=2), x).reconstruction.tolist() == [0.5, -0.5, 0.25, 0.25]


def test_signs_alone_have_the_length_of_the_power_of_two(code):
    for scale in (1.0, 2.0**-70, 2.0**40):
        x = scale * torch.tensor([0.75, -0.25, 0.0, 0.5])
        assert code(SignSGD(scale="unit"), x).reconstruction.tolist() == [scale, -scale, scale, scale]


@pytest.mark.parametrize("bucket_size", [None, 4096])
def test_gaussian_error(code, gaussian, z_score, bucket_size):
    """1 - 2/pi for a known deviation; the mean of n magnitudes takes away their variance over n, (1 - 2/pi) / n."""
    x, n = gaussian(1 << 19), bucket_size or 1 << 19
    decoded = code(SignSGD(bucket_size=bucket_size), x).reconstruction
    assert abs(z_score(x, decoded, (1 - 2 / math.pi) * (1 - 1 / n))) < 4


@pytest.mark.parametrize("scale", ["mean", "unit"])
def test_cosine_of_gaussian_vectors(code, gaussian, scale):
    """sqrt(2/pi), with a deviation of about sqrt((1 - 3/pi) / d): 4 of them."""
    d = 1 << 18
    x = gaussian(d)
    cosine = torch.cosine_similarity(x.double(), code(SignSGD(scale=scale), x).reconstruction.double(), dim=0)
    assert abs(float(cosine) - math.sqrt(2 / math.pi)) < 4 * math.sqrt((1 - 3 / math.pi) / d)


def test_compressor_of_karimireddy(code, laplacian):
    """|x - C(x)|^2 = (1 - |x|_1^2 / (d |x|_2^2)) |x|^2 in every bucket."""
    x = laplacian(20, 300)
    error = (code(SignSGD(bucket_size=300), x).reconstruction - x).double().square().sum(1)
    energy, density = x.double().square().sum(1), x.double().abs().sum(1).square() / 300
    assert torch.allclose(error, energy - density, rtol=1e-5, atol=0.0)


def test_the_last_bucket_counts_its_own_elements_only(code):
    x = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.75, 0.25])
    assert code(SignSGD(bucket_size=4), x).reconstruction[4:].tolist() == [0.5, 0.5]


def test_rate_by_hand(code, gaussian):
    """One bit; schema 1 + (6 + 2) + (6 + 1), count 2, scale 1 + 1 + 4; without scale 1 + (6 + 2) and 2."""
    x = gaussian(4096)
    assert code(SignSGD(), x).nbytes == 512 + 16 + 2 + 6
    assert code(SignSGD(scale="unit"), x).nbytes == 512 + 9 + 2


def test_every_scale_can_be_typed():
    for scale in ("mean", "unit"):
        parsed = Spec.parse(f"signsgd:scale={scale}")
        assert SignSGD(**parsed.parameters).spec.parameters["scale"] == scale


@parametrize_checks([SignSGD(**point) for point in SignSGD.sweep] + [SignSGD(scale="unit")])
def test_contract(quantizer, check):
    check(quantizer)
