"""Nested lattice codes beside published figures, textbook algorithms and what no code can pass."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.quantizers.lattices import lattice
from qbench.quantizers.lattices.voronoi_code import UNIT, VoronoiCode
from qbench.quantizers.nested_lattice import NestedLattice

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from nested_lattices import (
        POLICIES,
        UNIT_SCALE,
        context,
        gaussian,
        generator,
        mse_with_error,
        reconstruct,
        standard_error,
    )


def textbook_e8(x: Tensor) -> Tensor:
    """Conway & Sloane's algorithm as they print it, in floating point, with ties as they fall."""

    def d8(y: Tensor) -> Tensor:
        f = y.round()
        k = (y - f).abs().argmax(1, keepdim=True)
        g = f.scatter_add(1, k, torch.where(y.gather(1, k) < f.gather(1, k), -1.0, 1.0).to(f))
        return torch.where(f.sum(1, keepdim=True) % 2 == 0, f, g)

    integer, half = d8(x), d8(x - 0.5) + 0.5
    nearer = (x - half).square().sum(1, keepdim=True) < (x - integer).square().sum(1, keepdim=True)
    return torch.where(nearer, half, integer)


def textbook_wrap(m: int, beta: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """What an encoder believes that folds its own point t of (beta/m) E8, and what its index decodes to.

    On the boundary of the coarse cell t and t - m q are both kept, while an index has one codeword; the decoder gets
    t modulo m E8 and breaks ties at random.
    """
    t = textbook_e8(m * x / beta)
    index = (t @ torch.linalg.inv(lattice("E8").generator)).round().remainder(m)
    p = index @ lattice("E8").generator
    nudged = p / m + 1e-6 * torch.randn(p.shape, generator=generator(1), dtype=torch.float64)
    return beta / m * (t - m * textbook_e8(t / m)), beta / m * (p - m * textbook_e8(nudged))


@pytest.mark.parametrize(("m", "beta"), [(4, 6.2), (8, 6.4), (14, 6.9), (16, 7.0)])
def test_wrap_is_what_the_textbook_decodes(m: int, beta: float) -> None:
    # Codewords tied for an index are equally long, so lengths agree vector for vector, up to the nudge and float32; by
    # the symmetry of cell and source the rule for ties makes no difference: 4 standard errors of the paired one.
    x = gaussian(100_000, 8)
    quantizer = NestedLattice(m=m, beta=beta, offset="zero", overload="wrap")
    found, (_, expected) = reconstruct(quantizer, x, UNIT_SCALE), textbook_wrap(m, beta, x.double())
    torch.testing.assert_close(found.double().norm(dim=1), expected.norm(dim=1), rtol=1e-5, atol=1e-5)
    chance = (found - x).double().square().mean(1) - (expected - x).square().mean(1)
    assert abs(float(chance.mean())) < 4 * standard_error(chance)


@pytest.mark.parametrize(("m", "beta", "own", "own_error"), [(4, 6.2, 0.1945, 2e-4), (8, 6.4, 0.0525, 1e-4)])
def test_wrap_is_worse_than_its_encoder_believes(m: int, beta: float, own: float, own_error: float) -> None:
    # The reference's values are beliefs; at M = 14 and 16 ties are too rare to tell in so many vectors.
    x = gaussian(100_000, 8)
    believed = (textbook_wrap(m, beta, x.double())[0] - x).square().mean(1)
    assert abs(float(believed.mean()) - own) < 4 * math.hypot(standard_error(believed), own_error)
    quantizer = NestedLattice(m=m, beta=beta, offset="zero", overload="wrap")
    gap = (reconstruct(quantizer, x, UNIT_SCALE) - x).double().square().mean(1) - believed
    assert float(gap.mean()) > 4 * standard_error(gap)


@pytest.mark.parametrize(
    ("offset", "m", "reference"),
    [
        ("generic", 2, 0.331),
        ("generic", 3, 0.157),
        ("generic", 4, 0.094),
        ("zero", 2, 0.367),
        ("zero", 3, 0.161),
        ("zero", 4, 0.096),
    ],
)
def test_nearest_reproduces_the_reference(offset: str, m: int, reference: float) -> None:
    # Within 2 %: the reference knows the offset no better. beta is fitted on another sample.
    quantizer = NestedLattice(m=m, offset=offset)
    codebook = quantizer.fit(gaussian(100_000, seed=1), context=context())
    mse, error = mse_with_error(quantizer, gaussian(160_000), codebook)
    assert error < 0.005 * mse
    assert mse == pytest.approx(reference, rel=0.02)


@pytest.mark.parametrize(("name", "low", "high"), [("A2", 0.1134, 0.1164), ("D4", 0.1041, 0.1079)])
@pytest.mark.parametrize("offset", ["generic", "zero", 1])
def test_two_bits_in_two_and_four_dimensions(name: str, low: float, high: float, offset: Any) -> None:
    # The reference's range over offsets, and 4 of our standard errors.
    quantizer = NestedLattice(lattice=name, m=4, offset=offset)
    codebook = quantizer.fit(gaussian(100_000, seed=1), context=context())
    mse, error = mse_with_error(quantizer, gaussian(160_000), codebook)
    assert low - 4 * error < mse < high + 4 * error


def test_beta_landscape_of_vectors_of_fixed_norm() -> None:
    # A2, M = 8, nearest, offset 0: minima near 3.17, 4.13, 5.99, 10.75 where shortest vectors have length 1; here
    # it is sqrt(2). A grid of 1 % over all angles: within 2 %.
    angle = torch.arange(720, dtype=torch.float64) * (2 * math.pi / 720) + 1e-3
    x = (math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)).float()
    betas = [1.6 * 2 ** (k / 70) for k in range(180)]
    errors = [
        float(
            (reconstruct(NestedLattice(lattice="A2", m=8, beta=beta, offset="zero"), x, UNIT_SCALE) - x)
            .square()
            .mean()
        )
        for beta in betas
    ]
    triples = zip(betas[1:], errors, errors[1:], errors[2:], strict=False)
    minima = [beta * math.sqrt(2) for beta, before, here, after in triples if before > here < after]
    assert minima == pytest.approx([3.17, 4.13, 5.99, 10.75], rel=0.02)


