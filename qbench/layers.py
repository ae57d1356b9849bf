"""Walking a network: which tensors are weights, and putting others in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import InputError

LayerKind = Literal["linear", "conv"]
_KINDS: tuple[tuple[type[nn.Module], LayerKind], ...] = (
    (nn.Linear, "linear"),
    (nn.Conv1d, "conv"),
    (nn.Conv2d, "conv"),
    (nn.Conv3d, "conv"),
)
LAYERS: tuple[type[nn.Module], ...] = tuple(base for base, _ in _KINDS)


@dataclass(frozen=True)
class Weight:
    """A layer's weight, output channels first: [out, in] or [out, in / groups, *kernel]."""

    name: str
    parameter: nn.Parameter
    kind: LayerKind


def weight_tensors(module: nn.Module) -> list[Weight]:
    """The weights of linear and convolutional layers in the order the layers were defined: first layer first.

    A weight that several layers share appears once, under its first name; biases and normalization do not.
    """
    found: dict[int, Weight] = {}
    for prefix, layer in module.named_modules():
        parameter = layer._parameters.get("weight")
        kind = next((kind for base, kind in _KINDS if isinstance(layer, base)), None)
        if kind is not None and parameter is not None:
            name = f"{prefix}.weight" if prefix else "weight"
            found.setdefault(id(parameter), Weight(name, parameter, kind))
    return list(found.values())


@contextmanager
def swapped_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block the named parameters have other values; afterwards the very same storage is back.

    Args:
        tensors: parameter name -> values of the parameter's shape, from any device and of any dtype.

    Raises:
        InputError: no parameter has that name, or the shapes differ; nothing was changed then.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    replacements = {name: _fitting(name, tensor, parameters) for name, tensor in tensors.items()}
    originals = {name: parameters[name].data for name in replacements}
    try:
        for name, replacement in replacements.items():
            parameters[name].data = replacement
        yield
    finally:
        for name, original in originals.items():
            parameters[name].data = original


def _fitting(name: str, tensor: Tensor, parameters: Mapping[str, nn.Parameter]) -> Tensor:
    if name not in parameters:
        raise InputError(f"the network has no parameter {name!r}; it has {', '.join(parameters)}")
    target = parameters[name].data
    if tensor.shape != target.shape:
        raise InputError(f"parameter {name!r} has shape {tuple(target.shape)}, not {tuple(tensor.shape)}")
    # The target's memory format is kept: another one may add in another order.
    return torch.empty_like(target).copy_(tensor)


def unfolded(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's input as the vectors that its weight multiplies: [groups, positions, inputs of a group * kernel].

    Of a linear layer every vector along the last axis is a position; of a convolution every place of the kernel
    in every picture, with its stride, padding and dilation. Within a vector the order is that of the weight.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    axes = len(layer.kernel_size)
    patches = _padded(layer, x)
    for axis in range(axes):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        patches = patches.unfold(2 + axis, reach, layer.stride[axis])[..., :: layer.dilation[axis]]
    positions, kernel = range(2, 2 + axes), range(2 + axes, 2 + 2 * axes)
    moved = patches.permute(1, 0, *positions, *kernel)
    split = moved.reshape(layer.groups, -1, *moved.shape[1:]).movedim(1, 2 + axes)
    return split.reshape(layer.groups, x.shape[0] * moved[0, 0].shape[:axes].numel(), -1)


def _padded(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    widths: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):
        whole = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        if layer.padding == "same":
            widths += [whole // 2, whole - whole // 2]
        else:
            widths += [0, 0] if layer.padding == "valid" else 2 * [int(layer.padding[axis])]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(x, widths, mode=mode)
