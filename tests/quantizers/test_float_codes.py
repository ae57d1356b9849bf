"""Minifloats against torch's casts, the tables of the specification, and rounding done with multiples of a step."""

import math

import pytest
import torch

from qbench.quantizers.float_codes import E2M1, E2M3, E3M2, E4M3, E5M2, E8M0, SignMagnitude

# (format, mantissa bits, least normal exponent, smallest, largest): OCP OFP8 v1.0 table 1, OCP MX v1.0 tables 3 to 5.
FORMATS = [
    (E4M3, 3, -6, 2**-9, 448.0),
    (E5M2, 2, -14, 2**-16, 57344.0),
    (E2M3, 3, 0, 0.125, 7.5),
    (E3M2, 2, -2, 0.0625, 28.0),
    (E2M1, 1, 0, 0.5, 6.0),
]
formats = pytest.mark.parametrize(
    ("element", "mantissa_bits", "least_exponent", "smallest", "largest"),
    FORMATS,
    ids=["e4m3", "e5m2", "e2m3", "e3m2", "e2m1"],
)
casts = pytest.mark.parametrize(
    ("element", "dtype"), [(E4M3, torch.float8_e4m3fn), (E5M2, torch.float8_e5m2)], ids=["e4m3", "e5m2"]
)


def some_values(element: SignMagnitude) -> torch.Tensor:
    """Values of every size up to the largest, every tie between neighbours, the floats beside it, both zeros."""
    finite = element.magnitudes[element.magnitudes.isfinite()]
    ties = (finite[1:] + finite[:-1]) / 2
    beside = [torch.nextafter(ties, ties.new_tensor(end)) for end in (0.0, math.inf)]
    generator = torch.Generator().manual_seed(0)
    sizes = torch.exp2(torch.rand(20_000, generator=generator) * 30 - 30) * element.largest
    flat = torch.rand(20_000, generator=generator) * element.largest
    magnitudes = torch.cat([finite, ties, *beside, sizes, flat])
    return torch.cat([magnitudes, -magnitudes])


@casts
def test_all_codes_are_those_of_torch(element, dtype):
    codes = torch.arange(256, dtype=torch.uint8)
    torch.testing.assert_close(
        element.decode(codes), codes.view(dtype).float(), rtol=0, atol=0, equal_nan=True
    )


@casts
def test_rounding_is_that_of_torch(element, dtype):
    x = some_values(element)
    assert torch.equal(element.encode(x), x.to(dtype).view(torch.uint8).int())


@formats
def test_rounding_is_that_to_multiples_of_a_step(element, mantissa_bits, least_exponent, smallest, largest):
    """2^(floor(log2 |x|) - mantissa bits), from the least normal exponent on; an even multiple is an even code."""
    x = some_values(element)
    exponent = (torch.frexp(x)[1] - 1).clamp(min=least_exponent)
    step = torch.exp2((exponent - mantissa_bits).double()).float()
    decoded = element.decode(element.encode(x))
    assert torch.equal(decoded, (x / step).round() * step)
    assert torch.equal(torch.signbit(decoded), torch.signbit(x))


@formats
def test_range_is_that_of_the_specification(element, mantissa_bits, least_exponent, smallest, largest):
    finite = element.magnitudes[element.magnitudes.isfinite()]
    assert (float(finite[0]), float(finite[1]), float(finite[-1])) == (0.0, smallest, largest)
    assert element.largest == largest
    assert 2.0**element.exponent <= largest < 2.0 ** (element.exponent + 1)


@formats
def test_what_exceeds_the_range_saturates(element, mantissa_bits, least_exponent, smallest, largest):
    x = torch.tensor([1.01, 2.0, 1e30 / largest]) * largest
    assert element.decode(element.encode(x)).tolist() == [largest] * 3
    assert element.decode(element.encode(-x)).tolist() == [-largest] * 3


@formats
def test_codes_of_values_are_the_codes_themselves(element, mantissa_bits, least_exponent, smallest, largest):
    codes = torch.arange(element.levels)
    values = element.decode(codes)
    assert torch.equal(element.encode(values[values.isfinite()]), codes[values.isfinite()].int())


def test_scales_are_powers_of_two():
    """E8M0 is the exponent field of float32 above 1, and torch's own type says the rest."""
    codes = torch.arange(256, dtype=torch.uint8)
    torch.testing.assert_close(E8M0, codes.view(torch.float8_e8m0fnu).float(), rtol=0, atol=0, equal_nan=True)