@pytest.mark.parametrize("name", ["BW16", "Leech"])
def test_sixteen_and_twenty_four_dimensions_come_near_the_lattice(name: str) -> None:
    # Without overload the error is that of the lattice: G V^(2/n) (beta / M)^2, within 4 standard errors.
    kind = lattice(name)
    x = gaussian(300, kind.dimension) * 0.24 * kind.volume ** (1 / kind.dimension)
    quantizer = NestedLattice(lattice=name, m=8, beta=2.0, overload="shrink")
    per_vector = (x - reconstruct(quantizer, x, UNIT_SCALE)).double().square().mean(1)
    expected = kind.second_moment * kind.volume ** (2 / kind.dimension) * (2.0 / 8) ** 2
    assert abs(float(per_vector.mean()) - expected) < 4 * standard_error(per_vector)


@pytest.mark.parametrize(
    ("bits", "step", "mse"),
    [(1, 1.595769, 0.363380), (2, 0.995687, 0.118846), (3, 0.586019, 0.0374397), (4, 0.335201, 0.0115429)],
)
def test_integers_shifted_by_a_half_are_the_midrise_quantizer(bits: int, step: float, mse: float) -> None:
    # Max 1960, exact values; the expectation is a Riemann sum over a grid of 1e-4, good to 1e-6 relative.
    m = 2**bits
    x = torch.arange(-8, 8, 1e-4, dtype=torch.float64) + 5e-5
    weight = (-x.square() / 2).exp() * 1e-4 / math.sqrt(2 * math.pi)
    code = VoronoiCode(lattice("Z"), m, [UNIT // 2])
    decoded = code.decode(code.search(x[:, None] / step * UNIT))[:, 0] * step / UNIT
    assert float((weight * (x - decoded).square()).sum()) == pytest.approx(mse, rel=5e-6)


def test_beta_landscape_of_a_mixture() -> None:
    # 0.99 N(0, 0.1^2) + 0.01 N(0, 1), Z, M = 4, nearest: two local minima with offset 0, one with offset 1/2.
    # beta is there in absolute units; expectations are Riemann sums, the reference has four digits.
    x = torch.arange(-7, 7, 2e-4, dtype=torch.float64) + 1e-4
    narrow, wide = (((-x.square() / (2 * s * s)).exp() / s) for s in (0.1, 1.0))
    weight = (0.99 * narrow + 0.01 * wide) * 2e-4 / math.sqrt(2 * math.pi)
    variance = float((weight * x.square()).sum())

    def error(beta: float, offset: Any = "zero") -> float:
        quantizer = NestedLattice(lattice="Z", m=4, beta=beta / math.sqrt(variance), offset=offset)
        decoded = reconstruct(quantizer, x, {"scale": torch.tensor(variance).sqrt().float()})
        return float((weight * (x - decoded).square()).sum()) / variance

    assert error(0.57) == pytest.approx(0.4476, abs=1e-4)
    assert error(4.19) == pytest.approx(0.5726, abs=1e-4)
    assert error(0.57) < min(error(0.5), error(0.65))
    assert error(4.19) < min(error(3.8), error(4.6))


def test_automatic_beta_finds_the_global_minimum_of_the_mixture() -> None:
    # 0.57 in absolute units, 0.1411 being the root mean square; the landscape is flat, so 15 % either way.
    wide = torch.rand(200_000, generator=generator(3)) < 0.01
    x = gaussian(200_000, seed=4) * torch.where(wide, 1.0, 0.1)
    codebook = NestedLattice(lattice="Z", m=4, offset="zero").fit(x, context=context())
    assert float(codebook["beta"]) * float(codebook["scale"]) == pytest.approx(0.57, rel=0.15)


@pytest.mark.parametrize("offset", ["zero", "generic"])
@pytest.mark.parametrize("beta", [1.5, 2.4, 3.2, 4.0])
def test_one_bit_integers_stay_above_the_best_scalar_quantizer(beta: float, offset: str) -> None:
    # The rate trap: an encoder that trusts both ends of the boundary cell "reaches" .3264 < .36338.
    for policy in ("nearest", "wrap", "shrink"):
        quantizer = NestedLattice(lattice="Z", m=2, beta=beta, offset=offset, overload=policy)
        mse, error = mse_with_error(quantizer, gaussian(200_000, seed=5), UNIT_SCALE)
        assert mse > 0.363380 - 3 * error


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("m", [2, 3, 4])
def test_nothing_passes_the_rate_distortion_function(m: int, policy: str) -> None:
    # D(R) = 4^-R; expand sends 2 more bits for each vector. A2 and D4 with M = 2 are those of the rate trap: encoders
    # that trust both ends of the boundary cell "reach" .2236 and .2406 < 1/4.
    lattices = ("Z", "A2", "D4", "E8")
    for name, offset, beta in itertools.product(lattices, ("zero", "generic", 1), (2.5, 4.0, 6.0)):
        quantizer = NestedLattice(lattice=name, m=m, beta=beta, offset=offset, overload=policy)
        mse, error = mse_with_error(quantizer, gaussian(16_000, seed=6), UNIT_SCALE)
        rate = math.log2(m) + (2 / lattice(name).dimension if policy == "expand" else 0)
        assert mse > 4.0**-rate - 3 * error


def test_half_an_integer_of_offset_is_the_midrise_code() -> None:
    # Max 1960: step .995687, MSE .118846 at 2 bits; 4 standard errors.
    quantizer = NestedLattice(lattice="Z", m=4, beta=4 * 0.995687, offset="half")
    mse, error = mse_with_error(quantizer, gaussian(400_000, seed=18), UNIT_SCALE)
    assert abs(mse - 0.118846) < 4 * error
