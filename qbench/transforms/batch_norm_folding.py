"""Batch normalization becomes part of the layer before it."""

from copy import deepcopy
from typing import final

from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ..components import Transform
from ..layers import LAYERS
from .graph import Graph

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@final
class BatchNormFolding(Transform):
    """A convolution or linear layer that feeds a batch normalization, and nothing else, takes it over.

    ``w' = gamma w / sqrt(var + eps)``, ``b' = gamma (b - mean) / sqrt(var + eps) + beta`` per output channel, with the
    running mean and variance. The normalization is replaced by the identity. One that comes before a layer, or
    after a layer that is used twice or shares its weight, stays; of linear layers with more than two dimensions the
    last must be the normalized one.

    Raises:
        InputError: torch.fx cannot trace the network.

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", eq. 14; Krishnamoorthi 2018, section 3.2.
    """

    name = "batch-norm-folding"
    reference = "Jacob et al. 2018, eq. 14 (arXiv:1712.05877)"
    stage = "before"

    def apply(self, module: nn.Module, *, calibration: Tensor, original: nn.Module) -> nn.Module:
        changed = deepcopy(module).eval()
        graph = Graph(changed, self)
        for node in graph.nodes:
            for fused, before in _fused(graph, node):
                changed.set_submodule(str(before.target), fused)
                changed.set_submodule(str(node.target), nn.Identity())
        return changed


def _fused(graph: Graph, node: fx.Node) -> list[tuple[nn.Module, fx.Node]]:
    """The layer that a normalization becomes part of, changed, and where it is; nothing where there is none."""
    norm = graph.changeable(node, _NORMS)
    before = node.all_input_nodes[0] if norm is not None else node
    layer = graph.changeable(before, LAYERS)
    if norm is None or layer is None or len(before.users) > 1 or norm.running_var is None:
        return []
    if not isinstance(layer, nn.Linear):
        return [(fuse_conv_bn_eval(layer, norm), before)]  # type: ignore[type-var, arg-type]
    return [(fuse_linear_bn_eval(layer, norm), before)] if norm.affine else []  # type: ignore[arg-type]
