"""Learned clipping against exact optima, against the extremes it may not fall behind, and its gradient by hand."""

import math

import pytest
import torch

from qbench.components import Context
from qbench.errors import InputError
from qbench.message import pack
from qbench.quantizers.affine import AffineGrid
from qbench.quantizers.learned_range import learned_range, reconstruction
from qbench.quantizers.scaling import minmax
from qbench.quantizers.uniform import Uniform

# Exact MSE of the midrise quantizer with the best step on N(0, 1).
GAUSSIAN = {1: 0.363380, 2: 0.118846, 3: 0.0374397, 4: 0.0115429}
SCHEMES = ["symmetric", "asymmetric", "midrise"]


def through(quantizer, x, **surroundings):
    context = Context(torch.Generator(), **surroundings)
    codebook = quantizer.fit(x, context=context)
    return quantizer.decode(quantizer.encode(x, codebook, context=context), codebook, x.shape)


@pytest.mark.parametrize("bits", GAUSSIAN)
def test_a_gaussian_gets_the_range_of_least_squares(gaussian, z_score, bits):
    """Within 4 standard errors of the exact optimum, and 1 % for what 100 steps leave."""
    x = gaussian(1 << 16, seed=4)
    grid = {"bits": bits, "scheme": "midrise", "granularity": "tensor"}
    decoded = 8 * through(Uniform(**grid, range="learned"), x / 8)
    assert z_score(x, decoded, 0.99 * GAUSSIAN[bits]) > -4
    assert z_score(x, decoded, 1.01 * GAUSSIAN[bits]) < 4


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_never_worse_than_the_extremes(gaussian, scheme, granularity):
    """Row by row, for rows that are unlike, a row of zeros among them; the bits are those of the decoder."""
    x = (gaussian(6, 64) / 8) ** torch.arange(1, 7)[:, None]
    x[4] = 0
    for bits in (2, 3, 4, 8, 16):
        grid = {"bits": bits, "scheme": scheme, "granularity": granularity}
        learned, plain = (
            (through(Uniform(**grid, range=choice), x) - x).square() for choice in ("learned", "minmax")
        )
        if granularity == "tensor":
            learned, plain = learned.sum(), plain.sum()
        else:
            learned, plain = learned.sum(1), plain.sum(1)
        assert bool((learned <= plain * (1 + 1e-5)).all())
        if bits == 2:
            assert float(learned.sum()) < 0.95 * float(plain.sum())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_element_without_importance_does_not_widen_the_range(gaussian, scheme):
    """A value 20 times beyond the others: by squared error it keeps the range wide, with weight 0 it does not."""
    x = gaussian(1, 256).clamp(-2, 2) / 100
    x[0, 7] = 0.4
    importance = torch.ones_like(x)
    importance[0, 7] = 0
    quantizer = Uniform(bits=3, scheme=scheme, granularity="channel", range="learned")
    errors = [
        float((importance * (through(quantizer, x, importance=weights) - x).square()).sum())
        for weights in (importance, None)
    ]
    assert errors[0] < 0.5 * errors[1]
    with pytest.raises(InputError, match=r"shape \(3,\), the tensor \(1, 256\)"):
        through(quantizer, x, importance=torch.ones(3))


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_the_layers_loss_is_what_falls(gaussian, granularity):
    """Where the context has one: by a tenth and more, against the extremes."""
    x, inputs = gaussian(16, 64) / 8, gaussian(512, 64, seed=1) + 1.0
    target = inputs @ x.T

    def loss(y):
        return (inputs @ y.T - target).square().mean()

    learned, plain = (
        float(loss(through(Uniform(bits=3, granularity=granularity, range=choice), x, loss=loss)))
        for choice in ("learned", "minmax")
    )
    assert learned < 0.9 * plain


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: (y * 0).sum() + 1,
        lambda y: (y * math.nan).sum(),
        lambda y: -y.square().sum(),
        lambda y: (y - y.detach()).abs().sqrt().sum() + 1,
    ],
)
def test_losses_that_lead_nowhere(gaussian, loss):
    """Flat, NaN, negative, with an infinite gradient: never worse than the extremes, and always finite."""
    x = gaussian(4, 64) / 8
    decoded = through(Uniform(bits=3, range="learned"), x, loss=loss)
    assert bool(torch.isfinite(decoded).all())
    assert not loss(decoded) > loss(through(Uniform(bits=3), x))


def test_a_loss_of_its_own_gets_no_gradient_and_a_caller_needs_none(gaussian):
    x, parameter = gaussian(4, 64) / 8, torch.ones(64, requires_grad=True)

    def loss(y):
        return ((y - x) * parameter).square().sum()

    with torch.no_grad():
        decoded = through(Uniform(bits=3, range="learned"), x, loss=loss)
    assert parameter.grad is None
    assert not decoded.requires_grad
    again = through(Uniform(bits=3, range="learned"), x, loss=loss)
    assert torch.equal(again, decoded)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_learned_on_is_what_the_decoder_returns(gaussian, scheme):
    """Bit for bit, with scales as they are stored."""
    x = gaussian(8, 32) / 8
    grid = AffineGrid(3, scheme, "float16")
    low, high = (0.7 * end for end in minmax(x, grid.symmetric))
    scale, zero_point = grid.read(grid.message(*grid.spanning(low, high)))
    expected = grid.points(grid.codes(x, scale, zero_point), scale, zero_point)
    assert torch.equal(reconstruction(x, low, high, grid), expected)


def test_the_gradient_of_an_end_by_hand():
    """x^ = s (code - 4), s = high / 3: d x^ / d s = code - 4 - x / s inside, +-3 or -4 where clipped; times 1/3.

    high = 3, so s = 1: x = .4 -> 0 - .4; 1.7 -> 2 - 1.7; -5 -> -4; 9 -> 3.
    """
    grid = AffineGrid(3, "symmetric", "float32")
    high = torch.tensor([3.0], requires_grad=True)
    x = torch.tensor([[0.4, 1.7, -5.0, 9.0]])
    decoded = reconstruction(x, -high, high, grid)
    assert decoded.tolist() == [[0, 2, -4, 3]]
    found = [float(torch.autograd.grad(decoded[0, k], high, retain_graph=True)[0]) for k in range(4)]
    assert found == pytest.approx([-0.4 / 3, 0.3 / 3, -4 / 3, 3 / 3], rel=1e-5)


def test_ends_move_apart_where_they_are_free():
    """Of 20,000 values over [-.1, .1] one is .9: with steps of (high + .1) / 15, an error of about
    20000 (high + .1)^2 / 2700 + (.9 - high)^2 falls until the upper end clips more than the outlier, at .1.
    """
    rows = torch.linspace(-0.1, 0.1, 20_000)[None].clone()
    rows[0, 1000] = 0.9
    grid = AffineGrid(4, "asymmetric", "float32")
    low, high = learned_range(rows, grid, lambda y: (y - rows).square().sum(1))
    assert -0.1 <= float(low) < -0.08
    assert 0.08 < float(high) < 0.13


@pytest.mark.parametrize("shape", [(), (1,), (0,), (0, 5), (5, 0), (3, 2, 2, 2)])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_any_shape_and_always_the_same_bytes(code, gaussian, shape, granularity):
    x, quantizer = gaussian(*shape), Uniform(range="learned", granularity=granularity)
    first, second = code(quantizer, x), code(quantizer, x)
    assert first.reconstruction.shape == shape
    assert pack(first.codes) == pack(second.codes)
