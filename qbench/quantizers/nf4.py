"""NF4: sixteen quantiles of a Gaussian with the largest magnitude of each group."""

from functools import lru_cache
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .reading import values
from .scalar_codebook import nearest
from .scaling import Layout, ScaleDtype, divide, load_scale, store_scale

NF4 = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)
_SECOND = Layout("group", 256)


class Nf4Parameters(Parameters):
    group_size: Literal[64, 128, 256] = Field(64, description="elements per group")
    double_quantization: bool = Field(False, description="store the scales of the groups in 8 bits")
    scale_dtype: ScaleDtype = Field(
        "float32", description="how a scale is stored without double quantization"
    )


@final
class Nf4(Quantizer):
    """``x^ = a NF4[code]``, ``a = max |x|`` of a group, the code that of the nearest value.

    The table holds quantiles of N(0, 1) over the largest of them: 0, 8 positive ones at probabilities evenly spaced
    between .5 and .9677083, and 7 negative ones likewise. A code is a value's rank. 4 + 32/group_size bits.

    Double quantization stores ``(a - mean of all a) / scale`` as the nearest of :func:`dynamic_tree`, 8 bits, with
    ``scale = max |a - mean|`` of 256 groups in float32, and the mean in float32: 4 + 8/64 + 32/(64 * 256) bits.
    Codes are chosen for the a that the decoder finds. Groups are consecutive elements of the flattened tensor.

    Reference: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3, eq. 4 and appendix E.
    """

    name = "nf4"
    family = "float"
    reference = "Dettmers et al. 2023, section 3, eq. 4, appendix E (arXiv:2305.14314)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = Nf4Parameters
    sweep = (
        {"group_size": 64},
        {"group_size": 64, "double_quantization": True},
        {"group_size": 256, "double_quantization": True},
    )

    @property
    def layout(self) -> Layout:
        return Layout("group", self.parameters.group_size)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        groups = self.layout.split(x)
        scales = self._stored(groups.abs().amax(1))
        codes = _nearest(divide(groups, self._absmax(scales, len(groups))), NF4)
        return {"codes": Stream(self.layout.join(codes, x.shape), NF4.numel()), **scales}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        table = NF4.to(values(codes, "codes").device)
        groups = self.layout.split(table[values(codes, "codes").long()].reshape(shape))
        return self.layout.join(groups * self._absmax(codes, len(groups))[:, None], shape)

    def _stored(self, absmax: Tensor) -> Message:
        if not self.parameters.double_quantization:
            return {"absmax": store_scale(absmax, self.parameters.scale_dtype)}
        mean = absmax.mean()
        rows = _SECOND.split(absmax - mean)
        scale = rows.abs().amax(1)
        codes = _nearest(divide(rows, scale), dynamic_tree())
        return {"absmax": Stream(_SECOND.join(codes, absmax.shape), 256), "scale": scale, "mean": mean}

    def _absmax(self, scales: Message, groups: int) -> Tensor:
        """The largest magnitudes that the decoder finds, [groups], not negative."""
        stored = values(scales, "absmax")
        if not self.parameters.double_quantization:
            return load_scale(stored)
        rows = _SECOND.split(dynamic_tree().to(stored.device)[stored.long()])
        differences = _SECOND.join(rows * values(scales, "scale")[:, None], torch.Size([groups]))
        return (differences + values(scales, "mean")).clamp(min=0.0)


@lru_cache
def dynamic_tree() -> Tensor:
    """The 256 ascending values of the signed dynamic data type of 8 bits, float32.

    For each decade 10^(i - 6), i = 0 to 6, the centres of 2^i equal parts of [.1, 1], times +-10^(i - 6); then 0
    and 1.

    Reference: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", section 1.3.
    """
    positive = [
        (2 * parts + 9 * (2 * part + 1)) / (20 * parts * 10 ** (6 - i))
        for i in range(7)
        for parts in [2**i]
        for part in range(parts)
    ]
    return torch.tensor(sorted([*positive, *(-value for value in positive), 0.0, 1.0]))


def _nearest(x: Tensor, table: Tensor) -> Tensor:
    return nearest(x.reshape(1, -1), table.to(x.device)[None]).reshape(x.shape)
