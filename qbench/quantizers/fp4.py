"""FP4: four-bit floats with the largest magnitude of each group."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer
from ..message import Message, Stream
from .float_codes import E2M1, SignMagnitude, halfway
from .reading import values
from .scaling import Layout, ScaleDtype, divide, load_scale, store_scale

# The magnitudes of bitsandbytes in units of 1/192 of the largest.
_BNB_MAGNITUDES = torch.tensor([0.0, 1.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0])
_TABLES = {"e2m1": E2M1, "bnb": SignMagnitude(_BNB_MAGNITUDES, halfway(_BNB_MAGNITUDES))}


class Fp4Parameters(Parameters):
    table: Literal["e2m1", "bnb"] = Field("e2m1", description="the 16 values: E2M1, or those of bitsandbytes")
    group_size: int = Field(64, ge=1, le=2**20, description="elements per group")
    scale_dtype: ScaleDtype = Field("float32", description="how the largest magnitude of a group is stored")


@final
class Fp4(Quantizer):
    """``x^ = (a / largest) table(x largest / a)``, ``a = max |x|`` of a group; 4 + 32/64 bits by default.

    Magnitudes: e2m1 0, .5, 1, 1.5, 2, 3, 4, 6; bnb 0, 1/16, 2, 3, 4, 6, 8, 12, whose codes have the order
    0, 1/16, 8, 12, 4, 6, 2, 3 (3 bits below the sign). Groups are consecutive elements of the flattened tensor.
    Values go to the nearest; a tie goes to the even index among ascending magnitudes.

    Reference: OCP Microscaling Formats v1.0, 2023, section 5.3.3 (E2M1); Dettmers et al. 2023, "QLoRA", section 2
    (blockwise absmax), and its library bitsandbytes (FP4 values).
    """

    name = "fp4"
    family = "float"
    reference = (
        "OCP Microscaling Formats v1.0, section 5.3.3; Dettmers et al. 2023, section 2 (arXiv:2305.14314)"
    )
    targets = ("source", "weight", "activation", "gradient")
    Parameters = Fp4Parameters
    sweep = ({"table": "e2m1"}, {"table": "bnb"})

    @property
    def table(self) -> SignMagnitude:
        return _TABLES[self.parameters.table]

    @property
    def layout(self) -> Layout:
        return Layout("group", self.parameters.group_size)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        groups = self.layout.split(x)
        absmax = store_scale(groups.abs().amax(1), self.parameters.scale_dtype)
        codes = self.table.encode(divide(groups, load_scale(absmax) / self.table.largest))
        return {
            "codes": Stream(self.layout.join(self._reordered(codes), x.shape), self.table.levels),
            "absmax": absmax,
        }

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        ordered = self._reordered(values(codes, "codes"))
        groups = self.layout.split(self.table.decode(ordered).reshape(shape))
        scale = load_scale(values(codes, "absmax")) / self.table.largest
        return self.layout.join(groups * scale[:, None], shape)

    def _reordered(self, codes: Tensor) -> Tensor:
        """From ascending order to the order of the table's codes; the same exchange leads back."""
        return codes ^ ((codes & 2) << 1) if self.parameters.table == "bnb" else codes
