"""DenseNet-121."""

from typing import final

from pydantic import Field
from torch import nn

from ..components import Model, Parameters
from ..errors import ParameterError
from .small_form import he_normal, small_form


class DenseNet121Parameters(Parameters):
    width: int = Field(
        64, ge=2, le=4096, multiple_of=2, description="channels of the stem, twice the growth rate"
    )


@final
class DenseNet121(Model):
    """Torchvision's ``densenet121`` for small pictures: a 3x3 stem of stride 1, no max pooling after it.

    Four dense blocks of 6, 12, 24 and 16 layers that each add width / 2 channels; between them the channels and
    the picture are halved: 32x32 becomes 4x4, 28x28 becomes 3x3, 8x8 becomes 1x1. He-normal weights.
    """

    name = "densenet121"
    reference = (
        "Huang, Liu, van der Maaten, Weinberger, Densely connected convolutional networks, 2017, table 1"
    )

    Parameters = DenseNet121Parameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """As :meth:`qbench.components.Model.build`.

        Raises:
            ParameterError: pictures of fewer than 8 x 8 pixels.
        """
        from torchvision.models import densenet121

        channels, height, width = shape
        if min(height, width) < 8:
            raise ParameterError(
                f"model 'densenet121' needs pictures of 8x8 pixels or more, not {height}x{width}; use resnet18 or mlp"
            )
        network = small_form(
            densenet121, "features.conv0", "classifier", channels, classes, self.parameters.width
        )
        network.set_submodule("features.pool0", nn.Identity())
        return he_normal(network)
