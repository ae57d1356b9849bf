import itertools

import numpy as np
import pytest
import torch

from qbench.components import Context
from qbench.errors import InputError
from qbench.message import nbytes
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.kmeans_hessian import KMeansHessian, weighted_optimal
from qbench.quantizers.scalar_codebook import optimal


def weighted_error(values, weights, levels):
    return float((weights * (values[:, None] - levels).square().amin(1)).sum())


def least_weighted_error(values, weights, count):
    """By trying every way to cut the ascending values into runs."""
    order = np.argsort(values, kind="stable")
    values, weights, best = values[order], weights[order], np.inf
    for cuts in itertools.combinations(range(1, len(values)), count - 1):
        runs = zip(np.split(values, cuts), np.split(weights, cuts))
        error = 0.0
        for run, weight in runs:
            mean = (run * weight).sum() / max(weight.sum(), 1e-300)
            error += (weight * (run - mean) ** 2).sum()
        best = min(best, error)
    return best


@pytest.mark.parametrize("integers", [False, True])
def test_levels_equal_brute_force(integers):
    random = np.random.default_rng(0)
    for _ in range(100):
        size = int(random.integers(1, 12))
        values = random.integers(-3, 4, size).astype(float) if integers else random.standard_normal(size)
        weights = (
            random.integers(0, 3, size).astype(float) if integers else random.exponential(size=size) ** 3
        )
        weights[0] += 1.0
        count = int(random.integers(1, min(size, 5) + 1))
        x, h = torch.tensor(values), torch.tensor(weights)
        levels = weighted_optimal(x, h, count)
        assert levels.shape == (count,)
        assert bool((levels.diff() >= 0).all())
        least = least_weighted_error(values, weights, count)
        assert weighted_error(x, h, levels) == pytest.approx(least, abs=1e-12)


@pytest.mark.parametrize("n", [3000, 20000])
def test_equal_weights_are_k_means(code, gaussian, n):
    """Bit for bit, in the exact range and beyond it."""
    x = gaussian(n)
    assert torch.equal(weighted_optimal(x, torch.full_like(x, 0.3), 8), optimal(x, 8))
    assert torch.equal(code(KMeansHessian(bits=3), x).reconstruction, code(KMeans(bits=3), x).reconstruction)


@pytest.mark.parametrize("n", [3000, 20000])
def test_a_weight_of_two_is_the_value_twice(gaussian, n):
    """Exactly where the optimum is exact; beyond, both are Lloyd's local optima from about the same start."""
    x = gaussian(n)
    twice = x > 0.5
    weighted = weighted_optimal(x, 1.0 + twice, 8)
    repeated = optimal(torch.cat([x, x[twice]]), 8)
    assert torch.allclose(weighted, repeated, atol=1e-9 if n <= 4096 else 2e-3)


def test_better_than_k_means_where_weights_differ(gaussian):
    x = gaussian(20000)
    h = torch.exp(3 * gaussian(20000, seed=1))
    ours, plain = weighted_optimal(x, h, 8), optimal(x, 8)
    assert weighted_error(x.double(), h.double(), ours) < 0.99 * weighted_error(x.double(), h.double(), plain)


@pytest.mark.parametrize("n", [100, 10000])
def test_weights_of_any_size(gaussian, n):
    """A value without weight is ignored; weights of 1e-30 beside 1 leave finite, ascending levels."""
    x = gaussian(n)
    h = torch.where(torch.arange(n) % 3 == 0, 1.0, 1e-30)
    for weights in (h, h * 1e-8, h.floor(), h * (x > 0)):
        levels = weighted_optimal(x, weights, 5)
        assert bool(torch.isfinite(levels).all())
        assert bool((levels.diff() >= 0).all())
    assert torch.allclose(weighted_optimal(x, h, 5), weighted_optimal(x[::3], torch.ones_like(x[::3]), 5))
    assert weighted_optimal(x[:5], torch.tensor([0.0, 1, 0, 0, 0]), 2).tolist() == [float(x[1])] * 2


def test_importance_comes_from_the_context():
    """Weighted mean of two values, 3 : 1, and the other two in the other cell."""
    x, h = torch.tensor([[0.0, 0.5], [-0.5, -0.5]]), torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    quantizer, context = KMeansHessian(bits=1), Context(torch.Generator(), importance=h)
    codebook = quantizer.fit(x, context=context)
    assert codebook["levels"].tolist() == pytest.approx([-1 / 3, 0.5])
    codes = quantizer.encode(x, codebook, context=context)
    assert codes["codes"].values.tolist() == [0, 1, 0, 0]
    zero = quantizer.fit(x, context=Context(torch.Generator(), importance=torch.zeros_like(x)))
    assert torch.equal(zero["levels"], quantizer.fit(x, context=Context(torch.Generator()))["levels"])


@pytest.mark.parametrize(("importance", "said"), [([1.0], r"shape \(1,\)"), ([1.0, -1.0], "negative")])
def test_importance_that_is_none(importance, said):
    context = Context(torch.Generator(), importance=torch.tensor(importance))
    with pytest.raises(InputError, match=said):
        KMeansHessian().fit(torch.ones(2), context=context)


def test_only_where_there_is_an_importance():
    assert not KMeansHessian().suits("weight", frozenset())
    assert KMeansHessian().suits("weight", frozenset({"importance"}))


def test_rate_by_hand(code, gaussian):
    """24 values of 5 levels a word of 7 bytes: 41 words, the last 15 in 5 bytes; count 2, schema 9.

    The codebook: five float32, schema 1 + 1 + 6 + 1, dimensions 1, size 1."""
    coded = code(KMeansHessian(levels=5), gaussian(999))
    assert nbytes(coded.codebook) == 5 * 4 + 11
    assert coded.nbytes == 41 * 7 + 5 + 2 + 9
