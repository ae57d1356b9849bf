import math

import pytest
import torch
from scipy import linalg

from qbench.components import Context
from qbench.quantizers.drive import Drive
from qbench.quantizers.rotation import signs, turn
from qbench.testing import parametrize_checks

# Lloyd-Max for N(0, 1): Max 1960, solved to all digits.
MSE = {1: 0.363380, 2: 0.117482, 3: 0.0345478, 4: 0.00950101, 5: 0.00250467}
LEAST_SQUARES = {"scale": "least-squares"}


@parametrize_checks([*(Drive(**point) for point in Drive.sweep), Drive(bits=8, rotations=1)])
def test_contract(quantizer, check):
    check(quantizer)


def inputs(gaussian):
    """Vectors of one block that are anything but alike."""
    d = 1 << 14
    ramp = torch.arange(d, dtype=torch.float32)
    return {
        "gaussian": gaussian(d),
        "lognormal": gaussian(d).mul(0.7).exp(),
        "ramp": ramp - 100.0,
        "heavy": gaussian(d) ** 5,
        "one": torch.zeros(d).index_fill(0, torch.tensor([77]), -0.3),
    }


@pytest.mark.parametrize("kind", ["gaussian", "lognormal", "ramp", "heavy", "one"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5])
def test_relative_error_is_that_of_a_gaussian_whatever_the_vector(code, gaussian, kind, bits):
    """vNMSE: m for least squares, 1 / (1 - m) - 1 unbiased (.5708 = pi / 2 - 1 at 1 bit), by large d.

    Eight draws of R at d = 16384: 5 standard errors of their mean, and .1 % for the limit d -> infinity.
    """
    x = inputs(gaussian)[kind]
    energy = float(x.double().square().sum())
    for scale, expected in (("unbiased", 1 / (1 - MSE[bits]) - 1), ("least-squares", MSE[bits])):
        errors = torch.tensor(
            [
                float(
                    (code(Drive(bits=bits, scale=scale), x, seed=s).reconstruction - x)
                    .double()
                    .square()
                    .sum()
                )
                for s in range(8)
            ]
        )
        standard_error = float(errors.std()) / math.sqrt(8) / energy
        assert abs(float(errors.mean()) / energy - expected) < 5 * standard_error + 1e-3 * expected
        assert standard_error < 0.02 * expected


