import itertools

import pytest
import torch

from qbench.message import nbytes
from qbench.quantizers.product_vq import ProductVQ
from qbench.quantizers.residual_vq import ResidualVQ


def squares(x, decoded):
    return (x - decoded).double().square()


def test_a_direct_sum_is_recovered(code):
    """Words of 1/2 about words of 1/64: the nearest coarse word is the right one, the rest follows exactly."""
    coarse = torch.tensor([[0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    x = (coarse[:, None] + coarse / 32).reshape(16, 2).repeat(20, 1)
    quantizer = ResidualVQ(stages=2, bits=2, dimension=2, search="greedy")
    assert torch.equal(code(quantizer, x).reconstruction, x)


def test_every_stage_lowers_the_error(code, gaussian):
    x = gaussian(1 << 13)
    for search in ("greedy", "beam"):
        errors = [
            float(squares(x, code(ResidualVQ(stages=m, bits=5, search=search), x).reconstruction).mean())
            for m in (1, 2, 3, 4)
        ]
        assert all(after < before for before, after in itertools.pairwise(errors))


def test_a_beam_finds_better_sums_than_the_greedy_choice(code, gaussian, gain_z):
    """On data that neither was fitted to, each with its own codebooks: 4 paired standard errors over 1,024 blocks."""
    fitted, x = gaussian(1 << 14), gaussian(1 << 13, seed=1)
    greedy, beam = (
        squares(x, code(ResidualVQ(bits=6, search=search), x, fitted_on=fitted).reconstruction)
        for search in ("greedy", "beam")
    )
    assert gain_z(greedy.view(-1, 8).sum(1), beam.view(-1, 8).sum(1)) > 4


def test_one_stage_is_a_product_code_with_one_codebook(code, gaussian):
    x = gaussian(6000)
    one = code(ResidualVQ(stages=1, bits=5), x).reconstruction
    assert torch.equal(one, code(ProductVQ(bits=5), x).reconstruction)


def test_rate_by_hand(code, gaussian):
    """1024 elements are 128 blocks of two 5-bit indices: 160 bytes, count 2, schema 1 + 6 + 1 + 1.

    The codebook: 2 x 32 words of 8 float32, schema 1 + 1 + 9 + 1, dimensions 1, sizes 1 + 1 + 1.
    """
    coded = code(ResidualVQ(stages=2, bits=5, codebook_dtype="float32"), gaussian(1024))
    assert coded.nbytes == 160 + 2 + 9
    assert nbytes(coded.codebook) == 2 * 32 * 8 * 4 + 12 + 4


@pytest.mark.parametrize("n", [1, 7, 20])
def test_few_elements(code, gaussian, n):
    x = gaussian(n)
    coded = code(ResidualVQ(codebook_dtype="float32"), x)
    assert coded.codebook["codewords"].shape == (2, max(1, n // 8), 8)
    assert coded.reconstruction.shape == x.shape
