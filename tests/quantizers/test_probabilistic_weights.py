import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from qbench.components import Context
from qbench.errors import InputError
from qbench.quantizers.probabilistic_weights import ProbabilisticWeights
from qbench.testing import parametrize_checks


def context(seed=0):
    return Context(torch.Generator().manual_seed(seed))


UNIT = {"scale": torch.ones(1)}
# .95 (.05 + .9 u) = .95 - .9 u, where 1 becomes as probable as 0
ZERO_UP_TO = 0.9025 / 1.755


@parametrize_checks([ProbabilisticWeights(**point) for point in ProbabilisticWeights.sweep])
def test_contract(quantizer, check):
    check(quantizer)


def test_initial_probabilities_by_hand():
    """u = 0.2: p(0) = .77, p(1 | not 0) = (1 + .2/.23) / 2; u = 0.6: p(0) = .41, (1 + .6/.59) / 2 clips to .95."""
    quantizer = ProbabilisticWeights(levels=3)
    p = quantizer.probabilities(torch.tensor([0.0, 0.2, -0.2, 0.6, 3.0]), UNIT)
    positive = 0.23 * (1 + 0.2 / 0.23) / 2
    expected = [
        [0.025, 0.95, 0.025],
        [0.23 - positive, 0.77, positive],
        [positive, 0.77, 0.23 - positive],
        [0.59 * 0.05, 0.41, 0.59 * 0.95],
        [0.95 * 0.05, 0.05, 0.95 * 0.95],
    ]
    for column, wanted in zip(p.T.tolist(), expected):
        assert column == pytest.approx(wanted, abs=1e-6)
    binary = ProbabilisticWeights(levels=2).probabilities(torch.tensor([0.0, 0.5, -2.0]), UNIT)
    assert binary[1].tolist() == pytest.approx([0.5, 0.75, 0.05])
    # level 1/2 of five, a quarter of the way to 1: .05 / 4 for each and .9375 shared 3 : 1
    five = ProbabilisticWeights(levels=5).probabilities(torch.tensor([0.625]), UNIT)
    shares = [0, 0, 0, 0.75 * 0.9375, 0.25 * 0.9375]
    assert five[:, 0].tolist() == pytest.approx([0.0125 + share for share in shares], abs=1e-6)


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 16])
def test_they_are_distributions_and_the_most_probable_level_is_the_nearest(levels):
    quantizer = ProbabilisticWeights(levels=levels)
    x = torch.linspace(-1.2, 1.2, 1024)
    p = quantizer.probabilities(x, UNIT)
    assert bool((p >= 0).all())
    assert torch.allclose(p.sum(0), torch.ones(1024), atol=1e-6)
    decoded = quantizer.decode(quantizer.encode(x, UNIT, context=context()), UNIT, x.shape)
    position = (x.clamp(-1, 1) + 1) / 2 * (levels - 1)
    nearest = position.round() / (levels - 1) * 2 - 1
    ternary = x.sign() * (x.abs() > ZERO_UP_TO)
    assert torch.allclose(decoded, ternary if levels == 3 else nearest, atol=1e-6)


def test_mean_and_variance_by_hand():
    """p = (.1, .2, .7) and s = 2: mean 2 (.6), variance 4 (.8 - .36); second channel certain."""
    quantizer = ProbabilisticWeights(levels=3, granularity="channel")
    p = torch.tensor([[0.1, 1.0], [0.2, 0.0], [0.7, 0.0]])[:, :, None]
    mean, variance = quantizer.moments(p, {"scale": torch.tensor([2.0, 3.0])})
    assert mean[:, 0].tolist() == pytest.approx([1.2, -3.0])
    assert variance[:, 0].tolist() == pytest.approx([4 * 0.44, 0.0], abs=1e-6)


@pytest.mark.parametrize(("levels", "reach"), [(2, 0.9), (3, 0.23)])
def test_the_mean_is_the_weight_where_nothing_is_clipped(levels, reach):
    quantizer = ProbabilisticWeights(levels=levels)
    x = torch.linspace(-reach, reach, 101) / 4
    codebook = {"scale": torch.tensor([0.25])}
    mean, _ = quantizer.moments(quantizer.probabilities(x, codebook), codebook)
    assert torch.allclose(mean, x, atol=1e-6)


def test_a_layers_output_has_the_moments_of_drawn_weights(gaussian):
    """4000 draws of a layer: means and variances within 5 standard errors of those by the moments."""
    quantizer = ProbabilisticWeights(levels=3, assignment="stochastic")
    weight, inputs, generator = gaussian(4, 50), gaussian(6, 50, seed=1).double(), context(5)
    codebook = quantizer.fit(weight, context=context())
    p = quantizer.probabilities(weight, codebook)
    mean, variance = (m.double() for m in quantizer.moments(p, codebook))
    drawn = []
    for _ in range(4000):
        codes = quantizer.assign(p, context=generator)
        drawn.append(inputs @ quantizer.decode(codes, codebook, weight.shape).double().T)
    outputs = torch.stack(drawn)
    expected = inputs.square() @ variance.T
    assert bool(((outputs.mean(0) - inputs @ mean.T).abs() < 5 * (expected / 4000).sqrt()).all())
    # the variance of a sample variance of nearly Gaussian outputs: 2 sigma^4 / n
    assert bool(((outputs.var(0) / expected - 1).abs() < 5 * math.sqrt(2 / 4000)).all())


