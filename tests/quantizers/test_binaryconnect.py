import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from qbench.components import Context
from qbench.quantizers.binaryconnect import BinaryConnect
from qbench.testing import parametrize_checks


@parametrize_checks([BinaryConnect(**point) for point in BinaryConnect.sweep])
def test_contract(quantizer, check):
    check(quantizer)


def test_signs_by_hand(code):
    x = torch.tensor([0.5, -0.25, 0.0, -0.75])
    assert code(BinaryConnect(), x).reconstruction.tolist() == [0.375, -0.375, 0.375, -0.375]
    assert code(BinaryConnect(scale="max"), x).reconstruction.tolist() == [0.75, -0.75, 0.75, -0.75]
    assert code(BinaryConnect(scale="unit"), x).reconstruction.tolist() == [1, -1, 1, -1]


@pytest.mark.parametrize("rounding", ["deterministic", "stochastic"])
def test_gaussian_error(code, gaussian, z_score, rounding):
    """s = E|x|: 1 - 2/pi for the sign; s^2 - x^2 inside and (|x| - s)^2 outside for the coin."""
    s = math.sqrt(2 / math.pi)
    coin = 2 * quad(lambda v: (s * s - v * v if v < s else (v - s) ** 2) * norm.pdf(v), 0, 12, points=[s])[0]
    x = gaussian(1 << 18)
    decoded = code(
        BinaryConnect(rounding=rounding), x, fitted_on=gaussian(1 << 20, seed=1), seed=2
    ).reconstruction
    assert abs(z_score(x, decoded, 1 - 2 / math.pi if rounding == "deterministic" else coin)) < 4


@pytest.mark.parametrize("scale", ["max", "unit"])
def test_the_coin_is_loaded_by_the_hard_sigmoid(scale):
    """The share of +s among 4000 draws of each weight is (x/s + 1)/2, within 5 standard errors; +-s never errs."""
    quantizer = BinaryConnect(rounding="stochastic", scale=scale)
    x, context = torch.linspace(-1, 1, 21), Context(torch.Generator().manual_seed(0))
    codebook = quantizer.fit(x, context=context)
    drawn = [quantizer.encode(x, codebook, context=context)["codes"].values.double() for _ in range(4000)]
    share, expected = torch.stack(drawn).mean(0), (x.double() + 1) / 2
    assert bool(
        ((share - expected).abs() <= 5 * (expected * (1 - expected) / 4000).clamp(min=0).sqrt() + 1e-6).all()
    )
    assert (float(share[0]), float(share[-1])) == (0, 1)


@pytest.mark.parametrize("rounding", ["deterministic", "stochastic"])
def test_gradients_by_hand(rounding):
    """The gradient passes as it is; the scale's is the sum of upstream times b."""
    x = torch.tensor([0.3, -0.2, 2.0, -1.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 4.0, 8.0])
    quantizer = BinaryConnect(rounding=rounding)
    y = quantizer.surrogate(x, {"scale": scale}, context=Context(torch.Generator().manual_seed(3)))
    signs = y.detach() / 0.5
    assert signs.abs().tolist() == [1, 1, 1, 1]
    assert signs[2:].tolist() == [1, -1]
    to_x, to_scale = torch.autograd.grad(y, [x, scale], upstream)
    assert to_x.tolist() == upstream.tolist()
    assert float(to_scale) == float((signs * upstream).sum())
