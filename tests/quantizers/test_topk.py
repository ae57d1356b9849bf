import math

import pytest
import torch
from scipy import stats

from qbench.quantizers.topk import TopK
from qbench.testing import parametrize_checks


def test_keeps_the_largest_by_hand(code):
    x = torch.tensor([[0.1, -0.9, 0.0], [0.5, 0.2, -0.3]])
    decoded = code(TopK(fraction=0.5), x).reconstruction
    assert torch.equal(decoded, torch.tensor([[0.0, -0.9, 0.0], [0.5, 0.0, -0.3]]))


def test_of_equal_magnitudes_the_first_are_kept(code):
    x = torch.tensor([0.25, -0.5, 0.5, 0.75, -0.5, 0.5])
    assert code(TopK(fraction=0.5), x).reconstruction.tolist() == [0, -0.5, 0.5, 0.75, 0, 0]
    zeros = code(TopK(fraction=0.5, positions="elias"), torch.zeros(6))
    assert zeros.codes["gaps"].values.tolist() == [0, 0, 0]


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


@pytest.mark.parametrize("positions", ["index", "bitmap", "elias", "rans", "shortest"])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 1.0])
def test_the_coding_changes_bytes_alone(code, gaussian, fraction, positions):
    x = gaussian(5000)
    found = code(TopK(fraction=fraction, positions=positions), x).reconstruction
    assert torch.equal(found, code(TopK(fraction=fraction, positions="index"), x).reconstruction)


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5])
def test_positions_cost_little_more_than_their_entropy(code, gaussian, fraction):
    """n h(f) bits, by the binary entropy, within 2 % and 60 bytes; at most log2(n + 1) of them tell k."""
    n = 1 << 18
    coded = code(TopK(fraction=fraction), gaussian(n))
    k = coded.codes["values"].numel()
    entropy = n * float(stats.entropy([k / n, 1 - k / n], base=2))
    assert entropy - 40 < 8 * coded.nbytes - 32 * k < 1.02 * entropy + 8 * 60


def test_elias_positions_take_under_twelve_bits(code, gaussian):
    """Of h(f) / f = 8.08 bits for each position at f = .01."""
    n = 1 << 18
    coded = code(TopK(fraction=0.01, positions="elias"), gaussian(n))
    bits = 8 * coded.nbytes / coded.codes["values"].numel() - 32
    assert 8.08 < bits < 12
    assert coded.codes["gaps"].coder == "elias"


def test_index_bits_by_hand(code, gaussian):
    """Ten float32; six of 10 bits in 8 bytes and four in 5; schema 1 + (7 + 1) + (6 + 3), shape 1 + 1, count 1."""
    coded = code(TopK(fraction=0.01, positions="index"), gaussian(1024))
    assert coded.nbytes == 40 + 13 + 18 + 3


@parametrize_checks(
    [TopK(**point) for point in TopK.sweep]
    + [TopK(fraction=0.05, positions=p) for p in ("index", "bitmap", "elias", "rans")]
)
def test_contract(quantizer, check):
    check(quantizer)
