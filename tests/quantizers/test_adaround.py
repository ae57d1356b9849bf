"""AdaRound against every rounding there is, against nearest rounding, and on layers."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from qbench.components import Context
from qbench.errors import InputError
from qbench.quantizers.adaround import Adaround, rectified_sigmoid, undecided
from qbench.quantizers.uniform import Uniform
from qbench.testing import parametrize_checks


def through(quantizer, x: Tensor, loss, codebook=None):
    """Codes and reconstruction, decoded by an instance that has seen nothing."""
    context = Context(torch.Generator(), loss=loss)
    codebook = quantizer.fit(x, context=context) if codebook is None else codebook
    codes = quantizer.encode(x, codebook, context=context)
    return codes, type(quantizer)(**dict(quantizer.parameters)).decode(codes, codebook, x.shape)


def gram_of_positive_inputs(columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / math.sqrt(columns) + torch.eye(columns)
    inputs = (torch.randn(8 * columns, columns, generator=generator) @ mixing + 0.5).relu()
    return inputs.T @ inputs / len(inputs)


def layer_losses(x: Tensor, y: Tensor, gram: Tensor) -> Tensor:
    """Of every output, [rows]."""
    return (((y - x) @ gram) * (y - x)).sum(-1)


def layer_loss(x: Tensor, gram: Tensor):
    return lambda y: layer_losses(x, y, gram).sum()


def test_of_two_weights_with_equal_inputs_one_makes_up_for_the_other():
    """The loss of a pair is (e1 + e2)^2. Both lie .27 to .47 above a level: with one of them rounded up

    1 - (.54 to .94) of a step is left, with both at the nearest level .54 to .94, with both up more than 1.
    """
    step, generator = 2.0**-3, torch.Generator().manual_seed(0)
    above = 0.27 + 0.2 * torch.rand(10, 2, generator=generator)
    x = step * (torch.randint(-6, 6, (10, 1), generator=generator) + above).flatten()
    loss = layer_loss(x, torch.block_diag(*[torch.ones(2, 2)] * 10))
    quantizer = Adaround(granularity="tensor", scale_dtype="float32")
    _, decoded = through(quantizer, x, loss, {"scale": torch.tensor([step])})
    assert (decoded > x).view(10, 2).sum(1).tolist() == [1] * 10


def test_between_the_best_of_all_roundings_and_nearest_rounding(gain_z):
    """Ten weights, 2^10 roundings, 20 layers: never outside, and better than nearest by 4 paired standard errors."""
    step, ups = 2.0**-3, torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)))
    ours, nearest = [], []
    for seed in range(20):
        x = torch.rand(10, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
        gram = gram_of_positive_inputs(10, seed)
        best, loss = layer_losses(x, step * ((x / step).floor() + ups), gram).min(), layer_loss(x, gram)
        quantizer = Adaround(granularity="tensor", scale_dtype="float32")
        _, decoded = through(quantizer, x, loss, {"scale": torch.tensor([step])})
        ours.append(float(loss(decoded) / best))
        nearest.append(float(loss(step * (x / step).round()) / best))
    # float32 adds 100 products
    assert all(1 - 1e-4 <= a <= b + 1e-4 for a, b in zip(ours, nearest))
    assert gain_z(torch.tensor(nearest), torch.tensor(ours)) > 4


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric", "midrise"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_where_every_weight_counts_for_itself_nearest_rounding_is_best(gaussian, scheme, granularity):
    """Bit for bit: any other rounding has the larger squared error, weighted or not."""
    x = gaussian(6, 40) / 8
    grid = {"bits": 3, "scheme": scheme, "granularity": granularity, "range": "mse"}
    nearest = through(Uniform(**grid), x, None)[1]
    weights = torch.linspace(0.1, 2, 40)
    for loss in (lambda y: (y - x).square().sum(), lambda y: (weights * (y - x).square()).mean() * 1e-6):
        assert torch.equal(through(Adaround(**grid, iterations=100), x, loss)[1], nearest)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_layer_errs_less_than_with_nearest_rounding(gain_z, bits):
    """With the scales of nearest rounding; 4 paired standard errors over the outputs of three layers."""
    before, after = [], []
    for seed in range(3):
        x = torch.randn(32, 48, generator=torch.Generator().manual_seed(seed)) / 8
        gram = gram_of_positive_inputs(48, seed)
        grid = {"bits": bits, "granularity": "channel", "range": "mse"}
        codes, decoded = through(Adaround(**grid), x, layer_loss(x, gram))
        plain_codes, plain = through(Uniform(**grid), x, None)
        before.append(layer_losses(x, plain, gram))
        after.append(layer_losses(x, decoded, gram))
        moved = codes["codes"].values.int() - plain_codes["codes"].values.int()
        assert set(moved.unique().tolist()) == {-1, 0, 1}
    assert gain_z(torch.cat(before), torch.cat(after)) > 4


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: (y * 0).sum() + 1,
        lambda y: (y * math.nan).sum(),
        lambda y: y.abs().max(),
        lambda y: (y > 0.01).float().sum() + 0 * y.sum(),
        lambda y: -y.square().sum(),
        lambda y: (y - y.detach()).abs().sqrt().sum() + 1,
    ],
)
def test_never_worse_than_nearest_whatever_the_loss(gaussian, loss):
    """Flat, NaN, without a useful gradient, negative, with an infinite gradient."""
    x = gaussian(4, 16) / 8
    grid = {"bits": 3, "granularity": "channel", "range": "mse"}
    decoded = through(Adaround(**grid, iterations=50), x, loss)[1]
    assert not loss(decoded) > loss(through(Uniform(**grid), x, None)[1])


def test_no_step_leaves_nearest_rounding(gaussian):
    x = gaussian(4, 16) / 8
    decoded = through(Adaround(iterations=0), x, layer_loss(x, gram_of_positive_inputs(16, 0)))[1]
    assert torch.equal(decoded, through(Uniform(range="mse"), x, None)[1])


def test_the_loss_keeps_its_own_gradients(gaussian):
    """Parameters inside the loss get none, and a caller without gradients is no obstacle."""
    x, parameter = gaussian(4, 16) / 8, torch.ones(16, requires_grad=True)
    loss = layer_loss(x, gram_of_positive_inputs(16, 0))
    quantizer = Adaround(iterations=100)
    free = through(quantizer, x, lambda y: loss(y * parameter))[1]
    with torch.no_grad():
        assert torch.equal(through(quantizer, x, loss)[1], free)
    assert parameter.grad is None
    assert not free.requires_grad


def test_the_rectified_sigmoid_reaches_its_ends():
    v = torch.tensor([-100, math.log(0.1 / 1.1), 0.0, math.log(1.1 / 0.1), 100])
    assert rectified_sigmoid(v).tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-7)


def test_what_is_undecided():
    """1 - |2 h - 1|^beta: 1 at 1/2, 0 at the ends, 3/4 at 1/4 and 3/4 for beta = 2."""
    for beta in (20.0, 2.0):
        assert float(undecided(torch.tensor([0.0, 1.0]), beta)) == 0
        assert float(undecided(torch.tensor([0.5]), beta)) == 1
    assert float(undecided(torch.tensor([0.25, 0.75]), 2.0)) == 0.75


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("shape", [(), (1,), (70,), (3, 70), (4, 3, 5, 5), (0,), (0, 5), (5, 0)])
def test_any_shape(gaussian, granularity, shape):
    x = gaussian(*shape) / 8
    quantizer = Adaround(granularity=granularity, scheme="asymmetric", iterations=10)
    assert through(quantizer, x, lambda y: (y - x).sum().square())[1].shape == shape


def test_only_where_there_is_a_loss():
    assert not Adaround().suits("weight", frozenset())
    assert Adaround().suits("weight", frozenset({"loss"}))
    with pytest.raises(InputError, match="no loss; tracks that calibrate"):
        through(Adaround(), torch.ones(3, 5), None)


@parametrize_checks([Adaround(**point, iterations=30) for point in (Adaround.sweep[0], Adaround.sweep[-1])])
def test_contract(quantizer, check):
    check(quantizer)
