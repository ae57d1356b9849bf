"""MXFP6: six-bit floats in blocks of 32 with a shared power of two."""

from typing import Literal, final

from pydantic import Field

from ..components import Parameters
from .float_codes import E2M3, E3M2, SignMagnitude
from .microscaling import Microscaling

_ELEMENTS = {"e2m3": E2M3, "e3m2": E3M2}


class MxFp6Parameters(Parameters):
    element: Literal["e2m3", "e3m2"] = Field("e2m3", description="number format of an element")


@final
class MxFp6(Microscaling):
    """``x^ = X element(x / X)``, elements E2M3 (largest 7.5) or E3M2 (28), 6 + 8/32 bits.

    ``X = 2^(floor(log2(max |x|)) - 2)`` or, with E3M2, - 4, for every 32 elements, as E8M0.

    Reference: OCP Microscaling Formats (MX) Specification v1.0, 2023, section 5.3.2.
    """

    name = "mxfp6"
    family = "float"
    Parameters = MxFp6Parameters
    sweep = ({"element": "e2m3"}, {"element": "e3m2"})

    @property
    def element(self) -> SignMagnitude:
        return _ELEMENTS[self.parameters.element]
