"""Torchvision's convolutional networks with a stem for small pictures and another number of channels."""

from collections.abc import Callable

import torch
from torch import nn


def small_form(
    definition: Callable[[], nn.Module], stem: str, head: str, channels: int, classes: int, width: int
) -> nn.Module:
    """The network with ``width`` channels where torchvision's has 64, and all others in proportion.

    The stem is a 3x3 convolution of stride 1. No activation overwrites its input, which may be a layer's output
    that somebody looks at. Call :func:`he_normal` once all layers are in place.

    Args:
        definition: builds torchvision's network, whose weights stand in convolutions, linear layers and batch
            normalizations only; every number of channels times width / 64 is an integer.
        stem: name of the first convolution. head: name of the last linear layer.
        channels: of the pictures. classes: outputs of the head.
    """
    with torch.device("meta"):
        network = definition()
    for name, layer in list(network.named_modules()):
        if name == stem:
            bias = layer.bias is not None
            network.set_submodule(name, nn.Conv2d(channels, width, 3, padding=1, bias=bias))
        elif name == head:
            network.set_submodule(name, nn.Linear(layer.in_features * width // 64, classes))
        elif isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            network.set_submodule(name, _narrowed(layer, width))
        elif isinstance(layer, nn.ReLU):
            layer.inplace = False
    return network


def _narrowed(layer: nn.Conv2d | nn.BatchNorm2d | nn.Linear, width: int) -> nn.Module:
    if isinstance(layer, nn.BatchNorm2d):
        return nn.BatchNorm2d(layer.num_features * width // 64, eps=layer.eps)
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features * width // 64, layer.out_features * width // 64)
    return nn.Conv2d(
        layer.in_channels * width // 64,
        layer.out_channels * width // 64,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )


def he_normal(network: nn.Module) -> nn.Module:
    """The same network, its convolutions and linear layers with He-normal weights and biases 0.

    Reference: He, Zhang, Ren, Sun, "Delving deep into rectifiers", 2015, equation 10.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
