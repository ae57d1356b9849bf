import math

import pytest
import torch

from qbench.quantizers.ternary import Ternary, optimal_scale

RULES = ["twn", "gaussian", "optimal"]


def test_by_hand(code):
    """Mean |x| is .375: TWN cuts at .2625. The best alpha of (.75, .5, .125, .125) is .625: 2 * .625^2 = .78125."""
    x = torch.tensor([0.75, -0.5, 0.125, -0.125])
    for threshold in ("twn", "optimal"):
        decoded = code(Ternary(threshold=threshold), x).reconstruction
        assert decoded.tolist() == [0.625, -0.625, 0, 0]


def test_optimum_equals_brute_force(code, laplacian):
    """Over every set that can become nonzero; a float16 scale is off by 2^-10, its square counts."""
    rows = laplacian(40, 9)
    scale = optimal_scale(rows.abs())
    decoded = code(Ternary(threshold="optimal", granularity="group", group_size=9), rows).reconstruction
    for row, alpha, found in zip(rows.double(), scale.double(), decoded.double(), strict=True):
        kept = (torch.arange(1, 2**9)[:, None] >> torch.arange(9)) & 1
        means = (row.abs() * kept).sum(1) / kept.sum(1)
        errors = (row.abs() - means[:, None] * kept).square().sum(1)
        reached = (row.abs() - alpha * (row.abs() > alpha / 2)).square().sum()
        assert float(reached) == pytest.approx(float(errors.min()), rel=1e-6)
        assert float((row - found).square().sum()) <= float(errors.min() + 2**-20 * row.square().sum())


@pytest.mark.parametrize(
    ("threshold", "exact"), [("twn", 0.19162), ("gaussian", 0.19017), ("optimal", 0.19017)]
)
def test_gaussian_error(code, gaussian, z_score, threshold, exact):
    """Held out, within 4 standard errors."""
    x = gaussian(1 << 19)
    quantizer = Ternary(threshold=threshold, granularity="tensor")
    decoded = code(quantizer, x, fitted_on=gaussian(1 << 19, seed=1)).reconstruction
    assert abs(z_score(x, decoded, exact)) < 4


def test_gaussian_entropy(code, gaussian):
    """1.536 bits; of n codes the estimate varies by var(log p) / n, with at most 1 bit of deviation, times four."""
    codes = code(Ternary(threshold="gaussian"), gaussian(1 << 18)).codes["codes"].values
    shares = codes.long().bincount(minlength=3).double() / codes.numel()
    assert float(-(shares * shares.log2()).sum()) == pytest.approx(1.536, abs=0.0005 + 4 / math.sqrt(1 << 18))


@pytest.mark.parametrize("threshold", RULES)
def test_the_last_group_counts_its_own_elements_only(code, gaussian, threshold):
    x = gaussian(64 + 11)
    quantizer = Ternary(threshold=threshold, granularity="group", group_size=64)
    tail = code(Ternary(threshold=threshold, granularity="tensor"), x[64:]).reconstruction
    # Both scales are float16, of tensors in different units.
    assert code(quantizer, x).reconstruction[64:].tolist() == pytest.approx(tail.tolist(), rel=2**-9)


@pytest.mark.parametrize("threshold", RULES)
def test_three_levels_are_recovered(code, threshold):
    """Half of the magnitudes are a: TWN cuts at .35 a, sqrt(.5) 1.224 a / 2 = .43 a, and a / 2."""
    x = torch.tensor([[0.5, -0.5, 0, 0], [2.0, 0, -2.0, 0]])
    decoded = code(Ternary(threshold=threshold), x).reconstruction
    assert torch.equal(decoded.sign(), x.sign())
    if threshold != "gaussian":
        assert torch.equal(decoded, x)


def test_rate_by_hand(code):
    """Five codes a byte: 200 bytes for 1000. Schema 1 + (1 + 5) + 1 + 1, count of 1000 in 2 bytes."""
    assert code(Ternary(granularity="tensor"), torch.ones(1000)).nbytes == 200 + 9 + 2
