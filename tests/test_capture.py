"""Inputs of layers and gradients of weights against a network small enough to do by hand."""

import pytest
import torch
from torch import Tensor, nn

from qbench.capture import activations, gradients, output_gradients


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(48, 5),
    )


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(7, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_layers_input_is_what_the_layers_before_it_make(pictures: Tensor) -> None:
    module = network().train()
    module[3].eval()
    found = activations(module, pictures)
    assert list(found) == ["0.weight", "5.weight"]
    assert torch.equal(found["0.weight"], pictures)
    before = module.eval()[:5]
    assert torch.equal(found["5.weight"], before(pictures).detach())


def test_modes_buffers_and_hooks_are_left_as_they_were(pictures: Tensor) -> None:
    module = network().train()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    activations(module, pictures)
    gradients(module, pictures, torch.zeros(7, dtype=torch.long))
    assert [part.training for part in module] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_weight_used_twice_has_both_inputs_and_an_unused_one_none(pictures: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.unused = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(x.flatten(1)))

    module = Twice()
    found = activations(module, pictures)
    assert list(found) == ["shared.weight"]
    flat = pictures.flatten(1)
    assert torch.equal(found["shared.weight"], torch.cat([flat, module.shared(flat).detach()]))
    assert list(gradients(module, pictures, torch.zeros(7, dtype=torch.long))) == ["shared.weight"]


def test_an_input_is_what_the_layer_read_whatever_becomes_of_it(pictures: Tensor) -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(16, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(input=x.flatten(1))
            result = self.second(hidden)
            hidden.zero_()
            return result

    module = Careless()
    found = activations(module, pictures)
    assert torch.equal(found["first.weight"], pictures.flatten(1))
    assert torch.equal(found["second.weight"], module.first(pictures.flatten(1)).detach())


def test_an_embedding_that_shares_a_layers_weight_is_no_layer() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.embedding(tokens))

    module, tokens = Tied(), torch.tensor([1, 4])
    found = activations(module, tokens)
    assert list(found) == ["head.weight"]
    assert torch.equal(found["head.weight"], module.embedding(tokens).detach())


@pytest.mark.parametrize("inplace", [False, True])
def test_gradients_of_outputs_are_a_row_for_every_channel(pictures: Tensor, inplace: bool) -> None:
    """Of half the sum of squares of what follows a convolution, a place at a time; a ReLU in place changes nothing."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(inplace=inplace))
    before = torch.nn.functional.conv2d(pictures, module[0].weight).detach().movedim(1, 0).reshape(3, -1)
    found = output_gradients(module, lambda: module(pictures).square().sum() / 2)
    assert list(found) == ["0.weight"]
    assert found["0.weight"].shape == (3, 7 * 2 * 2)
    torch.testing.assert_close(found["0.weight"], before.clamp_min(0))
    assert torch.equal(found["0.weight"] == 0, before <= 0)
    assert not any(part._forward_hooks for part in module.modules())
    assert module[0].weight.grad is None


def test_outputs_of_every_use_and_of_no_use() -> None:
    """y = w (w x): the loss's gradient is y for the second use and w' y for the first; features lie last, and what
    the loss does not depend on has zeros."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.unused, self.idle = (
                nn.Linear(4, 4, bias=False),
                nn.Linear(4, 4),
                nn.Linear(4, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            self.idle(x)
            return self.shared(self.shared(x))

    torch.manual_seed(0)
    module, x = Twice(), torch.randn(2, 5, 4)
    found = output_gradients(module, lambda: module(x).square().sum() / 2)
    second = module(x).detach()
    first = second @ module.shared.weight.detach()
    assert list(found) == ["shared.weight", "idle.weight"]
    torch.testing.assert_close(
        found["shared.weight"], torch.cat([first.reshape(10, 4).T, second.reshape(10, 4).T], 1)
    )
    assert torch.equal(found["idle.weight"], torch.zeros(2, 10))


def test_the_gradient_of_a_linear_classifier_is_known(pictures: Tensor) -> None:
    """d/dW of mean cross-entropy of W x is mean (softmax(W x) - onehot) x^T."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False))
    labels = torch.arange(7) % 5
    flat = pictures.flatten(1).double()
    residual = (flat @ module[1].weight.detach().double().T).softmax(1) - nn.functional.one_hot(labels, 5)
    expected = residual.T @ flat / 7
    torch.testing.assert_close(
        gradients(module, pictures, labels)["1.weight"].double(), expected, rtol=1e-5, atol=1e-6
    )