def test_one_bit_by_the_formulas_of_drive(code, gaussian):
    """S = |x|^2 / |R x|_1 and |R x|_1 / d, with the rotation spelled out as a matrix."""
    x = gaussian(64)
    hadamard = torch.from_numpy(linalg.hadamard(64)).double() / 8
    for scale, rotations in (("unbiased", 1), ("least-squares", 1), ("unbiased", 2)):
        coded = code(Drive(bits=1, scale=scale, rotations=rotations), x)
        seed = int(coded.codes["seed"])
        r = torch.eye(64, dtype=torch.float64)
        for each in (seed, seed + 2**31 - 1)[:rotations]:
            r = turn(r.T, each).T if rotations == 2 else r
            r = hadamard * signs(each, 64).double() @ r
        y = r @ x.double()
        s = x.double().square().sum() / y.abs().sum() if scale == "unbiased" else y.abs().mean()
        assert torch.allclose(coded.reconstruction.double(), r.T @ (s * y.sign()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("n", [50, 1000])
def test_the_unbiased_scale_projects_onto_x_exactly(code, gaussian, bits, n):
    """<x^, x> = |x|^2 for every rotation: the error is orthogonal to x (block by block, so in total)."""
    x = gaussian(n)
    y = code(Drive(bits=bits), x).reconstruction
    assert float(y.double() @ x.double()) == pytest.approx(float(x.double().square().sum()), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_least_squares_scale_leaves_an_error_orthogonal_to_the_code(code, gaussian, bits):
    x = gaussian(1008)
    y = code(Drive(bits=bits, **LEAST_SQUARES), x).reconstruction
    assert abs(float((x - y).double() @ y.double())) < 1e-5 * float(x.square().sum())


def worst(quantizer, x, repetitions):
    """Standard errors by which sums of 16 neighbours miss x in the mean, plain and towards zero: the largest.

    Blocks of 16 as in the contract kit, whose check passes for whatever claims to be unbiased.
    """
    coded = [
        quantizer.encode(x, {}, context=Context(torch.Generator().manual_seed(i))) for i in range(repetitions)
    ]
    errors = torch.stack([quantizer.decode(codes, {}, x.shape) - x for codes in coded]).double()
    sums = [(errors * sign).reshape(repetitions, -1, 16).sum(2) for sign in (1, x.sign())]
    return max(float((s.mean(0) / s.std(0)).abs().max()) for s in sums) * math.sqrt(repetitions)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_two_rotations_are_unbiased_for_a_heavy_tail_and_one_is_not(gaussian, bits):
    """300 messages of 64 values, 4 of which hold 95 % of the energy: 8 sums within 5 standard errors, or outside."""
    x = gaussian(64) ** 5
    assert float(x.square().sort().values[-4:].sum() / x.square().sum()) > 0.95
    assert worst(Drive(bits=bits), x, 300) < 5
    assert worst(Drive(bits=bits, rotations=1), x, 300) > 6
    if bits < 4:
        assert worst(Drive(bits=bits, **LEAST_SQUARES), x, 300) > 6


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("n", [16, 64])
def test_small_values_beside_a_large_one_have_no_bias(bits, n):
    """What decides the signs of exact zeros is not scaled up: 600 messages, 5 standard errors along the small values.

    Without turns of pairs it lies 10 to 60 above. 1e-9 are for float32 arithmetic.
    """
    small = torch.full((n,), 1e-4).index_fill(0, torch.tensor([3]), 0.0)
    x = small.index_fill(0, torch.tensor([3]), 1.0)
    contexts = (Context(torch.Generator().manual_seed(i)) for i in range(600))
    code = Drive(bits=bits)
    decoded = torch.stack([code.decode(code.encode(x, {}, context=c), {}, x.shape) for c in contexts])
    along = (decoded - x).double() @ small.double() / small.norm()
    assert abs(float(along.mean())) < 5 * float(along.std()) / math.sqrt(600) + 1e-9


def test_which_points_claim_to_be_unbiased():
    assert [q.is_unbiased for q in (Drive(), Drive(**LEAST_SQUARES), Drive(rotations=1))] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("n", "sent", "scales"), [(1, 16, 1), (16, 16, 1), (17, 32, 1), (1000, 1008, 6), (4096, 4096, 1)]
)
def test_what_is_sent(code, gaussian, n, sent, scales):
    coded = code(Drive(bits=2), gaussian(n))
    assert coded.codes["codes"].values.numel() == sent
    assert coded.codes["scale"].numel() == scales
    schema, seed, count = 1 + (1 + 4 + 1) + (1 + 5 + 1) + (1 + 5 + 2), 2 + 4, 1 if sent < 128 else 2
    assert coded.nbytes == schema + seed + (2 + 4 * scales) + count + sent * 2 // 8


def test_a_spike_rotated_once_comes_back_exactly(code):
    """Its rotation has one magnitude, which is what 1 bit holds."""
    spike = torch.zeros(64)
    spike[9] = -0.7
    assert torch.allclose(code(Drive(rotations=1), spike).reconstruction, spike, atol=1e-6)
    single = torch.tensor([-3.0])
    assert torch.allclose(code(Drive(rotations=1), single).reconstruction, single, rtol=1e-6)
    assert not bool(code(Drive(), torch.zeros(100)).reconstruction.any())


def test_every_message_has_a_rotation_of_its_own(gaussian):
    x, context = gaussian(256), Context(torch.Generator().manual_seed(0))
    seeds = {int(Drive().encode(x, {}, context=context)["seed"]) for _ in range(20)}
    assert len(seeds) == 20


def test_blocks_keep_their_own_energy(code):
    """A block of small values beside one of large values is coded as well as alone."""
    x = torch.cat([torch.ones(256), 1e-6 * torch.arange(1.0, 65.0)])
    tail = code(Drive(bits=4), x).reconstruction[256:]
    assert float((tail - x[256:]).square().sum() / x[256:].square().sum()) < 0.05
