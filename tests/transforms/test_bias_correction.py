"""After it every layer's mean output is the float network's."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from qbench.layers import LAYERS, weight_tensors
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.transforms.bias_correction import BiasCorrection


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded(module: nn.Module) -> nn.Module:
    """Weights rounded down to halves of the largest one: the error has a mean."""
    quantized = deepcopy(module)
    for weight in weight_tensors(quantized):
        step = weight.parameter.detach().abs().amax() / 2
        weight.parameter.data = (weight.parameter.detach() / step).floor() * step
    return quantized


def corrected(quantized: nn.Module, original: nn.Module, x: Tensor) -> nn.Module:
    return BiasCorrection().apply(quantized, calibration=x, original=original)


def channel_means(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of every layer's output, channels second."""
    found = {}

    def keep(name: str):
        return lambda layer, inputs, y: found.update({name: y.transpose(0, 1).flatten(1).double().mean(1)})

    layers = [(name, part) for name, part in module.named_modules() if isinstance(part, LAYERS)]
    handles = [part.register_forward_hook(keep(name)) for name, part in layers]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("model", [Mlp(width=16, depth=3), Cnn(width=4)])
def test_means_of_every_layer_are_the_float_networks(model: Mlp | Cnn) -> None:
    """Sequentially: each layer sees corrected inputs. What is left is rounding, 6e-8 of values of size 1 to 100."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = model.build((1, 8, 8), 10).eval()
    quantized, x = rounded(original), normal(64, 1, 8, 8)
    expected, before = channel_means(original, x), channel_means(quantized, x)
    after = channel_means(corrected(quantized, original, x), x)
    for name, mean in expected.items():
        size = float(mean.abs().max())
        torch.testing.assert_close(after[name], mean, rtol=0, atol=1e-5 * size)
        assert float((before[name] - mean).abs().max()) > 1e-2 * size


def test_one_layer_by_hand() -> None:
    """b' = b - (W~ - W) E[x]."""
    original = nn.Linear(3, 2)
    quantized, x = rounded(original), normal(50, 3)
    found = corrected(quantized, original, x).bias
    expected = original.bias - (quantized.weight - original.weight) @ x.mean(0)
    torch.testing.assert_close(found, expected)


def test_a_convolution_without_bias_gets_one_where_the_means_differ() -> None:
    original = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 3, bias=False)).eval()
    quantized = deepcopy(original)
    quantized[2].weight.data += 1
    module = corrected(quantized, original, normal(4, 1, 8, 8))
    assert module[0].bias is None
    assert module[2].bias.shape == (2,)
    assert quantized[2].bias is None


def test_linear_layers_over_tokens() -> None:
    original = nn.Linear(3, 2)
    quantized, x = rounded(original), normal(7, 5, 3)
    module = corrected(quantized, original, x)
    with torch.no_grad():
        torch.testing.assert_close(module(x).mean((0, 1)), original(x).mean((0, 1)))


def test_equal_networks_stay_bit_for_bit_and_arguments_too() -> None:
    original = Cnn(width=2).build((1, 8, 8), 10)
    x, state = normal(8, 1, 8, 8), deepcopy(original.state_dict())
    module = corrected(original, original, x)
    assert original.training
    assert list(module.state_dict()) == list(state)
    for found in (module.state_dict(), original.state_dict()):
        assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_only_biases_change() -> None:
    original = Mlp(width=8, depth=1).build((1, 4, 4), 3).eval()
    quantized = rounded(original)
    module = corrected(quantized, original, normal(32, 1, 4, 4))
    for name, value in module.state_dict().items():
        assert torch.equal(value, quantized.state_dict()[name]) == name.endswith("weight")


def test_a_layer_that_is_used_twice_is_corrected_at_its_first_use() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x))

    original = Twice()
    quantized, x = rounded(original), normal(32, 4)
    layer = corrected(quantized, original, x).layer
    with torch.no_grad():
        torch.testing.assert_close(layer(x).mean(0), original.layer(x).mean(0))
