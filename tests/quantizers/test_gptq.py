"""GPTQ against the optimal brain surgeon with explicit inverses, and plain rounding."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from qbench.components import Context
from qbench.errors import InputError, ParameterError
from qbench.message import nbytes
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.uniform import Uniform
from qbench.testing import checks

EXACT = {"scale_dtype": "float32", "damping": 0.0}


def through(quantizer, x: Tensor, gram: Tensor | None):
    """Codes and reconstruction, decoded by an instance that has seen nothing."""
    context = Context(torch.Generator(), gram=gram)
    codebook = quantizer.fit(x, context=context)
    codes = quantizer.encode(x, codebook, context=context)
    fresh = type(quantizer)(**dict(quantizer.parameters))
    return codes, fresh.decode(codes, codebook, x.shape)


def problem(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights below 1 and the gram of inputs with strong correlations."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, columns, generator=generator) * 1.8 - 0.9
    mixing = torch.randn(columns, columns, generator=generator) / math.sqrt(columns)
    inputs = (
        torch.randn(4 * columns, columns, generator=generator) @ (mixing + 0.5 * torch.eye(columns)) + 0.3
    )
    return x, inputs.T @ inputs / len(inputs)


def output_errors(x: Tensor, y: Tensor, gram: Tensor) -> Tensor:
    """Of every output, [rows]."""
    difference = (x - y).double()
    return ((difference @ gram.double()) * difference).sum(1)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric", "midrise"])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("act_order", [False, True])
def test_independent_inputs_leave_nearest_rounding(gaussian, scheme, granularity, act_order):
    """Bit for bit, for a diagonal gram: no column can make up for another."""
    x = gaussian(6, 48) / 8
    diagonal = torch.arange(1.0, 49.0).roll(20)
    for bits, choice in itertools.product((2, 3, 8), ("minmax", "mse")):
        grid = {"bits": bits, "scheme": scheme, "granularity": granularity, "group_size": 16, "range": choice}
        plain = through(Uniform(**grid), x, None)
        for gram in (torch.eye(48), torch.diag(diagonal)):
            codes, decoded = through(Gptq(**grid, act_order=act_order), x, gram)
            assert torch.equal(decoded, plain[1])
            assert torch.equal(codes["codes"].values, plain[0]["codes"].values)


def test_two_columns_by_hand():
    """Levels are the multiples of 1/4 and H = [[2, b], [b, 1]]: W = (.10, w) becomes (0, q), q nearest to w + .10 b.

    w = .30: .42 with b = 1.2, so .5; .30 with b = 0 and .18 with b = -1.2, so .25. A third weight of .75 fixes
    the scale and is not correlated with them.
    """
    grid = {"bits": 3, "granularity": "tensor", **EXACT}
    for b, expected in ((1.2, 0.5), (0.0, 0.25), (-1.2, 0.25)):
        gram = torch.tensor([[2.0, b, 0], [b, 1, 0], [0, 0, 1]])
        _, decoded = through(Gptq(**grid), torch.tensor([[0.10, 0.30, 0.75]]), gram)
        assert decoded.tolist() == [[0.0, expected, 0.75]]
    # .15 - .12 * 1.4 = -.018, so 0 where nearest rounding takes .25
    gram = torch.tensor([[2.0, -1.4, 0], [-1.4, 1, 0], [0, 0, 1]])
    assert through(Gptq(**grid), torch.tensor([[0.12, 0.15, 0.75]]), gram)[1].tolist() == [[0.0, 0.0, 0.75]]


def asymmetric_grid(columns: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    low, high = columns.amin(1).clamp(max=0), columns.amax(1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).float()
    return scale, (-low / scale).round()


def surgeon(x: Tensor, hessian: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor]:
    """Optimal brain surgeon, column after column: the inverse of what is left of H, computed anew each time.

    Codes, and what they stand for.
    """
    weights, codes, decoded = x.double().clone(), torch.empty_like(x), torch.empty_like(x)
    for j in range(x.shape[1]):
        if j % group_size == 0:
            scale, zero_point = asymmetric_grid(weights[:, j : j + group_size].float(), bits)
        code = (weights[:, j] / scale + zero_point).round().clamp(0, 2**bits - 1)
        inverse = torch.linalg.inv(hessian[j:, j:])
        decoded[:, j] = scale * (code - zero_point)
        error = (weights[:, j] - scale.double() * (code - zero_point)) / inverse[0, 0]
        weights[:, j:] -= error[:, None] * inverse[0]
        codes[:, j] = code
    return codes, decoded


@pytest.mark.parametrize(("bits", "group_size"), [(2, 200), (3, 200), (4, 16), (8, 24), (4, 150)])
def test_equals_the_optimal_brain_surgeon(bits, group_size):
    """Every code of 8 x 200, past the blocks of 128; groups that divide 200 and groups that do not."""
    x, gram = problem(8, 200)
    quantizer = Gptq(bits=bits, scheme="asymmetric", group_size=group_size, **{**EXACT, "damping": 0.05})
    codes, decoded = through(quantizer, x, gram)
    hessian = gram.double() + 0.05 * gram.double().diagonal().mean() * torch.eye(200)
    expected = surgeon(x, hessian, bits, group_size)
    assert torch.equal(codes["codes"].values.reshape(8, 200).float(), expected[0])
    torch.testing.assert_close(decoded, expected[1], rtol=1e-5, atol=1e-6)
    assert codes["scale"].numel() == 8 * math.ceil(200 / group_size)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("granularity", ["channel", "group"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_layer_errs_less_than_with_nearest_rounding(gain_z, bits, granularity, act_order):
    """4 paired standard errors over the outputs of three layers with correlated inputs."""
    grid = {"bits": bits, "scheme": "asymmetric", "granularity": granularity, "range": "mse"}
    before, after = [], []
    for seed in range(3):
        x, gram = problem(32, 128, seed)
        before.append(output_errors(x, through(Uniform(**grid), x, None)[1], gram))
        after.append(output_errors(x, through(Gptq(**grid, act_order=act_order), x, gram)[1], gram))
    assert gain_z(torch.cat(before), torch.cat(after)) > 4


def test_act_order_is_the_problem_with_its_columns_sorted():
    """Codes come back in natural order; the scales of groups are those of the weights as they were."""
    x, gram = problem(8, 60)
    order = gram.diagonal().argsort(descending=True)
    channel = {"bits": 3, "granularity": "channel"}
    natural, decoded = through(Gptq(**channel, act_order=True), x, gram)
    ordered, expected = through(Gptq(**channel), x[:, order], gram[order][:, order])
    assert torch.equal(
        natural["codes"].values.reshape(8, 60)[:, order], ordered["codes"].values.reshape(8, 60)
    )
    assert torch.equal(decoded[:, order], expected)
    grouped = {"bits": 3, "group_size": 20}
    scales = through(Gptq(**grouped, act_order=True), x, gram)[0]["scale"]
    assert torch.equal(scales, through(Uniform(**grouped), x, None)[0]["scale"])


def test_unused_inputs_are_zeros_and_change_nothing():
    x, gram = problem(4, 30)
    dead = torch.zeros(30, dtype=torch.bool)
    dead[[0, 7, 29]] = True
    gram[dead], gram[:, dead] = 0, 0
    quantizer = Gptq(bits=4, granularity="channel")
    context = Context(torch.Generator(), gram=gram)
    codebook = quantizer.fit(x, context=context)
    decoded = quantizer.decode(quantizer.encode(x, codebook, context=context), codebook, x.shape)
    alive = Context(torch.Generator(), gram=gram[~dead][:, ~dead])
    rest = quantizer.encode(x[:, ~dead], codebook, context=alive)
    assert torch.equal(decoded[:, ~dead], quantizer.decode(rest, codebook, torch.Size([4, 27])))
    assert not decoded[:, dead].any()
    assert not through(Gptq(bits=4), x, torch.zeros(30, 30))[1].any()


@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_singular_grams_of_any_size(gain_z, damping, size):
    """Two inputs where there are 30: the layer's error is what those two directions see, of 64 outputs."""
    x, _ = problem(64, 30)
    inputs = torch.randn(2, 30, generator=torch.Generator().manual_seed(1))
    gram = inputs.T @ inputs * size
    plain, found = (
        output_errors(x, through(quantizer, x, given)[1], gram) / size
        for quantizer, given in ((Uniform(bits=3), None), (Gptq(bits=3, damping=damping), gram))
    )
    assert gain_z(plain, found) > 4


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (70,), (3, 70), (4, 3, 5, 5), (0,), (0, 5), (5, 0), (2, 0, 3)])
def test_any_shape(gaussian, granularity, act_order, shape):
    x = gaussian(*shape) / 8
    features = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    quantizer = Gptq(granularity=granularity, act_order=act_order, scheme="asymmetric")
    assert through(quantizer, x, torch.eye(features))[1].shape == shape


