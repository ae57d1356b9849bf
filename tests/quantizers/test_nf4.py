import math

import numpy as np
import pytest
import torch
from scipy import stats

from qbench.quantizers.nf4 import NF4, Nf4, dynamic_tree


def test_the_table_is_that_of_gaussian_quantiles():
    """Probabilities evenly spaced from .9677083 to 1/2: 8 positive values, 7 negative, over the largest.

    The table was computed in float32 and with a rounded offset: 1e-6.
    """
    offset = 0.9677083
    positive = stats.norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    negative = -stats.norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    table = np.sort(np.concatenate([positive, negative, [0.0]])) / positive.max()
    assert NF4.numpy() == pytest.approx(table, abs=1e-6)


@pytest.mark.parametrize("group_size", [64, 128, 256])
def test_every_value_goes_to_the_nearest(code, gaussian, group_size):
    x = gaussian(12, group_size)
    absmax = x.abs().amax(1, keepdim=True)
    coded = code(Nf4(group_size=group_size), x)
    error = (x[..., None] - (NF4 * absmax)[:, None]).abs().amin(-1)
    assert torch.allclose((coded.reconstruction - x).abs(), error, rtol=0, atol=1e-6 * float(absmax.max()))
    codes = coded.codes["codes"].values.reshape(x.shape)
    assert set(codes[x == absmax].tolist()) == {15}
    assert set(codes[x == -absmax].tolist()) == {0}


def test_the_dynamic_tree_has_seven_decades_of_doubling_density():
    """In the decade below 1, 64 values .9/64 apart from .1 + .45/64; a decade below half as many, down to one."""
    tree = dynamic_tree()
    assert tree.shape == (256,)
    assert bool((tree.diff() > 0).all())
    assert float(tree[-1]) == 1.0
    assert torch.equal(tree[:127].flip(0), -tree[128:255])
    for decade in range(7):
        low, high = 10.0 ** (decade - 7), 10.0 ** (decade - 6)
        inside = tree[(tree > low) & (tree < high)].double()
        assert inside.numel() == 2**decade
        width = 0.9 * high / 2**decade
        assert inside.tolist() == pytest.approx([low + (k + 0.5) * width for k in range(2**decade)], rel=1e-6)


def test_double_quantization_moves_a_scale_by_half_a_step_of_the_tree(code, gaussian):
    """At most .45/64 of the largest deviation from the mean, of 256 groups; the exponent is that of the core."""
    x = gaussian(600, 64)
    coded = code(Nf4(double_quantization=True), x)
    largest = math.frexp(float(x.abs().max()))[1]
    absmax = x.abs().amax(1) * 2.0**-largest
    deviation = absmax - absmax.mean()
    parts = coded.codes
    assert float(parts["mean"]) == pytest.approx(float(absmax.mean()), rel=1e-6)
    assert parts["scale"].shape == (3,)
    decoded = dynamic_tree()[parts["absmax"].values.long()] * parts["scale"].repeat_interleave(256)[:600]
    for group in range(3):
        rows = slice(256 * group, min(600, 256 * group + 256))
        top = float(deviation[rows].abs().max())
        assert float(parts["scale"][group]) == pytest.approx(top, rel=1e-5)
        assert float((decoded - deviation)[rows].abs().max()) <= 0.45 / 64 * top * 1.001


def test_equal_groups_lose_nothing_to_double_quantization(code):
    x = NF4.repeat(8) * 0.7
    decoded = code(Nf4(double_quantization=True), x).reconstruction
    assert torch.allclose(decoded, x, rtol=1e-6)
