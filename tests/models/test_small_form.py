from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import googlenet, resnet18

from qbench.models.small_form import he_normal, small_form


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def test_names_strides_and_kernels_are_torchvisions() -> None:
    """Only the stem and the numbers of channels differ."""
    small, whole = small_form(resnet18, "conv1", "fc", 1, 10, 16), resnet18()
    assert list(small.state_dict()) == list(whole.state_dict())
    pairs = list(zip(convolutions(small), convolutions(whole), strict=True))
    for one, other in pairs[1:]:
        assert (one.kernel_size, one.stride, one.padding) == (other.kernel_size, other.stride, other.padding)
        assert (4 * one.in_channels, 4 * one.out_channels) == (other.in_channels, other.out_channels)
    stem = pairs[0][0]
    assert (stem.in_channels, stem.out_channels, stem.kernel_size, stem.stride) == (1, 16, (3, 3), (1, 1))


def test_normalizations_keep_their_eps() -> None:
    definition = partial(googlenet, aux_logits=False, init_weights=False)
    network = small_form(definition, "conv1.conv", "fc", 3, 10, 8)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 57
    assert {layer.eps for layer in norms} == {1e-3}


def test_the_width_scales_weights_by_its_square() -> None:
    """Stem and head apart, a weight joins two numbers of channels that are both proportional to the width."""

    def inner(width: int) -> int:
        network = small_form(resnet18, "conv1", "fc", 3, 10, width)
        return sum(layer.weight.numel() for layer in convolutions(network)[1:])

    assert inner(64) == 8**2 * inner(8)


def test_he_normal_keeps_the_second_moment_of_every_layer() -> None:
    """Var(w) = 2 / fan_in; the variance of n weights has relative SE sqrt(2 / n), 5 are allowed."""
    torch.manual_seed(0)
    network = he_normal(small_form(resnet18, "conv1", "fc", 3, 10, 16))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            relative = layer.weight.square().mean().item() * layer.weight[0].numel() / 2
            assert relative == pytest.approx(1, abs=5 * (2 / layer.weight.numel()) ** 0.5)
            assert layer.bias is None or not layer.bias.any()
