"""MXFP8: eight-bit floats in blocks of 32 with a shared power of two."""

from typing import Literal, final

from pydantic import Field

from ..components import Parameters
from .float_codes import E4M3, E5M2, SignMagnitude
from .microscaling import Microscaling

_ELEMENTS = {"e4m3": E4M3, "e5m2": E5M2}


class MxFp8Parameters(Parameters):
    element: Literal["e4m3", "e5m2"] = Field("e4m3", description="number format of an element")


@final
class MxFp8(Microscaling):
    """``x^ = X element(x / X)``, elements E4M3 (largest 448) or E5M2 (57344), 8 + 8/32 bits.

    ``X = 2^(floor(log2(max |x|)) - 8)`` or, with E5M2, - 15, for every 32 elements, as E8M0.

    Reference: OCP Microscaling Formats (MX) Specification v1.0, 2023, section 5.3.1.
    """

    name = "mxfp8"
    family = "float"
    Parameters = MxFp8Parameters
    sweep = ({"element": "e4m3"}, {"element": "e5m2"})

    @property
    def element(self) -> SignMagnitude:
        return _ELEMENTS[self.parameters.element]
