"""Equal ranges on both sides, and the same function."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.transforms.batch_norm_folding import BatchNormFolding
from qbench.transforms.cross_layer_equalization import CrossLayerEqualization


def equalized(module: nn.Module) -> nn.Module:
    return CrossLayerEqualization().apply(module, calibration=torch.empty(0), original=module)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uneven(module: nn.Module) -> nn.Module:
    """Weights and biases of N(0, 1), times 2^-4 to 2^4 for every output channel."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            parameter.data.normal_(generator=generator)
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d):
            factors = 2 ** torch.empty(len(part.weight)).uniform_(-4, 4, generator=generator)
            part.weight.data *= factors.view(-1, *[1] * (part.weight.dim() - 1))
    return module.eval()


def outputs(layer: nn.Module) -> Tensor:
    return layer.weight.detach().abs().flatten(1).amax(1)


def inputs(layer: nn.Module, channels: int) -> Tensor:
    """Largest weight on each of ``channels`` inputs, which come one after the other in blocks."""
    if isinstance(layer, nn.Conv2d) and layer.groups == channels:
        return layer.weight.detach().abs().reshape(channels, -1).amax(1)
    weight = layer.weight.detach().abs()
    return weight.reshape(len(weight), channels, -1).amax((0, 2))


def assert_same_function(first: nn.Module, second: nn.Module, x: Tensor) -> None:
    """Up to rounding: each weight is rounded once more, by 6e-8."""
    with torch.no_grad():
        y, z = first(x), second(x)
    assert float((y - z).norm() / y.norm()) < 1e-5


def assert_equal_ranges(layers: Sequence[nn.Module]) -> None:
    """The last scales were within 1e-4 of 1, and each layer is scaled from two sides."""
    for first, second in itertools.pairwise(layers):
        wide = outputs(first)
        torch.testing.assert_close(wide, inputs(second, len(wide)), rtol=1e-3, atol=0)


def test_two_layers_by_hand() -> None:
    """r = (8, 1/2), r' = (1/2, 2): both become sqrt(4) = 2 and 1, and biases go with the first layer."""
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).eval()
    network[0].weight.data = torch.tensor([[8.0, -4.0], [0.25, -0.5]])
    network[0].bias.data = torch.tensor([4.0, 3.0])
    network[2].weight.data = torch.tensor([[-0.5, 2.0]])
    module = equalized(network)
    assert module[0].weight.tolist() == [[2.0, -1.0], [0.5, -1.0]]
    assert module[0].bias.tolist() == [1.0, 6.0]
    assert module[2].weight.tolist() == [[-2.0, 1.0]]
    assert torch.equal(module[2].bias, network[2].bias)


def test_a_deep_perceptron() -> None:
    network = uneven(Mlp(width=16, depth=4).build((1, 4, 4), 10))
    module = equalized(network)
    assert_same_function(network, module, normal(8, 1, 4, 4))
    assert_equal_ranges([part for part in module if isinstance(part, nn.Linear)])


def test_the_cnn_after_folding_through_pooling_and_flattening() -> None:
    network = uneven(Cnn(width=4).build((1, 8, 8), 10))
    network = BatchNormFolding().apply(network, calibration=torch.empty(0), original=network)
    module = equalized(network)
    assert_same_function(network, module, normal(8, 1, 8, 8))
    layers = [part for part in module if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == 5
    assert_equal_ranges(layers)
    assert not torch.equal(layers[0].weight, network[0].weight)


def test_depthwise_and_grouped_convolutions() -> None:
    network = uneven(
        nn.Sequential(
            *(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LeakyReLU(0.1)),
            *(nn.Conv2d(8, 6, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3, groups=2)),
        )
    )
    module = equalized(network)
    assert_same_function(network, module, normal(4, 3, 6, 6))
    assert_equal_ranges([module[0], module[2], module[4]])
    grouped = module[6].weight.detach().abs().reshape(2, 2, 3, 9).amax((1, 3)).reshape(-1)
    torch.testing.assert_close(outputs(module[4]), grouped, rtol=1e-3, atol=0)


def test_functions_in_place_of_modules() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
            self.last = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.max_pool2d(nn.functional.relu(self.first(x)), 2)
            x = nn.functional.dropout(torch.relu(self.second(x)), training=self.training)
            return self.last(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 2), 1))

    network = uneven(Written())
    module = equalized(network)
    assert_same_function(network, module, normal(4, 1, 12, 12))
    assert_equal_ranges([module.first, module.second, module.last])


class Residual(nn.Module):
    """The first layer is read twice, the second is joined to it, the third is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.twice = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.twice(self.twice((x + self.body(x)).relu()))


def shared() -> nn.Module:
    network = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
    network[2].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(6, 6), nn.ReLU6(), nn.Linear(6, 6)),
        nn.Sequential(nn.Linear(6, 6), nn.Sigmoid(), nn.Linear(6, 6)),
        nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)),
        nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.MaxPool1d(2), nn.Linear(3, 6)),
        nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 4), nn.Flatten(), nn.Linear(8, 6)),
        nn.Sequential(nn.Unflatten(1, (1, 1, 6)), nn.Conv2d(1, 6, 1), nn.Flatten(2), nn.Linear(6, 6)),
        nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 6)),
        Residual(),
        shared(),
    ],
)
def test_what_is_not_homogeneous_or_has_other_readers_stays(network: nn.Module) -> None:
    network = uneven(network)
    state = equalized(network).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    network(normal(4, 6))


def test_dead_channels_stay_and_the_argument_too() -> None:
    network = uneven(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    network[0].weight.data[0] = 0
    network[2].weight.data[:, 1] = 0
    before = {name: value.clone() for name, value in network.state_dict().items()}
    module = equalized(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(module[0].weight[:2], network[0].weight[:2])
    assert torch.equal(module[2].weight[:, :2], network[2].weight[:, :2])
    assert float(outputs(module[0])[2]) == pytest.approx(float(inputs(module[2], 3)[2]))
    assert all(bool(value.isfinite().all()) for value in module.state_dict().values())
