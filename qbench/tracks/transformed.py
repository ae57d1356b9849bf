"""A network as transforms change it, before and after its weights are quantized."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..components import Transform
from ..errors import PluginError
from ..layers import swapped_weights
from .weights import CodedWeight


def transformed(module: nn.Module, transforms: Sequence[Transform], images: Tensor) -> nn.Module:
    """The network whose weights are to be quantized; ``module`` itself where no transform comes before that.

    Args:
        module: the float network; it is not changed.
        images: calibration pictures, for transforms that look at them.
    """
    for transform in transforms:
        if transform.stage == "before":
            module = transform.apply(module, calibration=_shown(transform, images), original=module)
    return module


@contextmanager
def stored(
    network: nn.Module, quantized: Sequence[CodedWeight], transforms: Sequence[Transform], images: Tensor
) -> Iterator[nn.Module]:
    """Within the block the network that its bytes stand for: weights decoded, transforms applied that come after.

    Raises:
        PluginError: a transform changed, renamed or removed a quantized weight.
    """
    later = [transform for transform in transforms if transform.stage == "after"]
    original = deepcopy(network) if later else network
    with swapped_weights(network, {q.weight.name: q.decoded for q in quantized}):
        module = network
        for transform in later:
            module = transform.apply(module, calibration=_shown(transform, images), original=original)
            _require_quantized(module, quantized, transform)
        yield module


def _shown(transform: Transform, images: Tensor) -> Tensor:
    return images if transform.calibrated else images[:0]


def _require_quantized(module: nn.Module, quantized: Sequence[CodedWeight], transform: Transform) -> None:
    """What is counted as bytes is what the network holds."""
    held = dict(module.named_parameters(remove_duplicate=False))
    for q in quantized:
        weight = held.get(q.weight.name)
        if weight is None or not torch.equal(weight, q.weight.parameter):
            raise PluginError(
                f"after {transform} the quantized weight {q.weight.name} is not what its bytes say; a transform "
                "of stage 'after' must leave quantized weights as they are"
            )
