"""What flows through a network: the inputs of its layers and the gradients of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .classifier import cross_entropy, exact_kernels
from .layers import LAYERS, weight_tensors


def activations(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The input of every layer that has a weight, by the weight's name: float32 [n, features or channels, ...].

    In evaluation mode and without autocast. A weight that is used k times gives k n rows, use after use; one
    that is never used is left out.

    Args:
        module: a classifier of uint8 pictures.
        images: [n, channels, height, width] on the module's device.
    """
    names = {id(weight.parameter): weight.name for weight in weight_tensors(module)}
    seen: dict[str, list[Tensor]] = {}

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # a copy: later operations may write into their input
        given = (args[0] if args else kwargs["input"]).detach().float().clone()
        seen.setdefault(names[id(layer.weight)], []).append(given)

    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, LAYERS) and id(layer._parameters.get("weight")) in names
    ]
    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        with _as_measured(module, images.device), torch.no_grad():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def gradients(module: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of the mean cross-entropy over these pictures for every weight, by name, in the weight's shape.

    In evaluation mode and float32; the module's own gradients stay as they are.

    Args:
        module: a classifier of uint8 pictures.
        images: [n, channels, height, width] on the module's device.
        labels: integers, [n].
    """
    weights = weight_tensors(module)
    with _as_measured(module, images.device), torch.enable_grad():
        loss = cross_entropy(module(images), labels)
        found = torch.autograd.grad(loss, [weight.parameter for weight in weights], allow_unused=True)
    pairs = zip(weights, found, strict=True)
    return {weight.name: gradient for weight, gradient in pairs if gradient is not None}


@contextmanager
def _as_measured(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, exact kernels, no autocast; afterwards each part is in the mode it was in."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with exact_kernels(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for part, mode in training.items():
            part.training = mode
