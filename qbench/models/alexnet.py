"""AlexNet."""

from functools import partial
from typing import final

from pydantic import Field
from torch import nn

from ..components import Model, Parameters
from .small_form import he_normal, small_form

_POOLINGS = (2, 5, 12)


class AlexNetParameters(Parameters):
    width: int = Field(64, ge=1, le=4096, description="channels of the first convolution")
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of a hidden linear layer's inputs that is dropped"
    )


@final
class AlexNet(Model):
    """Torchvision's ``alexnet`` for small pictures: a 3x3 stem of stride 1, poolings with padding 1, no resizing.

    Five convolutions with width, 3, 6, 4 and 4 width channels, two hidden linear layers of 64 width units. Each of
    the three overlapping 3x3 max poolings halves the picture, rounded up: 32x32 and 28x28 become 4x4, 8x8 becomes
    1x1. He-normal weights. Pictures of any size.
    """

    name = "alexnet"
    reference = (
        "Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, 2012; "
        "channels: Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014"
    )

    Parameters = AlexNetParameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        from torchvision.models import alexnet

        channels, height, width = shape
        definition = partial(alexnet, dropout=self.parameters.dropout)
        network = small_form(
            definition, "features.0", "classifier.6", channels, classes, self.parameters.width
        )
        for position in _POOLINGS:
            network.set_submodule(f"features.{position}", nn.MaxPool2d(3, stride=2, padding=1))
        network.avgpool = nn.Identity()
        features = 4 * self.parameters.width * -(-height // 8) * -(-width // 8)
        network.set_submodule("classifier.1", nn.Linear(features, 64 * self.parameters.width))
        return he_normal(network)
