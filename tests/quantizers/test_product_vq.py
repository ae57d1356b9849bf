import pytest
import torch

from qbench.errors import ParameterError
from qbench.message import nbytes
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.product_vq import ProductVQ


def mse(x, decoded):
    return float((x - decoded).double().square().mean())


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_blocks_of_one_are_scalar_k_means(code, gaussian, bits):
    """Both are the optimum."""
    x = gaussian(5000)
    found = code(ProductVQ(dimension=1, bits=bits, codebook_dtype="float32"), x).reconstruction
    assert torch.equal(found, code(KMeans(bits=bits), x).reconstruction)


@pytest.mark.parametrize("subspaces", [1, 3])
def test_a_discrete_source_is_recovered(code, subspaces):
    """Of 16 words each subspace, all multiples of 2^-6, which float16 holds exactly; the last block is cut."""
    random = torch.Generator().manual_seed(0)
    words = torch.randint(-64, 64, (subspaces, 16, 4), generator=random) / 64
    drawn = torch.randint(16, (600, subspaces), generator=random)
    x = words[torch.arange(subspaces), drawn].reshape(-1)
    quantizer = ProductVQ(dimension=4, bits=5, subspaces=subspaces)
    assert torch.equal(code(quantizer, x).reconstruction, x)
    assert torch.equal(code(quantizer, x[:-4], fitted_on=x).reconstruction, x[:-4])


def test_two_points_by_hand(code):
    x = torch.tensor([[0.5, 0.25, -0.5, -0.75], [0.5, 0.75, -0.5, -0.25]])
    coded = code(ProductVQ(dimension=2, bits=1), x)
    assert coded.reconstruction.tolist() == [[0.5, 0.5, -0.5, -0.5]] * 2


def test_subspaces_have_codebooks_of_their_own(code, gaussian):
    """Blocks of two scales, one constant: a codebook each costs nothing there and gains here."""
    x = torch.stack([gaussian(500, 4), torch.full((500, 4), 0.25)], 1).reshape(500, 8)
    one, two = (code(ProductVQ(dimension=4, bits=4, subspaces=m), x).reconstruction for m in (1, 2))
    assert torch.equal(two[:, 4:], x[:, 4:])
    assert mse(x, two) < mse(x, one)


def test_rate_by_hand(code, gaussian):
    """1023 elements make 128 blocks of 8 at 6 bits: 96 bytes, count 2, schema 1 + 6 + 1 + 1.

    The codebook: 64 words of 8 float16, schema 1 + 1 + 9 + 1, dimensions 1, sizes 1 + 1 + 1.
    """
    coded = code(ProductVQ(dimension=8, bits=6), gaussian(1023))
    assert coded.nbytes == 96 + 2 + 9
    assert nbytes(coded.codebook) == 64 * 8 * 2 + 12 + 4


def test_no_more_codewords_than_blocks(code, gaussian):
    x = gaussian(5, 16)
    coded = code(ProductVQ(dimension=8, bits=8, codebook_dtype="float32"), x)
    assert coded.codebook["codewords"].shape == (1, 10, 8)
    assert torch.equal(coded.reconstruction, x)


def test_a_held_out_vector_code_beats_scalar_codes_of_its_rate(code, gaussian, z_score):
    """2 bits an element: the best scalar code has .117482 (Lloyd-Max); vectors fill space better. 4 standard errors."""
    x = gaussian(1 << 15, seed=1)
    found = code(ProductVQ(dimension=4, bits=8), x, fitted_on=gaussian(1 << 17)).reconstruction
    assert z_score(x, found, 0.117482) < -4


def test_parameters_are_bounded():
    with pytest.raises(ParameterError, match="bits=13"):
        ProductVQ(bits=13)
