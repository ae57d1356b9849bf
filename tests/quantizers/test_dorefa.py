import math

import pytest
import torch

from qbench.components import Context
from qbench.quantizers.binary import Binary
from qbench.quantizers.dorefa import DoReFa, DoReFaActivation, DoReFaGradient
from qbench.testing import parametrize_checks

KINDS = (DoReFa, DoReFaActivation, DoReFaGradient)


def context(seed=0):
    return Context(torch.Generator().manual_seed(seed))


@parametrize_checks([kind(**point) for kind in KINDS for point in kind.sweep])
def test_contract(quantizer, check):
    check(quantizer)


def decoded(quantizer, x, codebook=None):
    codebook = codebook or {}
    return quantizer.decode(quantizer.encode(x, codebook, context=context()), codebook, x.shape)


def test_equation_9_by_hand():
    """tanh(x) = 0.6, 0.3, -0.1, -0.6, so r = 1, 3/4, 5/12, 0: at 2 bits 3, 2, 1, 0 of 3."""
    x = torch.tensor([0.6, 0.3, -0.1, -0.6]).atanh()
    levels = torch.tensor([1, 1 / 3, -1 / 3, -1])
    assert decoded(DoReFa(bits=2, scale="unit"), x).tolist() == pytest.approx(levels.tolist())
    scale = float((x * levels).sum() / levels.square().sum())
    assert decoded(DoReFa(bits=2), x).tolist() == pytest.approx((scale * levels).tolist())


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_the_papers_formula_as_it_stands(gaussian, bits):
    """Evaluated in float64; 2000 values, of which at most a few lie within float32's reach of a border."""
    x, steps = gaussian(2000) / 5, 2**bits - 1
    squashed = x.double().tanh()
    r = squashed / (2 * squashed.abs().max()) + 0.5
    expected = 2 * (r * steps).round() / steps - 1
    differs = (decoded(DoReFa(bits=bits, scale="unit"), x) - expected).abs() > 1e-6
    assert int(differs.sum()) <= 2


@pytest.mark.parametrize("bits", [2, 4])
def test_the_scale_is_the_one_of_least_squared_error(gaussian, bits):
    x = gaussian(3000) / 5
    y = decoded(DoReFa(bits=bits), x)
    best = float((y - x).square().sum())
    assert best < min(float((factor * y - x).square().sum()) for factor in (0.99, 1.01))


def test_one_bit_is_the_sign_times_the_mean_magnitude(code, gaussian, z_score):
    x = gaussian(1 << 18)
    y = code(DoReFa(bits=1), x).reconstruction
    assert abs(z_score(x, y, 1 - 2 / math.pi)) < 4
    # binary stores its scale as float16, rounded up by at most 2^-10
    assert torch.allclose(y, code(Binary(granularity="tensor"), x).reconstruction, rtol=2**-10)


def test_the_weights_gradient_by_hand():
    """tanh(x) = .6, .3, -.2 over m = .6: (1 - tanh^2) / m, and the largest takes the gradient of m as well."""
    t = torch.tensor([0.6, 0.3, -0.2])
    x = t.atanh().requires_grad_()
    upstream = torch.tensor([1.0, 2.0, 4.0])
    (to_x,) = torch.autograd.grad(
        DoReFa(bits=2, scale="unit").surrogate(x, {}, context=context()), [x], upstream
    )
    slope = 1 - t.square()
    expected = upstream * slope / 0.6
    expected[0] -= float((upstream * t).sum()) / 0.36 * slope[0]
    assert to_x.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    y = DoReFa(bits=2).surrogate(x, {}, context=context())
    scale = float(y.detach()[0])
    assert torch.autograd.grad(y, [x], upstream)[0].tolist() == pytest.approx(
        (scale * to_x).tolist(), rel=1e-5
    )
    (plain,) = torch.autograd.grad(DoReFa(bits=1).surrogate(x, {}, context=context()), [x], upstream)
    assert torch.equal(plain, upstream)


def test_activations_by_hand():
    x = torch.tensor([-0.5, 0.0, 0.1, 0.2, 0.6, 1.0, 7.0], requires_grad=True)
    y = DoReFaActivation(bits=2).surrogate(x, {}, context=context())
    assert y.tolist() == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 1, 1])
    (to_x,) = torch.autograd.grad(y.sum(), [x])
    assert to_x.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_uniform_activations_have_an_error_of_step_squared_over_twelve(code, z_score):
    x = torch.rand(1 << 18, generator=torch.Generator().manual_seed(0))
    assert abs(z_score(x, code(DoReFaActivation(bits=4), x).reconstruction, 1 / 15**2 / 12)) < 4


@pytest.mark.parametrize("bits", [2, 4])
def test_gradients_are_rounded_by_equation_12(bits):
    """Mean and variance of 4000 draws: x, and step^2 p (1 - p), p the distance to the level below in steps."""
    x = torch.tensor([0.5, -0.5, 0.31, -0.04, 0.0])
    quantizer, draws = DoReFaGradient(bits=bits), context(3)
    codebook = quantizer.fit(x, context=draws)
    samples = torch.stack(
        [
            quantizer.decode(quantizer.encode(x, codebook, context=draws), codebook, x.shape)
            for _ in range(4000)
        ]
    ).double()
    steps = 2**bits - 1
    p = (x.double() + 0.5) * steps % 1
    variance = p * (1 - p) / steps**2
    assert bool(((samples.mean(0) - x).abs() <= 5 * (variance / 4000).sqrt() + 1e-6).all())
    levels = (samples + 0.5) * steps
    assert bool(((levels - levels.round()).abs() < 1e-5).all())
    assert bool((levels - (x.double() + 0.5) * steps).abs().max() < 1 + 1e-5)
    # a sample variance of two values has the relative variance (1 / (p (1 - p)) - 4) / n: 5 standard errors; at
    # p = 1/2 that is 0, and what the mean's 5 standard errors take away is left, 25 / n
    spread = ((1 / (p * (1 - p)).clamp(min=1e-6) - 4).clamp(min=0) / 4000).sqrt()
    assert bool(
        ((samples.var(0) - variance).abs() <= variance * (5 * spread + 25 / 4000) + 1e-6 / steps**2).all()
    )


def test_the_largest_value_of_each_sample(code):
    x = torch.tensor([[0.5, 0.25], [0.125, -0.125], [0.0, 0.0]])
    rows = code(DoReFaGradient(bits=2), x).reconstruction
    assert rows[0, 0] == 0.5
    assert rows[1:].tolist() == [[0.125, -0.125], [0, 0]]
    assert code(DoReFaGradient(bits=2, granularity="tensor"), x).codebook["max"].tolist() == [512.0]
