"""Folding changes where the numbers stand, not what the network computes."""

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.layers import weight_tensors
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.transforms.batch_norm_folding import BatchNormFolding


def folded(module: nn.Module) -> nn.Module:
    return BatchNormFolding().apply(module, calibration=torch.empty(0), original=module)


def with_statistics(module: nn.Module) -> nn.Module:
    """Every normalization with mean and bias of N(0, 1), variance in [0.5, 2], scale in [0.5, 1.5]."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.normal_(part.bias, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in module.modules())


def pictures(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def resnet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return with_statistics(torchvision.models.resnet18(weights=None, num_classes=10))


def test_resnet18_computes_what_it_did(resnet: nn.Module) -> None:
    """Of 21 layers and sums of up to 4608 terms, float32's 6e-8 leaves well under 1e-4."""
    x = pictures(4, 3, 32, 32)
    module = folded(resnet)
    with torch.no_grad():
        before, after = resnet(x), module(x)
    assert float((after - before).norm() / before.norm()) < 1e-4
    assert norms(resnet) == 20
    assert norms(module) == 0


def test_weights_keep_names_order_and_shapes(resnet: nn.Module) -> None:
    before, after = (
        [(w.name, w.parameter.shape) for w in weight_tensors(m)] for m in (resnet, folded(resnet))
    )
    assert before == after


def test_the_argument_is_untouched(resnet: nn.Module) -> None:
    state = {name: value.clone() for name, value in resnet.state_dict().items()}
    folded(resnet.train())
    assert resnet.training
    assert all(torch.equal(value, state[name]) for name, value in resnet.state_dict().items())


def test_the_formula_by_hand() -> None:
    """w' = gamma w / sqrt(var + eps), b' = beta - gamma mean / sqrt(var + eps)."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2, eps=0.0)).eval()
    network[0].weight.data = torch.tensor([3.0, -5.0]).view(2, 1, 1, 1)
    network[1].running_mean, network[1].running_var = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 16.0])
    network[1].weight.data, network[1].bias.data = torch.tensor([2.0, 8.0]), torch.tensor([7.0, 0.5])
    module = folded(network)
    assert module[0].weight.flatten().tolist() == pytest.approx([3.0, -10.0])
    assert module[0].bias.tolist() == pytest.approx([6.0, -3.5])
    assert isinstance(module[1], nn.Identity)


@pytest.mark.parametrize("model", [Cnn(width=4), Mlp(width=8, depth=2)])
def test_the_models_of_the_suites(model: Cnn | Mlp) -> None:
    network = with_statistics(model.build((1, 8, 8), 10))
    x = pictures(5, 1, 8, 8)
    module = folded(network)
    with torch.no_grad():
        torch.testing.assert_close(module(x), network(x), rtol=1e-4, atol=1e-4)
    assert norms(module) == 0


def test_a_network_without_normalization_stays_bit_for_bit() -> None:
    network = Mlp(width=8, depth=2).build((1, 4, 4), 3)
    before, after = network.state_dict(), folded(network).state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_linear_layers_and_convolutions_of_every_dimension() -> None:
    network = with_statistics(
        nn.Sequential(
            nn.Conv1d(2, 4, 3, groups=2), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 5), nn.BatchNorm1d(5)
        )
    )
    x = pictures(3, 2, 8)
    module = folded(network)
    with torch.no_grad():
        torch.testing.assert_close(module(x), network(x), rtol=1e-5, atol=1e-5)
    assert norms(module) == 0


class Branching(nn.Module):
    """One convolution has two readers, one is called twice, one shares its weight, one normalization is read."""

    def __init__(self) -> None:
        super().__init__()
        self.forked, self.twice, self.one, self.two, self.read = (nn.Conv2d(2, 2, 1) for _ in range(5))
        self.two.weight = self.one.weight
        self.norms = nn.ModuleList(nn.BatchNorm2d(2) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.forked(x)
        x = self.norms[0](y) + y
        x = self.norms[1](self.twice(self.twice(x)))
        x = self.norms[3](self.two(self.norms[2](self.one(x))))
        return self.norms[4](self.read(x)) * self.norms[4].weight.sum()


def test_what_others_depend_on_stays() -> None:
    network = with_statistics(Branching())
    module = folded(network)
    x = pictures(3, 2, 4, 4)
    assert norms(module) == 5
    assert torch.equal(module(x), network(x))


def test_statistics_of_the_batch_cannot_be_folded() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False))
    assert norms(folded(network)) == 1


def test_a_network_without_a_graph_is_refused() -> None:
    class Restless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if math.isfinite(float(x.sum())) else -x

    with pytest.raises(InputError, match=r"batch-norm-folding needs .* cannot trace Restless: .*; leave"):
        folded(Restless())
