"""What all networks over torchvision's definitions have in common."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from qbench.components import Model
from qbench.layers import LAYERS, weight_tensors
from qbench.models.alexnet import AlexNet
from qbench.models.densenet121 import DenseNet121
from qbench.models.googlenet import GoogLeNet
from qbench.models.resnet18 import ResNet18
from qbench.models.vit import Vit
from qbench.optimizers.adam import Adam

TINY: dict[str, Callable[[], Model]] = {
    "alexnet": lambda: AlexNet(width=8, dropout=0),
    "resnet18": lambda: ResNet18(width=2),
    "densenet121": lambda: DenseNet121(width=2),
    "googlenet": lambda: GoogLeNet(width=8),
    "vit": lambda: Vit(width=12, depth=2, heads=3),
}
every_model = pytest.mark.parametrize("name", TINY)


def seeded(model: Model, shape: tuple[int, int, int], classes: int, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.build(shape, classes)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@every_model
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 64, 64)])
@pytest.mark.parametrize("training", [True, False])
def test_logits_of_pictures_of_every_size(name: str, shape: tuple[int, int, int], training: bool) -> None:
    module = seeded(TINY[name](), shape, 7).train(training)
    assert module(drawn(2, *shape)).shape == (2, 7)


@every_model
def test_the_seed_of_the_global_generator_fixes_all_weights(name: str) -> None:
    one, same, other = (seeded(TINY[name](), (1, 8, 8), 10, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@every_model
def test_every_matrix_is_a_weight_of_a_layer(name: str) -> None:
    """All that a forward pass multiplies with stands in linear and convolutional layers, each used."""
    module = seeded(TINY[name](), (1, 8, 8), 10).eval()
    used: list[nn.Module] = []
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, inputs, output: used.append(layer))
    module(drawn(2, 1, 8, 8))
    assert set(used) == set(layers)
    assert len(used) == len(layers)
    matrices = {key for key, parameter in module.named_parameters() if parameter.dim() > 1}
    weights = [weight.name for weight in weight_tensors(module)]
    assert matrices - {"class_token", "encoder.pos_embedding"} == set(weights)
    assert weight_tensors(module)[0].parameter.shape[1] == 1
    assert weight_tensors(module)[-1].parameter.shape[0] == 10


@every_model
def test_a_graph_of_it_computes_the_same(name: str) -> None:
    module = seeded(TINY[name](), (1, 8, 8), 10).eval()
    for at, parameter in enumerate(module.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(at))
    x = drawn(4, 1, 8, 8)
    logits = module(x)
    assert torch.equal(fx.symbolic_trace(module)(x), logits)
    assert float(logits.detach().std()) > 0


@every_model
def test_nothing_overwrites_what_a_layer_gave_out(name: str) -> None:
    """Who keeps an output by reference finds it unchanged after the pass."""
    module = seeded(TINY[name](), (1, 8, 8), 10).eval()
    kept: list[tuple[Tensor, Tensor]] = []
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_hook(lambda layer, inputs, output: kept.append((output, output.clone())))
    with torch.no_grad():
        module(drawn(4, 1, 8, 8))
    assert len(kept) == len(weight_tensors(module))
    assert all(torch.equal(output, copy) for output, copy in kept)


@every_model
def test_thirty_steps_learn_random_labels_by_heart(name: str) -> None:
    """Four classes of equal size: without a look at the picture the loss is at least ln 4."""
    module = seeded(TINY[name](), (1, 8, 8), 4)
    x, labels = drawn(64, 1, 8, 8), torch.arange(64) % 4
    rule, losses = Adam(lr=0.01).build(module.parameters()), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(30):
            loss = functional.cross_entropy(module(x), labels)
            rule.zero_grad()
            loss.backward()
            rule.step()
            losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert losses[-1] < 0.8 * math.log(4)
