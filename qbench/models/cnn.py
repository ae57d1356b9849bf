"""A small convolutional network."""

from typing import final

from pydantic import Field
from torch import nn

from ..components import Model, Parameters
from ..errors import ParameterError


class CnnParameters(Parameters):
    width: int = Field(32, ge=1, le=4096, description="channels of the first stage")


@final
class Cnn(Model):
    """Twice (3x3 convolution, batch normalization, ReLU) x 2 and 2x2 max pooling, then a linear layer.

    The first stage has ``width`` channels, the second ``2 width``; He-normal weights.
    """

    name = "cnn"
    reference = "Simonyan, Zisserman 2014, section 2; Ioffe, Szegedy, Batch normalization, 2015"

    Parameters = CnnParameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """As :meth:`qbench.components.Model.build`.

        Raises:
            ParameterError: pictures of fewer than 4 x 4 pixels.
        """
        channels, height, width = shape
        if min(height, width) < 4:
            raise ParameterError(
                f"model 'cnn' needs pictures of 4x4 pixels or more, not {height}x{width}; use mlp"
            )
        first, second = self.parameters.width, 2 * self.parameters.width
        features = second * (height // 4) * (width // 4)
        stages = (*_stage(channels, first), *_stage(first, second))
        return nn.Sequential(*stages, nn.Flatten(), nn.Linear(features, classes))


def _stage(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (*_block(inputs, outputs), *_block(outputs, outputs), nn.MaxPool2d(2))


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
