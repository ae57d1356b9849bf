"""Grams, losses and importances against the same sums done by hand."""

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from qbench.calibration import Calibration, empirical_fisher
from qbench.layers import Weight, weight_tensors

ALL = frozenset({"gram", "loss", "importance"})


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(count: int, classes: int) -> Tensor:
    return torch.arange(count) % classes


def weight(module: nn.Module, name: str) -> Weight:
    return next(w for w in weight_tensors(module) if w.name == name)


@pytest.fixture
def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *(
                nn.Flatten(),
                nn.Linear(12, 9),
                nn.ReLU(inplace=True),
                nn.Linear(9, 7),
                nn.ReLU(),
                nn.Linear(7, 4),
            )
        )


@pytest.fixture
def conv() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 2, stride=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4)),
        )


@pytest.fixture
def pictures() -> Tensor:
    """Of 71, so that batches of 32 leave a remainder."""
    return normal(71, 2, 3, 2, seed=1)


def test_grams_are_input_second_moments_of_the_quantized_prefix(
    network: nn.Sequential, pictures: Tensor
) -> None:
    """X^T X / n in float64; ours adds in float32."""
    calibration = Calibration(network, pictures, labels(71, 4), frozenset({"gram"}))
    quantized = deepcopy(network)
    for number in (1, 3, 5):
        given = calibration.of(weight(network, f"{number}.weight"))
        inputs = quantized[:number](pictures).detach().double()
        assert given.gram is not None
        torch.testing.assert_close(given.gram.double(), inputs.T @ inputs / 71, rtol=1e-5, atol=1e-6)
        assert given.loss is given.importance is None
        decoded = normal(*network[number].weight.shape, seed=number)
        quantized[number].weight.data = decoded
        calibration.replace(f"{number}.weight", decoded)


def test_a_convolutions_gram_is_over_patches(conv: nn.Sequential) -> None:
    """torch.nn.functional.unfold by hand: [positions, in * kernel], then the mean of both groups."""
    x = normal(40, 2, 8, 8, seed=1)
    calibration = Calibration(conv, x, labels(40, 4), frozenset({"gram"}))
    conv.eval()
    patches = functional.unfold(x, 3, padding=1).transpose(1, 2).reshape(-1, 18).double()
    first = calibration.of(weight(conv, "0.weight")).gram
    torch.testing.assert_close(first.double(), patches.T @ patches / len(patches), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        hidden = functional.unfold(conv[:4](x), 2, stride=2).transpose(1, 2).reshape(-1, 2, 8).double()
    expected = torch.einsum("pgi,pgj->ij", hidden, hidden) / (2 * len(hidden))
    second = calibration.of(weight(conv, "4.weight")).gram
    torch.testing.assert_close(second.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [0, 4, 7])
def test_the_loss_is_the_output_error_against_the_float_layer(conv: nn.Sequential, number: int) -> None:
    """mean |layer~(x~) - layer(x)|^2, x~ from a prefix with other weights, value and gradient."""
    x = normal(40, 2, 8, 8, seed=1)
    calibration = Calibration(conv, x, labels(40, 4), frozenset({"loss"}))
    quantized = deepcopy(conv.eval())
    for earlier in [n for n in (0, 4) if n < number]:
        quantized[earlier].weight.data += 0.1 * normal(*conv[earlier].weight.shape, seed=9)
        calibration.replace(f"{earlier}.weight", quantized[earlier].weight.detach())
    given = calibration.of(weight(conv, f"{number}.weight"))
    assert given.gram is None
    rounded = conv[number].weight.detach() + 0.2 * normal(*conv[number].weight.shape, seed=8)
    with torch.no_grad():
        inputs, target = quantized[:number](x), conv[: number + 1](x)
    quantized[number].weight.data = rounded.clone()
    expected = (quantized[number](inputs) - target).square().mean()
    (gradient,) = torch.autograd.grad(expected, quantized[number].weight)
    found = given.loss(rounded.requires_grad_())
    (found_gradient,) = torch.autograd.grad(found, rounded)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found_gradient, gradient, rtol=1e-3, atol=1e-5)


def test_the_float_weight_loses_what_earlier_layers_lost(network: nn.Sequential, pictures: Tensor) -> None:
    """Without replaced layers that is nothing, exactly; gram and loss then agree: mean over outputs of d G d^T."""
    calibration = Calibration(network, pictures, labels(71, 4), ALL)
    given = calibration.of(weight(network, "3.weight"))
    exact = network[3].weight.detach()
    assert float(given.loss(exact)) == 0
    change = normal(7, 9, seed=5)
    expected = torch.einsum("oi,ij,oj->", change, given.gram, change) / 7
    torch.testing.assert_close(given.loss(exact + change), expected, rtol=1e-4, atol=0)
    calibration.replace("1.weight", torch.zeros(9, 12))
    assert float(calibration.of(weight(network, "3.weight")).loss(exact)) > 0.01


@pytest.mark.parametrize("count", [6, 9, 40])
def test_the_loss_is_one_function_whether_rows_or_moments_are_kept(
    network: nn.Sequential, count: int
) -> None:
    """Fewer pictures than inputs, as many, and more in several batches; the loss of a zero weight by hand."""
    x = normal(count, 2, 3, 2, seed=1)
    calibration = Calibration(network, x, labels(count, 4), frozenset({"loss"}))
    changed = 1.1 * network[1].weight.detach()
    calibration.replace("1.weight", changed)
    given = calibration.of(weight(network, "3.weight"))
    with torch.no_grad():
        target = functional.linear(network[:3](x), network[3].weight)
        inputs = functional.linear(x.flatten(1), changed, network[1].bias).relu()
        rounded = network[3].weight.round(decimals=1)
        expected = (functional.linear(inputs, rounded) - target).square().mean()
        torch.testing.assert_close(given.loss(rounded), expected, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(given.loss(0 * rounded), target.square().mean(), rtol=1e-4, atol=0)


def test_importance_of_a_linear_classifier_is_known(pictures: Tensor) -> None:
    """The gradient of one picture's cross-entropy is (softmax(W x) - onehot) x^T."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    x, y = pictures.flatten(1).double(), functional.one_hot(labels(71, 4), 4)
    with torch.no_grad():
        residual = module(pictures).double().softmax(1) - y
    expected = torch.einsum("no,ni->oi", residual.square(), x.square()) / 71
    found = Calibration(module, pictures, labels(71, 4), frozenset({"importance"})).of(
        weight(module, "1.weight")
    )
    assert found.importance is not None
    torch.testing.assert_close(found.importance.double(), expected, rtol=1e-4, atol=1e-8)
    assert found.gram is found.loss is None


def test_importances_are_those_of_the_float_network(network: nn.Sequential, pictures: Tensor) -> None:
    calibration = Calibration(network, pictures, labels(71, 4), ALL)
    before = calibration.of(weight(network, "5.weight")).importance
    calibration.replace("1.weight", torch.zeros(9, 12))
    assert calibration.of(weight(network, "5.weight")).importance is before
    assert torch.equal(before, empirical_fisher(network.eval(), pictures, labels(71, 4))["5.weight"])


class Odd(nn.Module):
    """Defined against the order of use; one layer is used twice, two share a weight, one is never reached."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3)
        self.attic = nn.Linear(5, 5)
        self.twice = nn.Linear(5, 5)
        self.first = nn.Linear(5, 5)
        self.table = nn.Embedding(5, 5)
        self.again = nn.Linear(5, 5)
        self.again.weight = self.first.weight
        self.table.weight = self.last.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.twice(input=self.twice(x)).relu_()
        return self.last(self.again(x))


def test_layers_come_in_forward_order_without_those_never_reached() -> None:
    module, x = Odd(), normal(9, 5)
    assert [w.name for w in weight_tensors(module)] == [
        "last.weight",
        "attic.weight",
        "twice.weight",
        "first.weight",
    ]
    for needs in ({"gram"}, {"loss"}, {"importance"}, ALL):
        found = Calibration(module, x, labels(9, 3), frozenset(needs)).reachable(weight_tensors(module))
        assert [w.name for w in found] == ["first.weight", "twice.weight", "last.weight"]


def test_every_use_of_a_weight_counts() -> None:
    module, x = Odd(), normal(9, 5)
    calibration = Calibration(module, x, labels(9, 3), frozenset({"gram", "loss"}))
    with torch.no_grad():
        a = module.first(x)
        b = module.twice(a)
        c = module.twice(b).relu()
    for name, inputs in {"first": torch.cat([x, c]), "twice": torch.cat([a, b])}.items():
        given = calibration.of(weight(module, f"{name}.weight"))
        torch.testing.assert_close(given.gram, inputs.T @ inputs / 18, rtol=1e-5, atol=1e-6)
        zero = given.loss(torch.zeros(5, 5))
        outputs = inputs @ module.get_parameter(f"{name}.weight").T
        torch.testing.assert_close(zero, outputs.square().mean(), rtol=1e-5, atol=0)


def test_everything_is_left_as_it_was(conv: nn.Sequential) -> None:
    def state(module: nn.Module) -> list[Tensor]:
        return [value.clone() for value in module.state_dict().values()]

    x, before, random = normal(40, 2, 8, 8), state(conv), torch.get_rng_state()
    given = Calibration(conv, x, labels(40, 4), ALL).of(weight(conv, "4.weight"))
    given.loss(torch.zeros(6, 2, 2, 2))
    assert all(torch.equal(a, b) for a, b in zip(before, state(conv), strict=True))
    assert conv.training
    assert all(parameter.grad is None for parameter in conv.parameters())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in conv.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_time_is_counted(network: nn.Sequential, pictures: Tensor) -> None:
    calibration = Calibration(network, pictures, labels(71, 4), ALL)
    spent = [calibration.seconds]
    for number in (1, 3):
        calibration.of(weight(network, f"{number}.weight"))
        spent.append(calibration.seconds)
    assert all(earlier < later for earlier, later in pairwise(spent))
    assert spent[0] > 0


def test_descent_on_the_loss_finds_the_float_weight(network: nn.Sequential, pictures: Tensor) -> None:
    """A quadratic with its minimum at W: Newton's step from anywhere lands there, G having full rank."""
    calibration = Calibration(network, pictures, labels(71, 4), frozenset({"gram", "loss"}))
    given = calibration.of(weight(network, "1.weight"))
    loss: Callable[[Tensor], Tensor] = given.loss
    start = normal(9, 12, seed=3).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(start), start)
    step = torch.linalg.solve(given.gram, gradient.T * 9 / 2).T
    torch.testing.assert_close((start - step).detach(), network[1].weight.detach(), rtol=1e-3, atol=1e-4)
