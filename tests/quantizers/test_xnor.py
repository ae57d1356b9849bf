import pytest
import torch

from qbench.errors import InputError
from qbench.quantizers.binary import Binary
from qbench.quantizers.xnor import packed_dot, packed_signs


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def test_bits_by_hand():
    x = torch.tensor([[1.0, -1, 0, -2, -3, -4, -5, 6, 7]])
    assert packed_signs(x).tolist() == [[1 + 4 + 128, 1]]


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 1000])
def test_equals_the_float_product_bit_for_bit(gaussian, n):
    a, b = gaussian(33, n), gaussian(70, n, seed=1)
    a[0], b[:, 0] = 0.0, -0.0
    assert torch.equal(packed_dot(a, b), signs(a) @ signs(b).T)


def test_chunks_are_joined_in_order(gaussian):
    a, b = gaussian(300, 800), gaussian(500, 800, seed=1)
    assert torch.equal(packed_dot(a, b), signs(a) @ signs(b).T)


def test_the_product_of_what_binary_decodes(code, gaussian):
    """With powers of two as scales the float product is exact too; all magnitudes 2^-3 and 2^-1."""
    a, b = 0.125 * signs(gaussian(12, 50)), 0.5 * signs(gaussian(9, 50, seed=1))
    decoded = [code(Binary(), x).reconstruction for x in (a, b)]
    assert torch.equal(packed_dot(a, b) / 16, decoded[0] @ decoded[1].T)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty(shape):
    a = torch.zeros(shape)
    assert torch.equal(packed_dot(a, a), a @ a.T)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (2, 4)), ((3,), (2, 3))])
def test_shapes_that_do_not_fit(a, b):
    with pytest.raises(InputError, match="packed_dot"):
        packed_dot(torch.zeros(a), torch.zeros(b))
