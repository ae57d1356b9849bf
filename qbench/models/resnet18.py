"""ResNet-18."""

from typing import final

from pydantic import Field
from torch import nn

from ..components import Model, Parameters
from .small_form import he_normal, small_form


class ResNet18Parameters(Parameters):
    width: int = Field(64, ge=1, le=4096, description="channels of the first stage")


@final
class ResNet18(Model):
    """Torchvision's ``resnet18`` for small pictures: a 3x3 stem of stride 1, no max pooling after it.

    Four stages of two basic blocks with width, 2 width, 4 width and 8 width channels; the last three halve the
    picture: 32x32 becomes 4x4, 28x28 too, 8x8 becomes 1x1. He-normal weights. Pictures of any size.
    """

    name = "resnet18"
    reference = (
        "He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2016, table 1 and section 4.2"
    )

    Parameters = ResNet18Parameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        from torchvision.models import resnet18

        network = small_form(resnet18, "conv1", "fc", shape[0], classes, self.parameters.width)
        network.maxpool = nn.Identity()
        return he_normal(network)
