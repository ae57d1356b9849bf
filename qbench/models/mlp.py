"""A multilayer perceptron."""

from typing import final

from pydantic import Field
from torch import nn

from ..components import Model, Parameters


class MlpParameters(Parameters):
    width: int = Field(256, ge=1, le=65536, description="units of a hidden layer")
    depth: int = Field(5, ge=0, le=256, description="hidden layers")


@final
class Mlp(Model):
    """``depth`` hidden layers of ``width`` rectified linear units, then a linear layer.

    Weights start He-normal, biases at zero.
    """

    name = "mlp"
    reference = "He, Zhang, Ren, Sun, Delving deep into rectifiers, 2015, equation 10 (initialization)"

    Parameters = MlpParameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        features = shape[0] * shape[1] * shape[2]
        for _ in range(self.parameters.depth):
            layers += [_linear(features, self.parameters.width), nn.ReLU()]
            features = self.parameters.width
        return nn.Sequential(*layers, _linear(features, classes))


def _linear(features: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(features, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer
