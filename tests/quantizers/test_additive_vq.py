import pytest
import torch

from qbench.message import nbytes
from qbench.quantizers.additive_vq import AdditiveVQ
from qbench.quantizers.residual_vq import ResidualVQ
from qbench.quantizers.vector_codebook import least_squares_codebooks, nearest


def mse(x, decoded):
    return float((x - decoded).double().square().mean())


def test_one_codebook_in_one_round_moves_to_the_centroids(gaussian):
    """A cell of n vectors by n / (n + 1e-3) of the way; every cell has one at least."""
    vectors, codebook = gaussian(2000, 3), gaussian(16, 3, seed=1)
    codes = nearest(vectors, codebook)
    centroids = torch.stack([vectors[codes == code].mean(0) for code in range(16)])
    found = least_squares_codebooks(vectors, codebook[None], width=1, rounds=1)[0]
    assert torch.allclose(found, centroids, atol=1e-2)
    assert torch.allclose(found[codes.bincount() > 50], centroids[codes.bincount() > 50], atol=1e-4)


def test_a_sum_is_recovered_that_was_disturbed(gaussian):
    """Words apart by more than twice the disturbance keep their codes, and least squares finds the sums."""
    coarse = torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    true = torch.stack([coarse, coarse / 8])
    vectors = (true[0][:, None] + true[1]).reshape(16, 2).repeat(64, 1)
    disturbed = true + 0.01 * gaussian(2, 4, 2)
    found = least_squares_codebooks(vectors, disturbed, width=4, rounds=2)
    sums = (found[0][:, None] + found[1]).reshape(16, 2)
    assert torch.allclose(sums, vectors[:16], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_never_worse_than_its_start_on_the_data_it_learns_from(code, gaussian, dtype):
    """The start is the residual code's; rounding to float16 adds 2^-22 of a square at most."""
    x = gaussian(1 << 14)
    errors = [
        mse(x, code(AdditiveVQ(bits=5, rounds=rounds, codebook_dtype=dtype), x).reconstruction)
        for rounds in (0, 1, 5)
    ]
    start = mse(x, code(ResidualVQ(bits=5, codebook_dtype=dtype), x).reconstruction)
    assert errors[0] == start
    assert errors[2] <= errors[1] * 1.001
    assert errors[2] < 0.98 * start


def test_held_out_error_of_a_gaussian_lies_below_the_residual_code(code, gaussian):
    """Same rate, same search; 4,096 held-out blocks, whose paired difference is twenty standard errors."""
    fitted, x = gaussian(1 << 16), gaussian(1 << 14, seed=1)
    ours, residual = (
        mse(x, code(cls(stages=2, bits=6, dimension=4), x, fitted_on=fitted).reconstruction)
        for cls in (AdditiveVQ, ResidualVQ)
    )
    assert 4.0**-3 < ours < 0.98 * residual


def test_rate_by_hand(code, gaussian):
    """1024 elements are 128 blocks of two 5-bit indices: 160 bytes, count 2, schema 1 + 6 + 1 + 1.

    The codebook: 2 x 32 words of 8 float16, schema 1 + 1 + 9 + 1, dimensions 1, sizes 1 + 1 + 1.
    """
    coded = code(AdditiveVQ(stages=2, bits=5), gaussian(1024))
    assert coded.nbytes == 160 + 2 + 9
    assert nbytes(coded.codebook) == 2 * 32 * 8 * 2 + 12 + 4
