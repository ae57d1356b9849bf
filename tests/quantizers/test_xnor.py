import math

import pytest
import torch
import torch.nn.functional as F

from qbench.components import Context
from qbench.errors import InputError, ParameterError
from qbench.message import nbytes, pack, unpack
from qbench.quantizers.binary import Binary
from qbench.quantizers.xnor import XNOR, packed_dot, packed_product, packed_signs
from qbench.testing import parametrize_checks


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


@parametrize_checks([XNOR(**point) for point in XNOR.sweep])
def test_contract(quantizer, check):
    check(quantizer)


def test_filters_and_samples_by_hand(code):
    x = torch.tensor([[0.5, -0.25, 0.75], [-0.125, 0.0, 0.25]])
    assert code(XNOR(), x).reconstruction.tolist() == [[0.5, -0.5, 0.5], [-0.125, 0.125, 0.125]]
    whole = code(XNOR(granularity="tensor"), x).reconstruction
    assert whole.tolist() == [[0.3125, -0.3125, 0.3125], [-0.3125, 0.3125, 0.3125]]


def test_positions_by_hand(code):
    """Two channels of 2 x 2: the means of magnitudes are 1/2, 1/4, 1/8 and 1; a window of 3 sees all four."""
    x = torch.tensor([[[0.75, 0.25], [-0.125, 1.0]], [[-0.25, -0.25], [0.125, 1.0]]])
    each = code(XNOR(granularity="position"), x).reconstruction
    means = torch.tensor([[0.5, 0.25], [0.125, 1.0]])
    assert torch.equal(each, means * signs(x))
    assert torch.equal(code(XNOR(granularity="position", window=3), x).reconstruction, 0.46875 * signs(x))


def test_a_window_is_the_papers_box_filter(code, gaussian):
    """K = A * k inside the picture, by convolution in float64; scales are float16, rounded up by at most 2^-10."""
    x = gaussian(5, 2, 9, 7)
    decoded = code(XNOR(granularity="position", window=3), x).reconstruction
    box = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    inside = F.conv2d(x.double().abs().mean(0)[:, None], box)[:, 0]
    assert torch.allclose(decoded.abs()[0, :, 1:-1, 1:-1].double(), inside, rtol=2**-10)


def test_gaussian_error_is_one_less_two_over_pi(code, gaussian, z_score):
    """E mean x^2 - (mean |x|)^2 = 1 - 2/pi - var|x| / n, var|x| = 1 - 2/pi: the scale comes from the row itself."""
    x = gaussian(256, 1024)
    assert abs(z_score(x, code(XNOR(), x).reconstruction, (1 - 2 / math.pi) * (1 - 1 / 1024))) < 4


def coded(x, **parameters):
    quantizer = XNOR(**parameters)
    message, _ = unpack(pack(quantizer.encode(x, {}, context=Context(torch.Generator()))))
    return message, quantizer.decode(message, {}, x.shape)


@pytest.mark.parametrize("n", [1, 9, 64, 1000])
def test_a_layer_from_two_messages(gaussian, n):
    """The integers are exact; scales bring two roundings on our side and at most n on the float product's."""
    (inputs, x), (weights, w) = coded(gaussian(12, n)), coded(gaussian(7, n, seed=1))
    product = packed_product(inputs, weights, n)
    assert product.shape == (12, 7)
    assert torch.allclose(product.double(), x.double() @ w.double().T, rtol=1e-6, atol=1e-6)
    beta, alpha = x[:, :1].abs(), w[:, :1].abs()
    assert torch.equal(product, (signs(x) @ signs(w).T) * beta * alpha.T)
    assert 8 * nbytes({"codes": inputs["codes"]}) <= 12 * n + 7 + 8 * 12


def test_powers_of_two_as_scales_make_the_whole_product_exact(gaussian):
    (inputs, x) = coded(0.25 * signs(gaussian(12, 50)), granularity="tensor")
    weights, w = coded(0.5 * signs(gaussian(9, 50, seed=1)))
    assert torch.equal(packed_product(inputs, weights, 50), x @ w.T)


def test_messages_that_are_no_rows():
    message, _ = coded(torch.ones(4, 6))
    with pytest.raises(InputError, match="24 signs with 4 scales are no inputs of 8 features"):
        packed_product(message, message, 8)
    with pytest.raises(InputError, match="no weights of 6"):
        packed_product(message, coded(torch.ones(2, 3, 3), granularity="position")[0], 6)


@pytest.mark.parametrize(
    ("granularity", "window"), [("channel", 1), ("tensor", 1), ("position", 1), ("position", 3)]
)
def test_gradients_by_hand(gaussian, granularity, window):
    """1/n + a inside [-1, 1], 1/n outside; n = 18, 54, 3 and 27 elements share a scale."""
    x = gaussian(3, 2, 3, 3).requires_grad_()
    quantizer = XNOR(granularity=granularity, window=window)
    y = quantizer.surrogate(x, {}, context=Context(torch.Generator()))
    (gradient,) = torch.autograd.grad(y, [x], 2 * torch.ones_like(x))
    n = {"channel": 18, "tensor": 54, "position": 3 * window**2}[granularity]
    expected = 2 * (1 / n + y.detach().abs() * (x.detach().abs() <= 1))
    assert torch.allclose(gradient, expected)


def test_windows_that_have_no_middle_or_no_positions():
    with pytest.raises(ParameterError, match="window"):
        XNOR(granularity="position", window=2)
    with pytest.raises(ParameterError, match="granularity=position"):
        XNOR(window=3)
