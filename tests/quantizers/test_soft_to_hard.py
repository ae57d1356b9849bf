import pytest
import torch
from scipy.special import expit

from qbench.components import Context
from qbench.quantizers.soft_to_hard import SoftToHard
from qbench.testing import parametrize_checks


def context(progress=1.0):
    return Context(torch.Generator().manual_seed(0), progress=progress)


@parametrize_checks([SoftToHard(**point) for point in SoftToHard.sweep])
def test_contract(quantizer, check):
    check(quantizer)


@pytest.mark.parametrize(("bits", "mse"), [(1, 0.363380), (2, 0.117482), (4, 0.00950101)])
def test_gaussian_error_of_the_hard_code_is_lloyd_max(code, gaussian, z_score, bits, mse):
    """Codewords are trained on 2^17 values of their own; that costs a relative 2^b / 2^17 at most, far below 4 SE."""
    x = gaussian(1 << 16)
    decoded = code(SoftToHard(bits=bits), x, fitted_on=gaussian(1 << 18, seed=1)).reconstruction
    assert abs(z_score(x, decoded, mse)) < 4


def test_pairs_beat_scalars_and_blocks_are_consecutive(code, gaussian):
    x = gaussian(1 << 14)
    errors = [
        float((code(SoftToHard(dimension=d, bits=2 * d), x).reconstruction - x).square().mean())
        for d in (1, 2)
    ]
    assert errors[1] < errors[0]
    x = torch.tensor([0.5, -0.5, 0.25, 0.75]).repeat(8)
    assert torch.equal(code(SoftToHard(dimension=2, bits=1), x).reconstruction, x)


def test_assignments_by_hand():
    """Codewords 0 and 1/2 of variance 1/16: spacing^2 = 12/16/4 = 3/16. phi_1 is a logistic function of x."""
    quantizer = SoftToHard(bits=1, sigma_start=3.0, sigma_end=300.0)
    codebook = {"codewords": torch.tensor([[0.0], [0.5]])}
    x = torch.tensor([-0.3, 0.0, 0.2, 0.25, 0.6])
    for progress, relative in ((0.0, 3.0), (0.5, 30.0), (1.0, 300.0)):
        sigma = relative / (3 / 16)
        assert quantizer.sigma(codebook["codewords"], progress) == pytest.approx(sigma, rel=1e-6)
        expected = [expit(sigma * (v**2 - (v - 0.5) ** 2)) for v in x.tolist()]
        phi = quantizer.assignments(x, codebook, progress)
        assert phi[:, 1].tolist() == pytest.approx(expected, abs=1e-5)
        assert phi.sum(1).tolist() == pytest.approx([1.0] * 5)


def soft_code(x, codewords, sigma):
    """The paper's formula as it stands, in float64."""
    vectors = x.reshape(-1, 1, codewords.shape[1])
    phi = torch.softmax(-sigma * (vectors - codewords).square().sum(2), 1)
    return (phi @ codewords).reshape(-1)


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("progress", [0.0, 0.7])
def test_gradients_are_finite_differences_of_the_soft_code(gaussian, dimension, progress):
    """Central differences in float64: their error, ~1e-8, is far below the float32 arithmetic that is tested."""
    quantizer = SoftToHard(dimension=dimension, bits=3, sigma_end=30.0)
    x, upstream = gaussian(24) / 4, gaussian(24, seed=1).double()
    codewords = quantizer.fit(gaussian(400, seed=2) / 4, context=context())["codewords"]
    leaves = [x.clone().requires_grad_(), codewords.clone().requires_grad_()]
    y = quantizer.surrogate(leaves[0], {"codewords": leaves[1]}, context=context(progress))
    found = torch.autograd.grad(y, leaves, upstream.float())
    sigma = quantizer.sigma(codewords, progress)

    def loss(x, c):
        return float((soft_code(x, c, sigma) * upstream).sum())

    where = [x.double(), codewords.double()]
    for which, gradient in enumerate(found):
        for i in range(gradient.numel()):
            shift = torch.zeros(gradient.numel(), dtype=torch.float64)
            shift[i] = 1e-5
            ends = [
                [w + s * shift.reshape(w.shape) if k == which else w for k, w in enumerate(where)]
                for s in (1, -1)
            ]
            expected = (loss(*ends[0]) - loss(*ends[1])) / 2e-5
            assert float(gradient.reshape(-1)[i]) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_the_soft_code_becomes_the_hard_one(gaussian):
    """What lies within ~1 / (sigma spacing) of a border is between two codewords: its share falls as sigma grows."""
    x = gaussian(2000) / 8
    quantizer = SoftToHard(bits=2, sigma_end=1e4)
    codebook = quantizer.fit(x, context=context())
    hard = quantizer.decode(quantizer.encode(x, codebook, context=context()), codebook, x.shape)
    gaps = [
        float(((quantizer.assignments(x, codebook, t) @ codebook["codewords"])[:, 0] - hard).square().mean())
        for t in (0.0, 0.5, 1.0)
    ]
    assert gaps[0] > 10 * gaps[1] > 100 * gaps[2]


def test_descent_through_the_surrogate_reaches_lloyd_max(gaussian):
    """From poor codewords, annealed, to within 3 % of what k-means finds on the same 4096 values."""
    x, quantizer = gaussian(4096) / 8, SoftToHard(bits=2)
    best = quantizer.fit(x, context=context())
    codewords = torch.tensor([[-0.1], [0.0], [0.05], [0.1]], requires_grad=True)
    adam = torch.optim.Adam([codewords], lr=5e-3)
    for step in range(300):
        value = quantizer.surrogate(x, {"codewords": codewords}, context=context(step / 300))
        adam.zero_grad()
        (value - x).square().mean().backward()
        adam.step()
    hard = [
        quantizer.decode(quantizer.encode(x, book, context=context()), book, x.shape)
        for book in ({"codewords": codewords.detach()}, best)
    ]
    errors = [float((y - x).square().mean()) for y in hard]
    assert errors[0] < 1.03 * errors[1]
