"""A Vision Transformer."""

from typing import Self, final

from pydantic import Field, model_validator
from torch import nn

from ..components import Model, Parameters
from ..errors import ParameterError
from .attention import Attention, require_whole_heads


class VitParameters(Parameters):
    width: int = Field(192, ge=1, le=65536, description="features of a token")
    depth: int = Field(6, ge=1, le=256, description="encoder blocks")
    heads: int = Field(3, ge=1, le=256, description="heads of an attention")
    patch: int = Field(
        4, ge=1, le=256, description="side of a patch in pixels, at most a quarter of a picture's"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of a block's features that is dropped")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        require_whole_heads(self.width, self.heads)
        return self


@final
class Vit(Model):
    """Torchvision's ``VisionTransformer``: patches and a class token with learned positions, then ``depth`` blocks.

    A block is attention and a hidden layer of 4 width GELU units, each after a LayerNorm and added to its input.
    32x32 is 8x8 patches of 4 pixels a side, 28x28 is 7x7, 8x8 is 4x4 patches of 2. Attention is
    :class:`qbench.models.attention.Attention`. Weights start Xavier-uniform, the last layer's at zero.
    """

    name = "vit"
    reference = "Dosovitskiy et al., An image is worth 16x16 words, 2021, equations 1-4"

    Parameters = VitParameters

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """As :meth:`qbench.components.Model.build`.

        Raises:
            ParameterError: pictures that are no squares of whole patches, or of fewer than 4 x 4 pixels.
        """
        from torchvision.models import VisionTransformer

        values = self.parameters
        patch = _patch(shape, values.patch)
        network: nn.Module = VisionTransformer(
            image_size=shape[1],
            patch_size=patch,
            num_layers=values.depth,
            num_heads=values.heads,
            hidden_dim=values.width,
            mlp_dim=4 * values.width,
            dropout=values.dropout,
            num_classes=classes,
        )
        network.conv_proj = _projection(shape[0], values.width, patch)
        for name, layer in list(network.named_modules()):
            if isinstance(layer, nn.MultiheadAttention):
                network.set_submodule(name, Attention(values.width, values.heads))
        return network


def _patch(shape: tuple[int, ...], most: int) -> int:
    side = min(most, shape[1] // 4)
    if shape[1] != shape[2] or side < 1 or shape[1] % side:
        raise ParameterError(
            f"model 'vit' needs square pictures of 4x4 pixels or more, a whole number of patches a side, not "
            f"{shape[1]}x{shape[2]} with patches of {max(side, 1)}; change patch={most}, or use resnet18"
        )
    return side


def _projection(channels: int, width: int, patch: int) -> nn.Conv2d:
    """LeCun-normal, as torchvision's."""
    layer = nn.Conv2d(channels, width, patch, stride=patch)
    nn.init.trunc_normal_(layer.weight, std=(channels * patch * patch) ** -0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
