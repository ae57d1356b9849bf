import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from qbench.quantizers.log2 import Log2


def cells(bits, rounding, top):
    """(level, from, to) of every non-negative level, the largest of them ``top``."""
    levels = [0.0] + [top * 2.0**-k for k in reversed(range(2 ** (bits - 1) - 1))]
    pairs = itertools.pairwise(levels)
    edges = [b / math.sqrt(2) if rounding == "log" else (a + b) / 2 for a, b in pairs]
    return list(zip(levels, [0.0, *edges], [*edges, math.inf], strict=True))


def expected_error(bits, rounding, top, density, end):
    """The integral of (x - level)^2 over a symmetric density, both signs."""
    return 2 * sum(
        integrate.quad(lambda x, level=level: (x - level) ** 2 * density(x), low, min(high, end))[0]
        for level, low, high in cells(bits, rounding, top)
        if low < end
    )


@pytest.mark.parametrize("rounding", ["log", "linear"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_uniform_input_has_the_error_of_its_cells(code, z_score, bits, rounding):
    """Input uniform on [-1, 1] with the ends in it, so that the largest level is 1; 4 standard errors."""
    x = 2 * torch.rand(1 << 18, generator=torch.Generator().manual_seed(0)) - 1
    x[:2] = torch.tensor([-1.0, 1.0])
    exact = expected_error(bits, rounding, 1.0, lambda _: 0.5, 1.0)
    decoded = code(Log2(bits=bits, rounding=rounding, range="max", granularity="tensor"), x).reconstruction
    assert abs(z_score(x, decoded, exact)) < 4


@pytest.mark.parametrize("rounding", ["log", "linear"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gaussian_input_reaches_the_best_largest_level(code, gaussian, z_score, bits, rounding):
    """The least of the exact errors over powers of two; 4 standard errors."""
    x = gaussian(1 << 18)
    exact = min(expected_error(bits, rounding, 2.0**p, stats.norm.pdf, 9.0) for p in range(-4, 4))
    decoded = code(Log2(bits=bits, rounding=rounding, granularity="tensor"), x).reconstruction
    assert abs(z_score(x, decoded, exact)) < 4


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_every_level_is_zero_or_a_power_of_two(code, gaussian, granularity):
    x = gaussian(6, 128) * torch.logspace(-4, 4, 6)[:, None]
    decoded = code(Log2(granularity=granularity), x).reconstruction
    fraction, _ = torch.frexp(decoded.abs())
    assert set(fraction.unique().tolist()) <= {0.0, 0.5}
    assert set((decoded.sign() * x.sign()).unique().tolist()) <= {0.0, 1.0}


def test_codes_are_a_sign_above_an_exponent(code):
    """bits=3: levels 1, 1/2, 1/4 and zero; an exponent changes at sqrt(2) times a level, or half way."""
    x = torch.tensor([1.0, 0.72, 0.70, -0.36, 0.35, -0.18, 0.17, 0.13, 0.12])
    coded = code(Log2(bits=3, granularity="tensor", range="max"), x)
    assert coded.codes["codes"].values.tolist() == [3, 3, 2, 6, 1, 5, 0, 0, 0]
    assert coded.reconstruction.tolist() == [1, 1, 0.5, -0.5, 0.25, -0.25, 0, 0, 0]
    linear = code(Log2(bits=3, granularity="tensor", range="max", rounding="linear"), x).reconstruction
    assert linear.tolist() == [1, 0.5, 0.5, -0.25, 0.25, -0.25, 0.25, 0.25, 0]


def test_eight_bits_reach_down_to_tiny_values(code):
    """127 exponents: every power of two down to 2^-100 is a level."""
    x = torch.tensor([math.ldexp(1.0, -k) for k in range(0, 101, 10)])
    assert torch.equal(code(Log2(bits=8, granularity="tensor"), x).reconstruction, x)
