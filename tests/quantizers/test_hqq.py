"""HQQ against its library's figures and closed forms of its steps; beside the library itself in tests/libraries."""

import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.quantizers.hqq import Hqq, shrink
from qbench.testing import parametrize_checks

# SQNR in dB of the library on N(0, 1), groups of 64, by bits; and half a unit of the last digit.
PUBLISHED = {8: (45.9, 0.05), 4: (21.3, 0.05), 3: (14.8, 0.05), 2: (7.27, 0.005)}


@pytest.mark.parametrize("bits", PUBLISHED)
def test_sqnr_of_a_gaussian(code, gaussian, sqnr_db, sqnr_db_error, bits):
    """Within the reference's .02 dB, its rounding and 4 standard errors, at b + 32/64 bits; beta fixed as there."""
    x, (expected, rounding) = gaussian(1024, 1024), PUBLISHED[bits]
    coded = code(Hqq(bits=bits, kappa=1.0), x)
    standard_error = sqnr_db_error(x, coded.reconstruction)
    assert abs(sqnr_db(x, coded.reconstruction) - expected) < 0.02 + rounding + 4 * standard_error
    assert standard_error < 0.01
    assert 8 * coded.nbytes / x.numel() == pytest.approx(bits + 32 / 64, abs=0.001)


def test_quality_does_not_depend_on_the_unit(code, gaussian, sqnr_db):
    """But for float16 scales, which are up to 2^-10 too wide in one unit and not in another: .0085 dB."""
    x = gaussian(256, 256)
    for bits in (2, 4):
        found = [sqnr_db(x * s, code(Hqq(bits=bits), x * s).reconstruction) for s in (1.0, 0.02, 3e5)]
        assert max(found) - min(found) < 20 * math.log10(1 + 2**-10)


@pytest.mark.parametrize("p", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_the_threshold_by_hand(p, beta):
    """Zero up to |u|^(2 - p) = 1 / beta, 1 - 1 / beta at 1, odd, and u far out."""
    edge = beta ** (-1 / (2 - p))
    u = torch.tensor([0.0, 0.99 * edge, 1.0, 1e4], dtype=torch.float64)
    found = shrink(u, p, beta)
    assert found[:3].tolist() == pytest.approx([0, 0, 1 - 1 / beta], abs=1e-12)
    assert float(found[3]) == pytest.approx(1e4 - 1e4 ** (p - 1) / beta)
    assert float(shrink(torch.tensor(1.01 * edge), p, beta)) > 0
    assert torch.equal(shrink(-u, p, beta), -found)


def first_step(x, bits):
    """Scale and zero point of the extremes, and the codes under them, [groups, 64], float64."""
    low, high = x.double().amin(1, keepdim=True), x.double().amax(1, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    return scale, -low / scale, ((x - low) / scale).round()


def test_a_large_beta_keeps_the_first_zero_point(code, gaussian):
    """Then e = x - x^, and z = mean(Q - x^ / scale) = z; scales and zero points have 11 bits."""
    x = gaussian(64, 64)
    _, zero_point, _ = first_step(x, 3)
    coded = code(Hqq(bits=3, beta=1e6), x)
    assert coded.codes["zero_point"].double().numpy() == pytest.approx(zero_point[:, 0].numpy(), rel=2e-3)


def test_a_small_beta_takes_the_mean(code, gaussian):
    """Then e = 0, and after one step z = mean(Q - x / scale), of least squares.

    Codes within 2^-10 of a tie may round the other way under a float16 scale; a code in 64 is .016 of z.
    """
    x = gaussian(64, 64)
    scale, _, codes = first_step(x, 3)
    expected = (codes - x / scale).mean(1)
    found = code(Hqq(bits=3, beta=1e-6, iterations=1), x).codes["zero_point"].double()
    assert float((found - expected).abs().median()) < 4e-3
    assert float((found - expected).abs().max()) < 0.05


def test_without_a_step_it_rounds_between_the_extremes(code, gaussian):
    """To half a step, and at the ends by the rounding of a zero point below 256, at most 1/16 of a step."""
    x = gaussian(64, 64)
    scale = first_step(x, 8)[0]
    error = (code(Hqq(bits=8, iterations=0), x).reconstruction - x).abs()
    assert bool((error <= (0.5 + 1 / 16 + 1e-3) * scale * (1 + 2**-9)).all())


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_norm_it_minimizes_falls(code, laplacian, bits):
    """Mean |error|^.7 on a heavy-tailed source, against the extremes' zero point; by 1 % or more."""
    x = laplacian(512, 64)
    found, first = (
        float((code(Hqq(bits=bits, iterations=steps), x).reconstruction - x).abs().pow(0.7).mean())
        for steps in (20, 0)
    )
    assert found < 0.99 * first


def test_groups_far_from_zero(code, gaussian):
    """A scale of max |x| / 1024 at least, so at most 1/1024 of it is lost with a zero point rounded to a step."""
    x = 1000 + 1e-3 * gaussian(8, 64)
    for y in (x, -x, torch.full((8, 64), 0.7), torch.zeros(8, 64)):
        error = (code(Hqq(bits=4), y).reconstruction - y).abs().max()
        assert float(error) <= float(y.abs().max()) / 1024


@pytest.mark.parametrize("shape", [(), (1,), (65,), (3, 70), (4, 3, 5, 5), (0,), (0, 5), (5, 0)])
def test_any_shape(code, gaussian, shape):
    assert code(Hqq(), gaussian(*shape)).reconstruction.shape == shape


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bits": 9}, "bits=9"),
        ({"p": 1.5}, "p=1.5"),
        ({"beta": 0}, "beta=0"),
        ({"axis": 1}, "no parameter 'axis'"),
    ],
)
def test_bad_parameters_say_what_is_allowed(parameters, message):
    with pytest.raises(ParameterError, match=message):
        Hqq(**parameters)


@pytest.mark.parametrize("scale", [1e18, 1e30, 1e37])
def test_values_far_beyond_a_static_codebook_are_clipped(code, gaussian, scale):
    """Their squares, 1e36 to 1e74, are no float32 numbers."""
    decoded = code(Hqq(), scale * gaussian(4, 64), fitted_on=gaussian(4, 64)).reconstruction
    assert bool(torch.isfinite(decoded).all())


def test_rates(code, gaussian):
    for group_size in (32, 128):
        coded = code(Hqq(bits=5, group_size=group_size), gaussian(256, 256))
        assert 8 * coded.nbytes / 2**16 == pytest.approx(5 + 32 / group_size, abs=0.01)


@parametrize_checks([Hqq(**point) for point in Hqq.sweep])
def test_contract(quantizer, check):
    check(quantizer)
