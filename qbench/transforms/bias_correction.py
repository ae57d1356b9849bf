"""The mean error that quantization causes at the output of each layer, taken out of its bias."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor, nn

from ..classifier import exact_kernels
from ..components import Transform
from ..layers import LAYERS

Hook = Callable[[str, nn.Module, Tensor], Tensor | None]


@final
class BiasCorrection(Transform):
    """``b' = b - (E[y~] - E[y])`` per output channel, y and y~ a layer's output before and after quantization.

    Means are over the calibration inputs and all positions; y~ is what the layers before it, quantized and already
    corrected, make of them. A layer without a bias gets one where the means differ. A layer that is
    used several times is corrected at its first use. All inputs are run at once.

    Reference: Nagel, van Baalen, Blankevoort, Welling 2019, "Data-Free Quantization Through Weight Equalization
    and Bias Correction", eq. 1 and section 4.2, with the means measured as in appendix D.
    """

    name = "bias-correction"
    reference = "Nagel et al. 2019, eq. 1 and appendix D (arXiv:1906.04721)"
    stage = "after"
    calibrated = True

    def apply(self, module: nn.Module, *, calibration: Tensor, original: nn.Module) -> nn.Module:
        means: dict[str, Tensor] = {}
        changed, corrected = deepcopy(module).eval(), set[str]()

        def note(name: str, layer: nn.Module, output: Tensor) -> None:
            means.setdefault(name, _channel_means(layer, output))

        def correct(name: str, layer: nn.Module, output: Tensor) -> Tensor | None:
            if name in corrected:
                return None
            corrected.add(name)
            error = (_channel_means(layer, output) - means[name]).to(output.dtype)
            if not bool(error.any()):
                return None
            bias = layer._parameters.get("bias")
            layer.bias = nn.Parameter(-error if bias is None else bias.detach() - error)
            return output - error.view(_broadcast_shape(layer, output))

        for network, hook in ((deepcopy(original).eval(), note), (changed, correct)):
            with _at_outputs(network, hook), exact_kernels(), torch.no_grad():
                network(calibration)
        return changed


@contextmanager
def _at_outputs(module: nn.Module, hook: Hook) -> Iterator[None]:
    """Within the block ``hook`` sees, and may replace, the output of every linear and convolutional layer."""

    def named(name: str) -> Callable[..., Any]:
        return lambda layer, inputs, output: hook(name, layer, output)

    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, LAYERS)]
    handles = [layer.register_forward_hook(named(name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _channel_axis(layer: nn.Module, output: Tensor) -> int:
    """Of a linear layer the last axis, of a convolution the one before its spatial axes."""
    return (
        output.dim() - 1
        if isinstance(layer, nn.Linear)
        else output.dim() + 1 - layer.get_parameter("weight").dim()
    )


def _channel_means(layer: nn.Module, output: Tensor) -> Tensor:
    """[channels], in float64."""
    return output.double().movedim(_channel_axis(layer, output), 0).flatten(1).mean(1)


def _broadcast_shape(layer: nn.Module, output: Tensor) -> tuple[int, ...]:
    """The shape in which a vector of channels is added to the output."""
    after = output.dim() - 1 - _channel_axis(layer, output)
    return (-1, *(1 for _ in range(after)))