def squared_error(cut, scale):
    """E (x - x^)^2 of N(0, 1), 0 up to ``cut`` and +- ``scale`` beyond, by integration."""
    outside = 2 * quad(lambda v: (v - scale) ** 2 * norm.pdf(v), cut, 12)[0]
    return outside + 2 * quad(lambda v: v * v * norm.pdf(v), 0, cut)[0]


@pytest.mark.parametrize(("levels", "cut"), [(2, 0.0), (3, ZERO_UP_TO)])
def test_gaussian_error_of_the_most_probable_level(code, gaussian, z_score, levels, cut):
    x = gaussian(1 << 18)
    decoded = code(ProbabilisticWeights(levels=levels), x, fitted_on=gaussian(1 << 20, seed=1)).reconstruction
    assert abs(z_score(x, decoded, squared_error(cut, 1.0))) < 4
    assert squared_error(0.0, 1.0) == pytest.approx(2 - 2 * math.sqrt(2 / math.pi))


def test_the_scale_of_least_squared_error_is_the_ternary_optimum(code, gaussian, z_score):
    """1.2240 and .19017, and 2.4e-4 for what stays 0 between .5 and .514; a grid of 0.6 % finds the scale."""
    expected = squared_error(ZERO_UP_TO * 1.224, 1.224)
    assert expected == pytest.approx(0.19017 + 2.4e-4, abs=1e-5)
    x = gaussian(1 << 18)
    assert abs(z_score(x, code(ProbabilisticWeights(scale="mse"), x).reconstruction, expected)) < 4


def test_gaussian_error_of_a_drawn_level(code, gaussian, z_score):
    """E (x - l)^2 over the paper's probabilities, integrated from their formula."""

    def expected(v):
        u = min(v, 1.0)
        zero = 0.95 - 0.9 * u
        positive = min((1 + u / (1 - zero)) / 2, 0.95)
        return zero * v * v + (1 - zero) * (positive * (v - 1) ** 2 + (1 - positive) * (v + 1) ** 2)

    error = 2 * quad(lambda v: expected(v) * norm.pdf(v), 0, 12, points=[0.045 / 0.19, 1.0])[0]
    x = gaussian(1 << 18)
    quantizer = ProbabilisticWeights(levels=3, assignment="stochastic")
    decoded = code(quantizer, x, fitted_on=gaussian(1 << 20, seed=1), seed=2).reconstruction
    assert abs(z_score(x, decoded, error)) < 4


def test_gradients_by_hand():
    """E[x^] = x up to |u| = .045 / .19, then s (.05 + .9 |u|) .9 sign(x) up to 1, then s .95 * .9: slopes 1, .81, 0."""
    x = torch.tensor([0.05, -0.1, 0.2, -0.45, 0.6], requires_grad=True)
    scale = torch.tensor([0.5], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    y = ProbabilisticWeights(levels=3).surrogate(x, {"scale": scale}, context=context())
    assert y.tolist() == [0, 0, 0, -0.5, 0.5]
    to_x, to_scale = torch.autograd.grad(y, [x, scale], upstream)
    assert to_x.tolist() == pytest.approx([1, 2, 4 * 0.81, 8 * 0.81, 0], rel=1e-5)
    # x fixed: 0 where the mean is x; .045 s sign(x) + .81 x; .855 s
    by_element = [0, 0, 0.045, -0.045, 0.855]
    assert float(to_scale) == pytest.approx(
        sum(u * d for u, d in zip(upstream.tolist(), by_element)), rel=1e-4
    )


def test_distributions_are_learned_through_their_logits():
    """Gradient descent on the squared error of the mean, plus the variance, makes every weight certain."""
    quantizer = ProbabilisticWeights(levels=3)
    x = torch.tensor([0.9, 0.1, -0.8, -0.2])
    logits = quantizer.probabilities(x, UNIT).log().requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        mean, variance = quantizer.moments(torch.softmax(logits, 0), UNIT)
        adam.zero_grad()
        ((mean - x).square() + variance).sum().backward()
        adam.step()
    p = torch.softmax(logits.detach(), 0)
    codes = quantizer.assign(p, context=context())
    assert quantizer.decode(codes, UNIT, x.shape).tolist() == [1, 0, -1, 0]
    assert float(p.max(0).values.min()) > 0.95


def test_rows_that_the_codebook_does_not_have():
    quantizer = ProbabilisticWeights(granularity="channel")
    with pytest.raises(InputError, match="3 channels"):
        quantizer.encode(torch.ones(2, 4), {"scale": torch.ones(3)}, context=context())
