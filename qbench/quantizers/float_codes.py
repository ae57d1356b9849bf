"""Number formats of a few bits: a sign above an index into ascending magnitudes, rounded to the nearest."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

E8M0_BIAS = 127
# The values of the 256 codes of E8M0, powers of two and one NaN (OCP Microscaling Formats v1.0, section 5.4.1).
E8M0 = torch.tensor([*(math.ldexp(1.0, code - E8M0_BIAS) for code in range(255)), math.nan])


@dataclass(frozen=True, eq=False)
class SignMagnitude:
    """Codes of ``1 + log2(half)`` bits: ``sign * half + index``, ``x^ = +-magnitudes[index]``.

    Attributes:
        magnitudes: [half], float32: finite ones, ascending from 0, then infinity and NaN, if the format has them.
        thresholds: [finite magnitudes - 1], float32: the index of |x| is the number of thresholds below it.
    """

    magnitudes: Tensor
    thresholds: Tensor

    @property
    def half(self) -> int:
        """Codes of one sign."""
        return self.magnitudes.numel()

    @property
    def levels(self) -> int:
        return 2 * self.half

    @cached_property
    def largest(self) -> float:
        """The largest finite value; what exceeds it saturates."""
        return float(self.magnitudes[self.thresholds.numel()])

    @cached_property
    def exponent(self) -> int:
        """That of the largest value: floor(log2(largest))."""
        return math.frexp(self.largest)[1] - 1

    def encode(self, x: Tensor) -> Tensor:
        """The codes of finite values, int32, shape of ``x``. Zeros and what rounds to them keep their sign."""
        index = torch.searchsorted(self.thresholds.to(x.device), x.abs(), out_int32=True)
        return index.add_(torch.signbit(x), alpha=self.half)

    def decode(self, codes: Tensor) -> Tensor:
        """The values of integer codes, float32, shape of ``codes``."""
        return torch.cat([self.magnitudes, -self.magnitudes]).to(codes.device)[codes.long()]


def halfway(magnitudes: Tensor) -> Tensor:
    """Thresholds that send a value to the nearest of ascending magnitudes, and a tie to the even index.

    Exact for magnitudes whose means are float32 numbers.
    """
    middle = (magnitudes[1:] + magnitudes[:-1]) / 2
    even_above = torch.arange(middle.numel()) % 2 == 1
    return torch.where(even_above, torch.nextafter(middle, -middle), middle)


def minifloat(exponent_bits: int, mantissa_bits: int, not_finite: tuple[float, ...] = ()) -> SignMagnitude:
    """A float format with subnormals, rounding to nearest even, saturating.

    With fields e and f and bias = 2^(exponent_bits - 1) - 1, a magnitude is
    ``2^(e - bias) (1 + f / 2^mantissa_bits)`` for e > 0 and ``2^(1 - bias) f / 2^mantissa_bits`` for e = 0.
    The highest codes stand for ``not_finite`` instead.

    Reference: OCP Microscaling Formats (MX) Specification v1.0, 2023, section 5.3.

    >>> minifloat(2, 1).magnitudes.tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    """
    unit, bias = 2**mantissa_bits, 2 ** (exponent_bits - 1) - 1

    def magnitude(code: int) -> float:
        e, f = divmod(code, unit)
        return math.ldexp(f + unit * (e > 0), max(e, 1) - bias - mantissa_bits)

    finite = torch.tensor([magnitude(code) for code in range(2**exponent_bits * unit - len(not_finite))])
    return SignMagnitude(torch.cat([finite, finite.new_tensor(not_finite)]), halfway(finite))


E4M3 = minifloat(4, 3, (math.nan,))
E5M2 = minifloat(5, 2, (math.inf, math.nan, math.nan, math.nan))
E2M3 = minifloat(2, 3)
E3M2 = minifloat(3, 2)
E2M1 = minifloat(2, 1)
