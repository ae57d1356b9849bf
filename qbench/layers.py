"""Walking a network: which tensors are weights, and putting others in their place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .errors import InputError

LayerKind = Literal["linear", "conv"]
_KINDS: tuple[tuple[type[nn.Module], LayerKind], ...] = (
    (nn.Linear, "linear"),
    (nn.Conv1d, "conv"),
    (nn.Conv2d, "conv"),
    (nn.Conv3d, "conv"),
)


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