def test_kernels_are_columns(gaussian):
    x, gram = problem(6, 36)
    quantizer = Gptq(bits=3, granularity="channel")
    flat = through(quantizer, x, gram)[1]
    assert torch.equal(through(quantizer, x.reshape(6, 4, 3, 3), gram)[1].reshape(6, 36), flat)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rate_of_a_group(bits):
    """b + 16/g + b/g bits. The number of codes takes 3 bytes, of zero points 2, the shape of scales 1 + 2.

    The schema: parts, "codes", "scale", "zero_point", 1 + 8 + 7 + 13; of 2^8 levels a byte more, twice.
    """
    x, gram = problem(64, 256)
    codes, _ = through(Gptq(bits=bits, scheme="asymmetric", group_size=64), x, gram)
    schema = 29 + 2 * (bits == 8)
    assert 8 * (nbytes(codes) - schema - 8) == x.numel() * (bits + (16 + bits) / 64)


@pytest.mark.parametrize(
    ("gram", "said"),
    [
        (None, "no gram; tracks that calibrate"),
        (torch.eye(4), r"shape \(4, 4\), the weights have 5 inputs; give \[5, 5\]"),
        (torch.eye(5) * math.nan, "NaN or infinite"),
    ],
)
def test_grams_that_are_none(gram, said):
    with pytest.raises(InputError, match=said):
        through(Gptq(), torch.ones(3, 5), gram)


def test_codebook_of_other_channels_is_refused():
    context = Context(torch.Generator(), gram=torch.eye(4))
    quantizer = Gptq(granularity="channel")
    codebook = quantizer.fit(torch.ones(3, 4), context=context)
    with pytest.raises(InputError, match="3 channels, the tensor has 5"):
        quantizer.encode(torch.ones(5, 4), codebook, context=context)


def test_only_where_there_is_a_gram():
    assert not Gptq().suits("weight", frozenset())
    assert Gptq().suits("weight", frozenset({"gram"}))
    with pytest.raises(ParameterError, match="one symmetric bit"):
        Gptq(bits=1)


# These two hand over grams of 2048 and 8192 inputs, which takes minutes.
LARGE = ("static-codebook", "not-below-the-limit")


@pytest.mark.parametrize("check", [check for check in checks() if check.name not in LARGE], ids=str)
@pytest.mark.parametrize("point", Gptq.sweep, ids=str)
def test_contract(point, check):
    check(Gptq(**point))
