"""GoogLeNet, the first Inception network."""

from functools import partial
from typing import final

from pydantic import Field
from torch import nn

from ..components import Model, Parameters
from ..errors import ParameterError
from .small_form import he_normal, small_form


class GoogLeNetParameters(Parameters):
    width: int = Field(64, ge=8, le=4096, multiple_of=8, description="channels of the first convolution")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the last layer's inputs that is dropped")


@final
class GoogLeNet(Model):
    """Torchvision's ``googlenet`` for small pictures: a 3x3 stem of stride 1, no max pooling before the modules.

    Nine Inception modules, batch-normalized, with the published channels times width / 64, and no auxiliary
    classifiers; the picture is halved before the third and the eighth: 32x32 becomes 8x8, 28x28 becomes 7x7, 8x8
    becomes 2x2. He-normal weights.
    """

    name = "googlenet"
    reference = "Szegedy et al., Going deeper with convolutions, 2015, table 1"

    Parameters = GoogLeNetParameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """As :meth:`qbench.components.Model.build`.

        Raises:
            ParameterError: pictures of fewer than 2 x 2 pixels.
        """
        from torchvision.models import googlenet

        channels, height, width = shape
        if min(height, width) < 2:
            raise ParameterError(
                f"model 'googlenet' needs pictures of 2x2 pixels or more, not {height}x{width}; use mlp"
            )
        definition = partial(googlenet, aux_logits=False, init_weights=False, dropout=self.parameters.dropout)
        network = small_form(definition, "conv1.conv", "fc", channels, classes, self.parameters.width)
        network.maxpool1 = network.maxpool2 = nn.Identity()
        return he_normal(network)
