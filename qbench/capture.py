"""What flows through a network: the inputs of its layers and the gradients of its weights and outputs."""

from collections.abc import Callable, Iterator
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


def output_gradients(module: nn.Module, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """The gradient of a loss for the output of every layer that has a weight, by the weight's name.

    Float32 [features or channels, n * positions], for what the layer gives away itself, before any activation; zeros
    where the loss does not depend on it. A weight that is used k times has k n * positions columns, use after use; one
    that is never used is left out. The module's mode and gradients stay as they are.

    Args:
        module: the network.
        loss: runs it on a batch.
    """
    names = {id(weight.parameter): weight.name for weight in weight_tensors(module)}
    seen: list[tuple[str, int, Tensor]] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        channels = -1 if isinstance(layer, nn.Linear) else 1
        seen.append((names[id(layer.weight)], channels, output))
        # a copy goes on: later operations may write into their input
        return output.clone()

    layers = [
        x for x in module.modules() if isinstance(x, LAYERS) and id(x._parameters.get("weight")) in names
    ]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            found = torch.autograd.grad(loss(), [output for *_, output in seen], allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    parts: dict[str, list[Tensor]] = {name: [] for name in names.values()}
    for (name, channels, output), gradient in zip(seen, found, strict=True):
        whole = torch.zeros_like(output) if gradient is None else gradient
        parts[name].append(whole.detach().float().movedim(channels, 0).flatten(1))
    return {name: torch.cat(some, 1) for name, some in parts.items() if some}


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


def random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """What the CPU and that device, if it is a GPU, draw from next."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def left_alone(module: nn.Module, random: tuple[Tensor, Tensor | None]) -> Iterator[None]:
    """Within the block random numbers are drawn from that state; afterwards they and all buffers are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    device = next(module.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(random[0])
        if random[1] is not None:
            torch.cuda.set_rng_state(random[1], device)
        yield
    for buffer, value in buffers:
        buffer.copy_(value)
