import math

import pytest
import torch

from qbench.components import Context
from qbench.quantizers.e8p import E8P, PADDING, codewords, e8_points, magnitudes, nearest_codeword
from qbench.quantizers.lattices import lattice
from qbench.testing import parametrize_checks


def norms(points):
    return points.double().square().sum(1)


def distance_to_nearest(x, points):
    """Squared, by going through all of them, float64."""
    x = x.double()
    return (norms(points) - 2 * x @ points.T).amin(1) + norms(x)


def test_the_table_is_227_vectors_of_the_ball_and_29_of_the_next_shell():
    table = magnitudes()
    assert len(torch.unique(table, dim=0)) == 256
    assert norms(table / 2).eq(12).tolist() == [False] * 227 + [True] * 29
    assert float(norms(table[:227] / 2).max()) <= 10
    # none is missing: signed with the parity of D8 + 1/2 they are its points in the ball, 2^7 signs each
    axis = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    halves = torch.cartesian_prod(*[axis] * 8)
    ball = halves[(norms(halves) <= 10) & (halves.sum(1) % 2 == 0)]
    assert len(ball) == 227 * 2**7
    assert all(sorted(word) == sorted("33333111") for word in PADDING.split())


def test_codewords_are_distinct_points_of_the_shifted_lattice():
    points = codewords().double() / 4
    assert len(torch.unique(points, dim=0)) == 2**16
    moved = points - 0.25
    assert torch.equal(lattice("E8").nearest(moved), moved)
    shift = torch.arange(2**16) % 2 * 0.5 - 0.25
    unshifted = points - shift[:, None]
    assert bool((unshifted.remainder(1) == 0.5).all() & (unshifted.sum(1) % 2 == 0).all())


def test_residual_points_are_the_two_first_shells_and_15_of_the_third():
    points = e8_points().double() / 4
    assert len(torch.unique(points, dim=0)) == 256
    assert torch.equal(lattice("E8").nearest(points), points)
    assert torch.bincount(norms(points).long()).tolist() == [1, 0, 240, 0, 15]


@pytest.mark.parametrize("scale", [0.1, 1.0, 2.0, 20.0])
def test_the_nearest_codeword_is_found(gaussian, scale):
    """In the granular region, at the boundary and far outside."""
    x, points = gaussian(200, 8, seed=3) * scale, codewords().double() / 4
    found = (x.double() - points[nearest_codeword(x)]).square().sum(1)
    torch.testing.assert_close(found, distance_to_nearest(x, points), rtol=1e-5, atol=1e-5)


def test_every_codeword_is_its_own_nearest():
    assert torch.equal(nearest_codeword(codewords().float() / 4), torch.arange(2**16))


def test_gaussian_error_at_two_bits(code, gaussian):
    """.0910 +- .0004, the reference's own spread, and ours over vectors: 4 standard errors."""
    x = gaussian(2**17, 8, seed=1)
    coded = code(E8P(), x, fitted_on=gaussian(2**17, seed=2))
    errors = (x - coded.reconstruction).double().square().mean(1)
    z = (float(errors.mean()) - 0.0910) / math.hypot(0.0004, float(errors.std()) / len(errors) ** 0.5)
    assert abs(z) < 4


@pytest.mark.parametrize(("bits", "lloyd_max"), [(3, 0.0345478), (4, 0.00950101)])
def test_two_stages_lie_between_the_limit_and_the_best_scalar_code(code, gaussian, z_score, bits, lloyd_max):
    x = gaussian(2**17, seed=1)
    y = code(E8P(bits=bits), x, fitted_on=gaussian(2**17, seed=2)).reconstruction
    assert z_score(x, y, lloyd_max) < -4
    assert z_score(x, y, 4.0**-bits) > 4


@pytest.mark.parametrize(("bits", "ratio", "points"), [(3, 2.04, e8_points), (4, 3.45, codewords)])
def test_the_second_stage_takes_the_nearest_to_what_the_first_left(code, gaussian, bits, ratio, points):
    x = gaussian(100, 8, seed=5)
    coded = code(E8P(bits=bits), x)
    scale = float(coded.codebook["scale"])
    assert 0 < scale < 1
    unit = x.abs().max().log2().floor().add(1).exp2() * scale
    left = x / unit - codewords()[coded.codes["codes"].values.long()].double() / 4
    expected = (
        distance_to_nearest(left * ratio, points().double() / 4).div(ratio**2).sum() * unit.double() ** 2
    )
    found = (x - coded.reconstruction).double().square().sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_bits_per_element(code, gaussian, bits):
    """The codes are bit planes; counts and schema are the few bytes that 64 vectors more do not add to."""
    few, many = code(E8P(bits=bits), gaussian(1600)), code(E8P(bits=bits), gaussian(2112))
    assert 8 * (many.nbytes - few.nbytes) == bits * 512


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_other_scale_is_much_better(laplacian, bits):
    """On the whole tensor it was fitted on, over five octaves in steps of 6 %: at most 1 % of error is lost."""
    x, context = laplacian(2**14) / 16, Context(torch.Generator())
    quantizer = E8P(bits=bits)

    def error(scale):
        book = {"scale": torch.tensor(scale)}
        y = quantizer.decode(quantizer.encode(x, book, context=context), book, x.shape)
        return float((x - y).double().square().mean())

    fitted = float(quantizer.fit(x, context=context)["scale"])
    others = [error(fitted * 1.02**k) for k in range(-90, 91, 3)]
    assert error(fitted) <= 1.01 * min(others)


@parametrize_checks([E8P(**point) for point in E8P.sweep])
def test_contract(quantizer, check):
    check(quantizer)
