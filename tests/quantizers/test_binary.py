import math

import pytest
import torch

from qbench.quantizers.binary import Binary


def test_sign_times_mean_magnitude_by_hand(code):
    x = torch.tensor([[0.5, -0.25, 0.75], [-0.125, 0.0, 0.25]])
    decoded = code(Binary(granularity="channel"), x).reconstruction
    assert decoded.tolist() == [[0.5, -0.5, 0.5], [-0.125, 0.125, 0.125]]
    assert code(Binary(granularity="tensor"), x).reconstruction.abs().unique().tolist() == [0.3125]


def test_last_group_takes_the_mean_of_its_own(code):
    x = torch.tensor([0.5, -0.5, 0.5, 0.5, 0.25, -0.25, 0.75])
    decoded = code(Binary(granularity="group", group_size=4), x).reconstruction
    # 1.25 / 3 is no float16: rounded up by at most 2^-10.
    assert decoded.abs().tolist() == pytest.approx([0.5] * 4 + [1.25 / 3] * 3, rel=2**-10)


def test_gaussian_error_is_one_less_two_over_pi(code, gaussian, z_score):
    x = gaussian(1 << 18)
    decoded = code(Binary(granularity="tensor"), x, fitted_on=gaussian(1 << 18, seed=1)).reconstruction
    assert abs(z_score(x, decoded, 1 - 2 / math.pi)) < 3


@pytest.mark.parametrize(("d", "n"), [(16, 1 << 16), (1024, 1 << 12)])
def test_angle_to_a_gaussian_is_37_degrees(code, gaussian, d, n):
    """E cos = sqrt(2 d / pi) / E|x|, since direction and norm are independent; it tends to sqrt(2 / pi).

    The mean of n vectors, each of variance (1 - 3/pi) / d, to 4 standard errors. Published: .8105 at d = 16.
    """
    x = gaussian(n, d)
    decoded = code(Binary(granularity="channel"), x).reconstruction
    mean = float(torch.cosine_similarity(x, decoded, dim=1).double().mean())
    standard_error = math.sqrt((1 - 3 / math.pi) / d / n)
    norm = math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    assert abs(mean - math.sqrt(2 * d / math.pi) / norm) < 4 * standard_error


def test_the_scale_is_the_one_of_least_squared_error(code, laplacian):
    x = laplacian(5, 300)
    decoded = code(Binary(granularity="channel"), x).reconstruction
    error = (decoded - x).square().sum(1)
    for factor in (0.99, 1.01):
        assert bool((error < (factor * decoded - x).square().sum(1)).all())


def test_one_bit_and_a_half_scale_per_group(code, gaussian):
    coded = code(Binary(granularity="group", group_size=64), gaussian(1 << 16))
    assert 8 * coded.nbytes / 2**16 == pytest.approx(1 + 16 / 64, abs=0.005)
