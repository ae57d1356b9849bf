import functools
import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.quantizers.qsgd import QSGD
from qbench.testing import parametrize_checks


@pytest.fixture
def code(code):
    """Draws of another seed than the data's."""
    return functools.partial(code, seed=1)


def relative_errors(code, quantizer, x):
    """|x^ - x|^2 / |x|^2 of every row of x, a bucket each."""
    error = code(quantizer, x).reconstruction.double() - x
    return error.square().sum(1) / x.double().square().sum(1)


@pytest.mark.parametrize(
    ("n", "s", "expected", "error"),
    [
        (128, 1, 8.048, 0.003),
        (128, 3, 2.015, 0.001),
        (128, 7, 0.4347, 0.0002),
        (128, 15, 0.09479, 0.00005),
        (512, 15, 0.3792, 0.0001),
    ],
)
def test_relative_variance_of_gaussian_buckets(code, gaussian, n, s, expected, error):
    """4096 buckets against a simulation with its own standard error: |z| < 4."""
    found = relative_errors(code, QSGD(levels=s, bucket_size=n), gaussian(4096, n))
    own = float(found.std()) / math.sqrt(found.numel())
    assert abs(float(found.mean()) - expected) < 4 * math.hypot(own, error)


@pytest.mark.parametrize("norm", ["l2", "max"])
@pytest.mark.parametrize("s", [1, 4, 15])
def test_mean_and_variance_given_the_values(code, gaussian, norm, s):
    """One bucket of 100 values 4096 times: mean x, squared error (|v| / s)^2 sum p (1 - p), both within 5 errors."""
    times, v = 4096, gaussian(100)
    decoded = code(QSGD(levels=s, bucket_size=100, norm=norm), v.repeat(times, 1)).reconstruction.double()
    length = float(v.double().norm() if norm == "l2" else v.double().abs().max())
    p = (s * v.double().abs() / length) % 1
    variance = (length / s) ** 2 * p * (1 - p)
    # A value that keeps to one level has a mean off by float32 arithmetic alone.
    z = (decoded.mean(0) - v) / (variance / times).sqrt().clamp(min=1e-6)
    assert float(z.abs().max()) < 5
    squares = (decoded - v).square().sum(1)
    assert abs(float(squares.mean() - variance.sum())) < 5 * float(squares.std()) / math.sqrt(times) + 1e-9


@pytest.mark.parametrize("s", [1, 2, 8, 30])
@pytest.mark.parametrize("kind", ["gaussian", "constant", "few"])
def test_bounds_of_lemma_3_1(code, gaussian, kind, s):
    """2000 buckets of 100: relative variance <= min(n / s^2, sqrt(n) / s), nonzeros <= s (s + sqrt(n)), on average."""
    n = 100
    v = {"gaussian": gaussian(n), "constant": torch.ones(n), "few": torch.ones(n) * (torch.arange(n) < 3)}[
        kind
    ]
    x = v.repeat(2000, 1)
    decoded = code(QSGD(levels=s, bucket_size=n), x).reconstruction
    errors = (decoded - x).double().square().sum(1) / float(v.square().sum())
    nonzeros = (decoded != 0).double().sum(1)
    for found, bound in ((errors, min(n / s**2, n**0.5 / s)), (nonzeros, min(n, s * (s + n**0.5)))):
        assert float(found.mean()) <= bound + 4 * float(found.std()) / math.sqrt(2000) + 1e-6


def test_one_level_of_a_constant_by_closed_form(code):
    """P(nonzero) = 1 / sqrt(n): sqrt(n) nonzeros and relative variance sqrt(n) - 1, binomial: within 5 errors."""
    n, buckets = 400, 3000
    found = code(QSGD(levels=1, bucket_size=n), torch.ones(buckets, n)).reconstruction
    share, p = float((found != 0).double().mean()), n**-0.5
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / (n * buckets))
    assert float((found.double() - 1).square().mean()) == pytest.approx(share * (1 / p - 1) ** 2 + 1 - share)


def test_code_length_of_theorem_3_2(code, gaussian):
    """Sparse: one level, n = 2^16: under (3 + 1.5 log2(2 (s^2 + n) / (s (s + sqrt n)))) s (s + sqrt n) + 32 bits."""
    n, s = 1 << 16, 1
    most = s * (s + math.sqrt(n))
    bound = (3 + 1.5 * math.log2(2 * (s**2 + n) / most)) * most + 32
    coded = code(QSGD(levels=s, bucket_size=None), gaussian(n))
    assert 8 * coded.nbytes < bound
    assert "gaps" in coded.codes


@pytest.mark.parametrize("coder", ["elias", "rans"])
def test_code_length_of_corollary_3_3(code, gaussian, coder):
    """Dense: s = sqrt(n): under 2.8 n + 32 bits. q is N(0, 1) rounded at random: 2.16 bits of entropy."""
    n = 1 << 16
    coded = code(QSGD(levels=256, bucket_size=None, coder=coder), gaussian(n))
    assert 2.15 * n < 8 * coded.nbytes < 2.8 * n + 32


def test_the_coder_changes_bytes_alone(code, gaussian):
    x = gaussian(3000)
    for s in (1, 5, 200):
        decoded = [code(QSGD(levels=s, coder=c), x).reconstruction for c in ("fixed", "elias", "rans")]
        assert torch.equal(decoded[0], decoded[1])
        assert torch.equal(decoded[0], decoded[2])


def test_the_last_bucket_counts_its_own_elements_only(code):
    """Of 5 ones in buckets of 4 the last has norm 1 and is certain."""
    x = torch.ones(5)
    coded = code(QSGD(levels=1, bucket_size=4), x)
    # the largest element is 1/2 in the quantizer's units
    assert coded.codes["norm"].tolist() == [1.0, 0.5]
    assert coded.reconstruction[4] == 1.0


def test_norms_of_tiny_buckets_do_not_underflow(code):
    x = torch.cat([torch.ones(4), torch.full((4,), 2.0**-100)])
    norms = code(QSGD(levels=1, bucket_size=4), x).codes["norm"]
    assert norms.tolist() == [1.0, 2.0**-100]


def test_fixed_rate_by_hand(code, gaussian):
    """15 levels: 4 bits. Four norms 16 bytes; schema 1 + (5 + 1) + (6 + 2); shape 1 + 1, count 2."""
    coded = code(QSGD(levels=7, bucket_size=512, coder="fixed"), gaussian(2048))
    assert coded.nbytes == 1024 + 16 + 15 + 2 + 2


def test_levels_are_at_least_one():
    with pytest.raises(ParameterError, match="levels=0"):
        QSGD(levels=0)


@parametrize_checks([QSGD(**point) for point in QSGD.sweep] + [QSGD(bucket_size=None, coder="fixed")])
def test_contract(quantizer, check):
    check(quantizer)
