"""torchao's own schemes, put into a copy of a network, and what they store."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.layers import Weight, weight_tensors

Scheme = Literal["float32", "int8-weight-only", "int8-dynamic", "float8-dynamic"]
FLOAT8_CAPABILITY = (8, 9)


def quantized(module: nn.Module, scheme: Scheme) -> nn.Module:
    """A copy of ``module`` whose linear layers torchao runs in that scheme; a plain copy for ``float32``.

    Raises:
        InputError: the device cannot run it, or torchao changes no layer of this network.
    """
    changed = deepcopy(module)
    if scheme == "float32":
        return changed
    _require_device(scheme, next(module.parameters()).device)
    from torchao.quantization import quantize_

    quantize_(changed, _config(scheme))
    if not native_weights(changed):
        raise InputError(
            f"torchao changes no layer of this network for scheme={scheme}: it acts on linear layers alone, and for "
            "float8 on those whose sides are multiples of 16; name a model with such layers, mlp for instance"
        )
    return changed


def _require_device(scheme: Scheme, device: torch.device) -> None:
    if scheme != "float8-dynamic":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FLOAT8_CAPABILITY:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the {device.type}"
        raise InputError(
            f"scheme={scheme} needs a GPU that multiplies float8 (compute capability 8.9 or more: Ada, Hopper and "
            f"later), and this cell runs on {name}; run it there, or choose int8-dynamic"
        )


def _config(scheme: Scheme) -> Any:
    """torchao's configuration, its defaults but one: a cell must not change the settings of its process."""
    from torchao import quantization

    configs = {
        "int8-weight-only": quantization.Int8WeightOnlyConfig,
        "int8-dynamic": quantization.Int8DynamicActivationInt8WeightConfig,
        "float8-dynamic": quantization.Float8DynamicActivationFloat8WeightConfig,
    }
    return configs[scheme](set_inductor_config=False)


def native_weights(module: nn.Module) -> list[Weight]:
    """The weights that torchao holds in its own form."""
    return [weight for weight in weight_tensors(module) if _parts(weight.parameter)]


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storage behind ``tensors``, each once.

    The ``nbytes`` of a torchao tensor is that of the float tensor it stands for; what it holds are its parts.
    """
    distinct = {id(tensor): tensor for tensor in tensors}.values()
    return sum(_held(tensor) for tensor in distinct)


def _held(tensor: Tensor) -> int:
    parts = _parts(tensor)
    return sum(map(_held, parts)) if parts else tensor.nbytes


def _parts(tensor: Tensor) -> list[Tensor]:
    flatten = getattr(tensor, "__tensor_flatten__", None)
    return [getattr(tensor, name) for name in flatten()[0]] if flatten else []
