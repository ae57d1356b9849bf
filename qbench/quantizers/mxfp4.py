"""MXFP4: four-bit floats in blocks of 32 with a shared power of two."""

from typing import final

from .float_codes import E2M1, SignMagnitude
from .microscaling import Microscaling


@final
class MxFp4(Microscaling):
    """``x^ = X E2M1(x / X)``, elements 0, .5, 1, 1.5, 2, 3, 4, 6 with a sign, 4 + 8/32 bits.

    ``X = 2^(floor(log2(max |x|)) - 2)`` for every 32 elements, as E8M0.

    Reference: OCP Microscaling Formats (MX) Specification v1.0, 2023, section 5.3.3.
    """

    name = "mxfp4"
    family = "float"

    @property
    def element(self) -> SignMagnitude:
        return E2M1
