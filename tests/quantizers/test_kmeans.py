import pytest
import torch

from qbench.errors import ParameterError
from qbench.message import nbytes
from qbench.quantizers.kmeans import KMeans


def test_three_clusters_by_hand(code):
    x = torch.tensor([[-0.5, -0.25, 0.0], [0.5, 0.75, 0.0]])
    decoded = code(KMeans(levels=3), x).reconstruction
    assert decoded.tolist() == [[-0.375, -0.375, 0.0], [0.625, 0.625, 0.0]]


@pytest.mark.parametrize(("levels", "rate"), [(5, 7 / 3), (3, 1.6), (16, 4), (17, 64 / 15)])
def test_any_number_of_levels_packs_close_to_its_logarithm(code, gaussian, levels, rate):
    """A word of at most 8 bytes holds as many codes as fit; a part of a word and the schema are left."""
    x = gaussian(100000)
    coded = code(KMeans(levels=levels), x)
    assert 8 * coded.nbytes / x.numel() == pytest.approx(rate, abs=0.01)


def test_never_worse_than_the_gaussian_optimum_on_its_own_sample(code, gaussian):
    """On the fitted sample the best levels beat any others, those of the density among them."""
    x = gaussian(1 << 15)
    mse = (code(KMeans(bits=2), x).reconstruction - x).square().mean()
    levels = torch.tensor([-1.51042, -0.45278, 0.45278, 1.51042])
    assert mse <= (x[:, None] - levels).square().amin(1).mean() * (1 + 1e-6)


@pytest.mark.parametrize(("bits", "exact"), [(1, 0.5), (3, 0.054476), (5, 0.00410218), (8, 6.80617e-5)])
def test_held_out_error_of_a_laplacian(code, laplacian, z_score, bits, exact):
    """Within 3 standard errors of the exact optimum, 2^b / 2^19 of it lost to learning."""
    x = laplacian(1 << 18, seed=12)
    decoded = code(KMeans(bits=bits), x, fitted_on=laplacian(1 << 19, seed=5)).reconstruction
    assert abs(z_score(x, decoded, exact)) < 3


def test_levels_override_bits(code, gaussian):
    coded = code(KMeans(bits=2, levels=7), gaussian(500))
    assert coded.codebook["levels"].shape == (7,)
    assert coded.codes["codes"].levels == 7
    assert nbytes(coded.codebook) == 7 * 4 + len("levels") + 5


def test_one_level_is_refused():
    with pytest.raises(ParameterError, match="levels=1"):
        KMeans(levels=1)
