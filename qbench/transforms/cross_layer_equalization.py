"""Ranges of successive layers made equal, channel by channel."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ..components import Transform
from ..layers import LAYERS
from .graph import Graph

_SWEEPS = 1000
_CONVERGED = 1e-4

Step = Literal["pointwise", "pool", "flatten"]

_MODULES: Mapping[type[nn.Module], Step] = {
    **dict.fromkeys((nn.ReLU, nn.LeakyReLU, nn.Identity), "pointwise"),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), "pointwise"),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), "pool"),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), "pool"),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), "pool"),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), "pool"),
    nn.Flatten: "flatten",
}
_FUNCTIONS: Mapping[Any, Step] = {
    **dict.fromkeys((torch.relu, torch.relu_, functional.relu, functional.leaky_relu), "pointwise"),
    **dict.fromkeys(("relu", "relu_"), "pointwise"),
    **dict.fromkeys((functional.max_pool2d, torch.max_pool2d), "pool"),
    **dict.fromkeys((functional.avg_pool2d, functional.adaptive_avg_pool2d), "pool"),
    **dict.fromkeys((torch.flatten, "flatten"), "flatten"),
}


@final
class CrossLayerEqualization(Transform):
    """Output channel i of a layer is divided by s_i, and input channel i of the next layer multiplied by it.

    ``s_i = sqrt(r_i r'_i) / r'_i`` with r_i and r'_i the largest magnitudes of that channel's weights in the two
    layers, which then are both sqrt(r_i r'_i). All pairs in turn, until no scale differs from 1 by more than 1e-4.

    Pairs are convolutions or linear layers, the second the only reader of the first through ReLU, leaky ReLU,
    dropout, pooling and flattening: whatever keeps channels apart and f(s x) = s f(x) for s > 0. Others stay.
    Channels without weights on either side stay too. Batch normalization between two layers is folded first.

    Raises:
        InputError: torch.fx cannot trace the network.

    Reference: Nagel, van Baalen, Blankevoort, Welling 2019, "Data-Free Quantization Through Weight Equalization
    and Bias Correction", eq. 9-11; biases are not absorbed (section 4.1.3).
    """

    name = "cross-layer-equalization"
    reference = "Nagel et al. 2019, eq. 9-11 (arXiv:1906.04721)"
    stage = "before"

    def apply(self, module: nn.Module, *, calibration: Tensor, original: nn.Module) -> nn.Module:
        changed = deepcopy(module).eval()
        layers: dict[nn.Module, dict[str, Tensor]] = {}
        pairs = [_Pair.of(layers, *joined) for joined in _joined_layers(Graph(changed, self))]
        for _ in range(_SWEEPS):
            if max((pair.equalize() for pair in pairs), default=0.0) <= _CONVERGED:
                break
        for layer, tensors in layers.items():
            for name, values in tensors.items():
                layer.get_parameter(name).data.copy_(values)
        return changed


@dataclass(frozen=True)
class _Pair:
    """Views in float64: [channels, ...], [channels], [groups, out / groups, channels / groups, ...]."""

    weight: Tensor
    bias: Tensor | None
    reader: Tensor

    @classmethod
    def of(cls, layers: dict[nn.Module, dict[str, Tensor]], first: nn.Module, second: nn.Module) -> "_Pair":
        for layer in (first, second):
            layers.setdefault(
                layer,
                {name: x.detach().double().contiguous() for name, x in layer.named_parameters(recurse=False)},
            )
        weight, reader = layers[first]["weight"], layers[second]["weight"]
        groups = int(getattr(second, "groups", 1))
        view = reader.view(groups, reader.shape[0] // groups, weight.shape[0] // groups, -1)
        return cls(weight.view(weight.shape[0], -1), layers[first].get("bias"), view)

    def equalize(self) -> float:
        """Scale both sides; how far the scales were from 1."""
        range_, other = self.weight.abs().amax(1), self.reader.abs().amax((1, 3)).reshape(-1)
        alive = (range_ > 0) & (other > 0)
        scale = torch.where(alive, (range_ * other).sqrt() / torch.where(alive, other, 1.0), 1.0)
        self.weight.div_(scale[:, None])
        if self.bias is not None:
            self.bias.div_(scale)
        self.reader.mul_(scale.view(len(self.reader), 1, -1, 1))
        return float((scale - 1).abs().max())


def _joined_layers(graph: Graph) -> Iterator[tuple[nn.Module, nn.Module]]:
    for node in graph.nodes:
        first = graph.changeable(node, LAYERS)
        at, met = node, set[Step]()
        while first is not None and len(at.users) == 1:
            at = next(iter(at.users))
            second, step = graph.changeable(at, LAYERS), _step(graph, at)
            if second is not None and _channels_meet(first, second, met):
                yield first, second
            if second is not None or step is None:
                break
            met.add(step)


def _step(graph: Graph, node: fx.Node) -> Step | None:
    """What an operation between two layers does; None where it may mix channels or is not homogeneous."""
    module = graph.module(node)
    if module is None and node.target is functional.dropout:
        return "pointwise" if node.kwargs.get("training") is False else None
    step = _FUNCTIONS.get(node.target) if module is None else _MODULES.get(type(module))
    if step != "flatten":
        return step
    start = module.start_dim if module is not None else node.kwargs.get("start_dim", (*node.args, 0)[1])
    end = module.end_dim if module is not None else node.kwargs.get("end_dim", (*node.args, -1, -1)[2])
    return step if (start, end) == (1, -1) else None


def _channels_meet(first: nn.Module, second: nn.Module, met: set[Step]) -> bool:
    """Whether what the second layer reads is, channel by channel, what the first one writes."""
    channels = first.get_parameter("weight").shape[0]
    if isinstance(first, nn.Linear):
        return isinstance(second, nn.Linear) and second.in_features == channels and "pool" not in met
    if isinstance(second, nn.Linear):
        return "flatten" in met and second.in_features % channels == 0
    return "flatten" not in met and bool(second.in_channels == channels)
