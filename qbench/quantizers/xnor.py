"""XNOR-Net: signs with a scale for each filter, sample or position, and products by exclusive or and bit count."""

from typing import Literal, Self, final

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ..autograd import straight_through
from ..components import Context, Parameters, Quantizer, Trainable
from ..errors import InputError
from ..message import Message, Stream
from .reading import values
from .scaling import Layout, load_scale, store_scale

_CHUNK_BYTES = 2**22


class XNORParameters(Parameters):
    granularity: Literal["tensor", "channel", "position"] = Field(
        "channel", description="which elements share a scale"
    )
    window: int = Field(
        1, ge=1, le=15, description="side of the square of positions a scale is averaged over; odd"
    )

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> Self:
        if self.window % 2 == 0 or (self.window > 1 and self.granularity != "position"):
            raise ValueError("a window is 1, 3, 5, ...; other than 1 needs granularity=position")
        return self


@final
class XNOR(Quantizer, Trainable):
    """``x^ = a sign(x)``, sign(0) = 1, where a = mean |x| belongs to the tensor being coded and travels with its signs.

    - channel: alpha, one for each index of the first axis, such as the filters of a weight;
    - tensor: beta, one for a message, such as a sample;
    - position: K of [channels, ..., height, width]: the mean over channels, averaged over window x window
      positions (those inside the picture), [..., height, width]. With fewer than three dimensions there are no
      positions: that is channel.

    ``binary`` has a codebook, fitted once; here ``scale``, float16, is decided for each message and always counts, and
    the product of two messages is :func:`packed_product`.

    In training the gradient is the paper's, element by element: ``dx^/dx = 1/n + a`` where |x| <= 1, else 1/n, for n
    elements that share a; x in the core's units. There is no codebook to learn.

    Reference: Rastegari et al. 2016, "XNOR-Net", eq. 4 to 11; the gradient in section 3.1.
    """

    name = "xnor"
    family = "binary"
    reference = "Rastegari et al. 2016, eq. 4-11 (arXiv:1603.05279)"
    targets = ("source", "weight", "activation")
    Parameters = XNORParameters
    sweep = ({"granularity": "channel"}, {"granularity": "position", "window": 3})

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"codes": Stream(x >= 0, 2), "scale": store_scale(self._scale(x), "float16")}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        signs = 2.0 * values(codes, "codes").reshape(shape) - 1.0
        return signs * self._spread(load_scale(values(codes, "scale")), shape)

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        with torch.no_grad():
            codes = self.encode(x.detach(), codebook, context=context)
            scale = self._spread(load_scale(values(codes, "scale")), x.shape)
            slope = 1 / self._sharing(x) + scale * (x.abs() <= 1)
        return straight_through(slope * x, self.decode(codes, codebook, x.shape))

    def _positions(self, shape: torch.Size) -> bool:
        return self.parameters.granularity == "position" and len(shape) > 2

    @property
    def _layout(self) -> Layout:
        return Layout("tensor" if self.parameters.granularity == "tensor" else "channel")

    def _scale(self, x: Tensor) -> Tensor:
        if not self._positions(x.shape):
            return self._layout.means(x.abs())
        window = self.parameters.window
        means = x.abs().mean(0)
        maps = means.reshape(-1, 1, *means.shape[-2:])
        pooled = F.avg_pool2d(maps, window, stride=1, padding=window // 2, count_include_pad=False)
        return pooled.reshape(means.shape)

    def _spread(self, scale: Tensor, shape: torch.Size) -> Tensor:
        """The scale of every element, in a shape that broadcasts to ``shape``."""
        if self._positions(shape):
            return scale.reshape(1, *shape[1:])
        return scale.reshape(-1, *[1] * (len(shape) - 1)) if len(shape) else scale.reshape(())

    def _sharing(self, x: Tensor) -> int:
        """How many elements share a scale."""
        if self._positions(x.shape):
            return int(x.shape[0] * self.parameters.window**2)
        return self._layout.split(x).shape[1]


def packed_signs(x: Tensor) -> Tensor:
    """The signs of ``x`` [..., n] as bits, [..., ceil(n / 8)], uint8: 1 where x >= 0; bits left over are 0."""
    return _octets((x >= 0).to(torch.uint8))


def packed_dot(a: Tensor, b: Tensor) -> Tensor:
    """``sign(a) sign(b)^T``, [m, k], float32, of floats [m, n] and [k, n], from 1 bit per element; sign(0) = 1.

    Two signs agree where the exclusive or of their bits is 0: ``dot = n - 2 popcount(a xor b)``. Sums of signs are
    integers, so up to n = 2^24 it equals the float product bit for bit, in whatever order that is summed.

    Raises:
        InputError: not two matrices with rows of one length, at most 2^24.

    Reference: Rastegari et al. 2016, "XNOR-Net", section 3.2 and eq. 11.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1] or a.shape[1] > 2**24:
        raise InputError(
            f"packed_dot: shapes {tuple(a.shape)} and {tuple(b.shape)}; give [m, n] and [k, n] with n <= 2^24"
        )
    return _agreement(packed_signs(a), packed_signs(b), a.shape[1])


def packed_product(inputs: Message, weights: Message, features: int) -> Tensor:
    """``x W^T``, [samples, outputs], of two messages of :class:`XNOR`, neither of them decoded.

    The bits of both are multiplied as in :func:`packed_dot`, exactly; then come the scales of samples and outputs:
    ``beta_i alpha_j (n - 2 popcount)``. A whole layer, for inputs [samples, n] and weights [outputs, n].

    Args:
        inputs: codes by channel (a scale for each sample) or by tensor.
        weights: codes by channel (a scale for each output) or by tensor.
        features: n, at most 2^24.

    Raises:
        InputError: messages that are not rows of n signs with one scale each, or one for all.
    """
    rows = [
        _sign_rows(message, features, which) for message, which in ((inputs, "inputs"), (weights, "weights"))
    ]
    (left, beta), (right, alpha) = rows
    return _agreement(left, right, features) * beta[:, None] * alpha


def _sign_rows(message: Message, features: int, which: str) -> tuple[Tensor, Tensor]:
    """Octets [rows, ceil(n / 8)] and scales [rows] or [1]."""
    bits, scale = values(message, "codes"), load_scale(values(message, "scale"))
    if (
        not 1 <= features <= 2**24
        or bits.numel() % features
        or scale.numel() not in (1, bits.numel() // features)
    ):
        raise InputError(
            f"packed_product: {bits.numel()} signs with {scale.numel()} scales are no {which} of {features} features; "
            "code [rows, features] with granularity=channel or tensor, features at most 2^24"
        )
    return _octets(bits.reshape(-1, features)), scale.reshape(-1)


def _octets(bits: Tensor) -> Tensor:
    """Bits [..., n], uint8, eight to a byte, the first in the lowest place; bits left over are 0."""
    bits = F.pad(bits, (0, -bits.shape[-1] % 8))
    places = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    octets = bits.reshape(*bits.shape[:-1], bits.shape[-1] // 8, 8)
    packed: Tensor = (octets * places).sum(-1, dtype=torch.uint8)
    return packed


def _agreement(left: Tensor, right: Tensor, n: int) -> Tensor:
    """``n - 2 popcount(left xor right)``, [m, k], float32, of octets [m, .] and [k, .]."""
    counts = _bit_counts(left.device)
    rows = torch.split(left, max(1, _CHUNK_BYTES // max(1, right.numel())))
    differing = [counts[(part[:, None] ^ right).int()].sum(2, dtype=torch.int32) for part in rows]
    return (n - 2 * torch.cat(differing)).float()


def _bit_counts(device: torch.device) -> Tensor:
    """How many bits of 0 to 255 are 1, [256]."""
    byte = torch.arange(256, device=device)
    return ((byte[:, None] >> torch.arange(8, device=device)) & 1).sum(1).to(torch.uint8)
