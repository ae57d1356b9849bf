import math

import pytest
import torch

from qbench.errors import ParameterError
from qbench.quantizers.stochastic_rounding import StochasticRounding


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_unbiased_with_the_bernoulli_variance(code, gaussian, bits, granularity):
    """200 values, each 4096 times among the same others: z of each mean, of variance step^2 p (1 - p)."""
    times = 4096
    x = gaussian(4, 50)
    quantizer = StochasticRounding(bits=bits, granularity=granularity, group_size=25)
    decoded = code(quantizer, x[:, None].repeat(1, times, 1)).reconstruction.double()
    low, high = decoded.amin(1), decoded.amax(1)
    p = ((x - low) / (high - low)).nan_to_num(0.0)
    variance = (high - low) ** 2 * p * (1 - p)
    # A value within 1/400 of a step of a level may never have left it.
    moved = (p > 0.0025) & (p < 0.9975)
    assert int(moved.sum()) > 180
    z = ((decoded.mean(1) - x) / (variance / times).sqrt())[moved]
    assert float(z.abs().max()) < 5
    assert abs(float(z.square().mean()) - 1) < 5 * math.sqrt(2 / z.numel())
    # A ratio of variances has the variance (1 / (p (1 - p)) - 4) / times: 5 standard errors of the mean.
    spread = ((1 / (p * (1 - p)) - 4) / times)[moved].mean().sqrt() / math.sqrt(int(moved.sum()))
    assert abs(float((decoded.var(1) / variance)[moved].mean()) - 1) < 5 * float(spread)


def test_only_the_two_neighbours_occur(code, gaussian):
    x = gaussian(1000)
    decoded = code(StochasticRounding(bits=4, granularity="tensor"), x).reconstruction
    step = float(decoded.abs()[decoded != 0].min())
    assert bool(((x - decoded).abs() < step * 1.0001).all())
    assert decoded.unique().numel() <= 15


def test_draws_from_the_given_generator_alone(code, gaussian):
    x, quantizer = gaussian(1000), StochasticRounding(bits=3)
    before = torch.random.get_rng_state()
    first, second = (code(quantizer, x, seed=1).reconstruction for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, code(quantizer, x, seed=2).reconstruction)
    assert torch.equal(before, torch.random.get_rng_state())


def test_zeros_and_the_ends_of_the_range_are_exact(code):
    """Where the end of the range over 2^(b-1) - 1 is a float16; elsewhere the scale is a little larger."""
    for bits, end in ((2, 0.75), (3, 0.75), (4, 0.875)):
        x = torch.tensor([end, 0.0, 0.0, -end] * 100)
        assert torch.equal(code(StochasticRounding(bits=bits), x).reconstruction, x)


def test_two_bits_are_three_levels_and_pack_as_such(code, gaussian):
    coded = code(StochasticRounding(bits=2, granularity="tensor"), gaussian(1 << 16))
    assert coded.codes["codes"].levels == 3
    assert 8 * coded.nbytes / 2**16 == pytest.approx(1.6, abs=0.01)


def test_one_bit_is_refused():
    with pytest.raises(ParameterError, match="bits=1"):
        StochasticRounding(bits=1)
