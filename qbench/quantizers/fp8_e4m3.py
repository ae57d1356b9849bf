"""FP8 E4M3: four exponent bits, three mantissa bits."""

from typing import final

from .float_codes import E4M3, SignMagnitude
from .fp8 import Fp8


@final
class Fp8E4M3(Fp8):
    """``x^ = scale E4M3(x / scale)``, ``scale = max |x| / 448``, per tensor or channel, in float32.

    Layout ``s eeee mmm``, bias 7: 2^-9 is the smallest magnitude, 448 the largest, S.1111.111 is NaN; there is
    no infinity. Rounds to nearest even; what exceeds a fitted scale saturates.

    Reference: Micikevicius et al. 2022, "FP8 Formats for Deep Learning", table 1; OCP 8-bit Floating Point
    Specification (OFP8) v1.0, 2023.
    """

    name = "fp8-e4m3"
    family = "float"
    reference = "Micikevicius et al. 2022, table 1 (arXiv:2209.05433); OCP OFP8 v1.0"

    @property
    def element(self) -> SignMagnitude:
        return E4M3
