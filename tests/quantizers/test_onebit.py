import math

import pytest
import torch
from scipy.stats import norm

from qbench.quantizers.onebit import OneBit
from qbench.testing import parametrize_checks


def test_by_hand(code):
    x = torch.tensor([[0.5, 0.25, -0.25, -0.75], [1.0, 0.0, -0.125, 0.5]])
    decoded = code(OneBit(), x).reconstruction
    assert decoded.tolist() == [[0.375, 0.375, -0.5, -0.5], [0.5, 0.5, -0.125, 0.5]]
    whole = code(OneBit(granularity="tensor"), x).reconstruction
    assert torch.allclose(whole, torch.where(x >= 0, 0.45, -0.375))


def test_gaussian_error(code, gaussian, z_score):
    """1 - 2/pi, less the variances of two means of n / 2 values each; 4 standard errors."""
    n = 1 << 18
    x = gaussian(2, n)
    assert abs(z_score(x, code(OneBit(), x).reconstruction, (1 - 2 / math.pi) * (1 - 2 / n))) < 4


@pytest.mark.parametrize("shift", [0.3, 1.0, -2.0])
def test_shifted_gaussian_by_closed_form(code, gaussian, z_score, shift):
    """E x^2 - P(x >= 0) above^2 - P(x < 0) below^2 with the means of a Gaussian cut at zero."""
    n = 1 << 18
    x = gaussian(n) + shift
    p = norm.cdf(shift)
    above, below = shift + norm.pdf(shift) / p, shift - norm.pdf(shift) / (1 - p)
    assert (
        abs(z_score(x, code(OneBit(), x).reconstruction, 1 + shift**2 - p * above**2 - (1 - p) * below**2))
        < 4
    )


def test_uniform_by_closed_form(code, z_score):
    """On (-1, 2): levels 1 and -1/2, error (2/3) 4/12 + (1/3) 1/12 = 1/4."""
    x = 3 * torch.rand(1 << 18, generator=torch.Generator().manual_seed(0)) - 1
    coded = code(OneBit(), x)
    assert abs(z_score(x, coded.reconstruction, 0.25)) < 4
    # of unit 2: means of 2/3 and 1/3 of n values of deviation 2/sqrt(12) and 1/sqrt(12)
    for name, level, deviation, share in (("above", 1.0, 2.0, 2 / 3), ("below", 0.5, 1.0, 1 / 3)):
        error = deviation / math.sqrt(12 * share * x.numel())
        assert abs(2 * float(coded.codes[name]) - level) < 4 * error


def test_no_other_two_levels_are_better(code, laplacian):
    """In every row: moving either level either way costs more."""
    x = laplacian(30, 50) + 0.2
    decoded = code(OneBit(), x).reconstruction
    least = (decoded - x).double().square().sum(1)
    for move in (-0.01, 0.01):
        for part in (x >= 0, x < 0):
            assert bool(((decoded + move * part - x).double().square().sum(1) > least).all())


def test_rows_of_one_sign_and_zeros(code):
    x = torch.tensor([[0.5, 0.25], [-0.5, -0.25], [0.0, 0.0]])
    assert code(OneBit(), x).reconstruction.tolist() == [[0.375, 0.375], [-0.375, -0.375], [0, 0]]


def test_the_last_group_counts_its_own_elements_only(code):
    x = torch.tensor([1.0, -1.0, 1.0, -1.0, 0.75, -0.5, 0.25])
    decoded = code(OneBit(granularity="group", group_size=4), x).reconstruction
    assert decoded.tolist() == [1.0, -1.0, 1.0, -1.0, 0.5, -0.5, 0.5]


def test_half_levels_are_the_rounded_ones(code, gaussian):
    x = gaussian(20, 100)
    whole, half = (code(OneBit(scale_dtype=d), x).reconstruction for d in ("float32", "float16"))
    assert bool(((half - whole).abs() <= 2.0**-10 * whole.abs()).all())


def test_rate_by_hand(code, gaussian):
    """One bit; two float32 for each of 8 rows; schema 1 + (6 + 2) + 2 (6 + 1), count 2, shapes 2 (1 + 1)."""
    assert code(OneBit(), gaussian(8, 512)).nbytes == 512 + 64 + 23 + 2 + 4


@parametrize_checks([OneBit(**point) for point in OneBit.sweep] + [OneBit(granularity="tensor")])
def test_contract(quantizer, check):
    check(quantizer)
