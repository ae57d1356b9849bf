"""FP8 E5M2: five exponent bits, two mantissa bits."""

from typing import final

from .float_codes import E5M2, SignMagnitude
from .fp8 import Fp8


@final
class Fp8E5M2(Fp8):
    """``x^ = scale E5M2(x / scale)``, ``scale = max |x| / 57344``, per tensor or channel, in float32.

    Layout ``s eeeee mm``, bias 15: 2^-16 is the smallest magnitude, 57344 the largest; S.11111.00 is infinity, the
    other S.11111 are NaN, and none of them is sent. Rounds to nearest even; what exceeds a fitted scale saturates.

    Reference: Micikevicius et al. 2022, "FP8 Formats for Deep Learning", table 1; OCP 8-bit Floating Point
    Specification (OFP8) v1.0, 2023.
    """

    name = "fp8-e5m2"
    family = "float"
    reference = "Micikevicius et al. 2022, table 1 (arXiv:2209.05433); OCP OFP8 v1.0"

    @property
    def element(self) -> SignMagnitude:
        return E5M2
