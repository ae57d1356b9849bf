import math

import pytest
import torch
from scipy import stats

from qbench.quantizers.topk import TopK


def test_keeps_the_largest_by_hand(code):
    x = torch.tensor([[0.1, -0.9, 0.0], [0.5, 0.2, -0.3]])
    decoded = code(TopK(fraction=0.5), x).reconstruction
    assert torch.equal(decoded, torch.tensor([[0.0, -0.9, 0.0], [0.5, 0.0, -0.3]]))


def test_of_equal_magnitudes_the_first_are_kept(code):
    x = torch.tensor([0.25, -0.5, 0.5, 0.75, -0.5, 0.5])
    assert code(TopK(fraction=0.5), x).reconstruction.tolist() == [0, -0.5, 0.5, 0.75, 0, 0]
    assert code(TopK(fraction=0.5), torch.zeros(6)).codes["gaps"].values.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "fraction", "kept"), [(1, 0.01, 1), (200, 0.001, 1), (200, 0.5, 100), (7, 1.0, 7)]
)
def test_number_of_kept_values(code, gaussian, size, fraction, kept):
    x = gaussian(size)
    coded = code(TopK(fraction=fraction), x)
    assert coded.codes["values"].numel() == kept
    assert int((coded.reconstruction != 0).sum()) == kept
    if fraction == 1.0:
        assert torch.equal(coded.reconstruction, x)


def test_kept_values_are_the_largest_and_exact(code, gaussian):
    x = gaussian(30, 1000)
    decoded = code(TopK(fraction=0.02), x).reconstruction
    kept = decoded != 0
    assert torch.equal(decoded[kept], x[kept])
    assert float(x[kept].abs().min()) >= float(x[~kept].abs().max())


def test_half_values_are_the_rounded_ones(code, gaussian):
    x = gaussian(1000)
    whole, half = (code(TopK(fraction=0.1, value_dtype=d), x).reconstruction for d in ("float32", "float16"))
    assert torch.equal(half, whole.half().float())


@pytest.mark.parametrize("fraction", [0.01, 0.1])
def test_energy_left_out_of_a_gaussian(code, gaussian, fraction):
    """MSE = 1 - f - 2 t p(t) where P(|x| > t) = f. Influence function min(x^2, t^2): 4 standard errors."""
    n, t = 1 << 18, stats.norm.isf(fraction / 2)
    x = gaussian(n)
    mse = float((code(TopK(fraction=fraction), x).reconstruction - x).double().square().mean())
    standard_error = float(x.double().square().clamp(max=t**2).std()) / math.sqrt(n)
    assert abs(mse - (1 - fraction - 2 * t * stats.norm.pdf(t))) < 4 * standard_error


def test_positions_cost_little_more_than_their_entropy(code, gaussian):
    """h(f) / f = 8.08 bits for each position at f = .01; the Elias delta code takes under 12."""
    n = 1 << 18
    coded = code(TopK(fraction=0.01), gaussian(n))
    bits = 8 * coded.nbytes / coded.codes["values"].numel() - 32
    assert 8.08 < bits < 12
    assert coded.codes["gaps"].coder == "elias"
