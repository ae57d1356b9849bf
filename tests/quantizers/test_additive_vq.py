import pytest
import torch

from qbench.message import nbytes
from qbench.quantizers.additive_vq import AdditiveVQ
from qbench.quantizers.residual_vq import ResidualVQ
from qbench.quantizers.vector_codebook import least_squares_codebooks, nearest


def block_errors(x, decoded, dimension):
    return (x - decoded).double().square().view(-1, dimension).sum(1)


def test_one_codebook_in_one_round_moves_to_the_centroids(gaussian):
    """The word of a cell of n vectors by n / (n + 1e-3) of the way, up to float32."""
    vectors, codebook = gaussian(2000, 3), gaussian(16, 3, seed=1)
    codes = nearest(vectors, codebook)
    counts = codes.bincount(minlength=16)[:, None]
    centroids = torch.stack([vectors[codes == code].mean(0) for code in range(16)])
    found = least_squares_codebooks(vectors, codebook[None], width=1, rounds=1)[0]
    expected = codebook + (centroids - codebook) * counts / (counts + 1e-3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_sum_is_recovered_that_was_disturbed(gaussian):
    """Words apart by more than twice the disturbance keep their codes, and least squares finds the sums.

    Of a disturbance of at most .06 the ridge leaves 1e-3 in the 256 vectors of a word: 3e-7, and in the second
    round as little of that.
    """
    coarse = torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    true = torch.stack([coarse, coarse / 8])
    vectors = (true[0][:, None] + true[1]).reshape(16, 2).repeat(64, 1)
    disturbed = true + 0.01 * gaussian(2, 4, 2)
    found = least_squares_codebooks(vectors, disturbed, width=4, rounds=2)
    sums = (found[0][:, None] + found[1]).reshape(16, 2)
    torch.testing.assert_close(sums, vectors[:16], rtol=0, atol=3e-7)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_it_starts_from_the_residual_code(code, gaussian, dtype):
    x = gaussian(1 << 12)
    start = code(ResidualVQ(bits=5, codebook_dtype=dtype), x).reconstruction
    assert torch.equal(code(AdditiveVQ(bits=5, rounds=0, codebook_dtype=dtype), x).reconstruction, start)


def test_more_rounds_are_never_worse_on_the_data_it_learns_from(code, gaussian, gain_z):
    """The best round is kept; one of them gains 4 paired standard errors over the blocks at least."""
    x = gaussian(1 << 14)
    start, once, often = (
        block_errors(
            x, code(AdditiveVQ(bits=5, rounds=rounds, codebook_dtype="float32"), x).reconstruction, 8
        )
        for rounds in (0, 1, 5)
    )
    assert often.sum() <= once.sum() <= start.sum()
    assert gain_z(start, often) > 4


def test_held_out_error_of_a_gaussian_lies_below_the_residual_code(code, gaussian, gain_z):
    """Same rate, same search; by 4 paired standard errors over 4,096 held-out blocks, and above 4^-R."""
    fitted, x = gaussian(1 << 16), gaussian(1 << 14, seed=1)
    ours, residual = (
        block_errors(
            x, code(cls(stages=2, bits=6, dimension=4), x, fitted_on=fitted).reconstruction, dimension=4
        )
        for cls in (AdditiveVQ, ResidualVQ)
    )
    assert gain_z(residual, ours) > 4
    assert float(ours.mean()) / 4 > 4.0**-3


def test_rate_by_hand(code, gaussian):
    """1024 elements are 128 blocks of two 5-bit indices: 160 bytes, count 2, schema 1 + 6 + 1 + 1.

    The codebook: 2 x 32 words of 8 float16, schema 1 + 1 + 9 + 1, dimensions 1, sizes 1 + 1 + 1.
    """
    coded = code(AdditiveVQ(stages=2, bits=5), gaussian(1024))
    assert coded.nbytes == 160 + 2 + 9
    assert nbytes(coded.codebook) == 2 * 32 * 8 * 2 + 12 + 4
