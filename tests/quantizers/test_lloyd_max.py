import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from qbench.quantizers.lloyd_max import DENSITIES, LloydMax, exact_half, fixed_levels

# Exact MSE at unit variance, 1 to 8 bits, and the entropy of the Gaussian one's codes.
MSE = {
    "gaussian": [0.363380, 0.117482, 0.0345478, 0.00950101, 0.00250467, 6.4424e-4, 1.63478e-4, 4.11851e-5],
    "laplacian": [0.500000, 0.176195, 0.054476, 0.0153725, 0.00410218, 0.00106095, 2.69874e-4, 6.80617e-5],
}
GAUSSIAN_ENTROPY = [1.0000, 1.9111, 2.8249, 3.7653, 4.7298, 5.7101, 6.6996, 7.6941]
DISTRIBUTIONS = {"gaussian": stats.norm(), "laplacian": stats.laplace(scale=1 / math.sqrt(2))}


def cells(half):
    """Ends of the cells of the positive levels."""
    return np.concatenate([[0.0], (half[1:] + half[:-1]) / 2, [np.inf]])


def digits_shown(value):
    """Half a unit of the fifth significant digit, the fewest that an entry has, and a little more."""
    return 0.6 * 10 ** (math.floor(math.log10(value)) - 4)


@pytest.mark.parametrize("density", ["gaussian", "laplacian"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_fixed_tables_have_the_exact_error_by_quadrature(density, bits):
    levels = fixed_levels(density, 2**bits).double().numpy()
    half, p = levels[2 ** (bits - 1) :], DISTRIBUTIONS[density].pdf
    assert np.array_equal(levels, -levels[::-1])
    ends = cells(half)
    ends[-1] = 40.0
    error = sum(
        integrate.quad(lambda x, y=y: (x - y) ** 2 * p(x), low, high, epsabs=1e-15, epsrel=1e-9)[0]
        for y, low, high in zip(half, ends[:-1], ends[1:])
    )
    assert 2 * error == pytest.approx(MSE[density][bits - 1], abs=digits_shown(MSE[density][bits - 1]))


@pytest.mark.parametrize("bits", range(1, 9))
def test_entropy_of_the_gaussian_codes(bits):
    shares = 2 * np.diff(stats.norm.cdf(cells(exact_half(DENSITIES["gaussian"], 2**bits))))
    assert 1 - (shares * np.log2(shares)).sum() == pytest.approx(GAUSSIAN_ENTROPY[bits - 1], abs=6e-5)


@pytest.mark.parametrize("density", ["gaussian", "laplacian"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_are_the_centroids_of_their_cells(density, bits):
    """Centroids by quadrature, accurate to about 1e-12 of the mass of a cell."""
    half, p = exact_half(DENSITIES[density], 2**bits), DISTRIBUTIONS[density].pdf
    ends = cells(half)
    ends[-1] = ends[-2] + 40.0
    for y, low, high in zip(half, ends[:-1], ends[1:]):
        off, _ = integrate.quad(lambda x, y=y: (x - y) * p(x), low, high, epsabs=1e-12, epsrel=0.0)
        assert abs(off) < 1e-11


def test_published_gaussian_levels():
    assert fixed_levels("gaussian", 4)[2:].tolist() == pytest.approx([0.45278, 1.51042], abs=6e-6)
    assert fixed_levels("gaussian", 8)[4:].tolist() == pytest.approx(
        [0.24509, 0.75601, 1.34391, 2.15195], abs=6e-6
    )
    assert fixed_levels("laplacian", 2)[1:].tolist() == pytest.approx([1 / math.sqrt(2)], abs=2**-21)


@pytest.mark.parametrize("density", ["gaussian", "laplacian"])
def test_tables_do_not_depend_on_a_machine_s_last_bits(density):
    """No tie of the rounding to 2^-20 lies within 1e-9 of a level; a level's own error is near 1e-12."""
    for bits in range(1, 9):
        units = exact_half(DENSITIES[density], 2**bits) * 2**20
        assert np.abs(units - np.floor(units) - 0.5).min() > 1e-9 * 2**20
        table = fixed_levels(density, 2**bits).double() * 2**20
        assert torch.equal(table, table.round())


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("density", ["gaussian", "laplacian"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_samples_reach_the_exact_error(code, gaussian, laplacian, z_score, density, bits, adaptive):
    """Fitted on one sample, scored on another, within 3 standard errors.

    Learning 2^b levels from n values costs 2^b / n of the error on top: 1/2048 at 8 bits, a quarter of a
    standard error.
    """
    sample = gaussian if density == "gaussian" else laplacian
    x = sample(1 << 18, seed=12)
    quantizer = LloydMax(bits=bits, table="adaptive" if adaptive else density)
    decoded = code(quantizer, x, fitted_on=sample(1 << 19, seed=5)).reconstruction
    assert abs(z_score(x, decoded, MSE[density][bits - 1])) < 3


def test_each_channel_has_its_own_levels(code, gaussian, laplacian):
    """Two rows of unlike source and size: each bit for bit as alone."""
    rows = gaussian(20000), 1e-6 * laplacian(20000)
    x = torch.stack(rows)
    for table in ("adaptive", "gaussian"):
        together = code(LloydMax(bits=3, table=table, granularity="channel"), x).reconstruction
        for row, decoded in zip(rows, together):
            alone = code(LloydMax(bits=3, table=table), row).reconstruction
            assert torch.equal(decoded, alone)


def test_fixed_table_stores_one_scale_and_adaptive_its_levels(code, gaussian):
    x = gaussian(6, 100)
    assert code(LloydMax(table="gaussian", granularity="channel"), x).codebook["scale"].shape == (6,)
    assert code(LloydMax(bits=3, granularity="channel"), x).codebook["levels"].shape == (6, 8)


def test_adaptive_levels_of_few_values_are_those_values(code):
    x = torch.tensor([0.5, -0.25, 0.75, 0.5, -0.25])
    assert torch.equal(code(LloydMax(bits=2), x).reconstruction, x)
