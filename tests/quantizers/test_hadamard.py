import math

import pytest
import torch

from qbench.components import Context, Quantizer
from qbench.errors import InputError
from qbench.message import nbytes, pack
from qbench.quantizers.e8p import E8P
from qbench.quantizers.hadamard import Hadamard
from qbench.quantizers.kmeans_hessian import KMeansHessian
from qbench.quantizers.lloyd_max import LloydMax
from qbench.quantizers.nested_lattice import NestedLattice
from qbench.quantizers.rotation import rotate
from qbench.quantizers.uniform import Uniform
from qbench.testing import parametrize_checks

SHAPES = [(8, 64), (5, 27), (4, 6, 3, 3), (1, 100), (200,), (1,), (3, 1), ()]


class Recorder(Quantizer):
    """Sends everything as it is and keeps what it was given, which no quantizer may."""

    name = "recorder"
    seen: list[tuple[torch.Tensor, Context]] = []

    def fit(self, x, *, context):
        self.seen.append((x, context))
        return {}

    def encode(self, x, codebook, *, context):
        self.seen.append((x, context))
        return {"x": x}

    def decode(self, codes, codebook, shape):
        return codes["x"].reshape(shape)


def given(x, *, sides="input", seed=0, **around):
    """What the inner quantizer finds at fit and at encode; and codebook and codes of the wrapper."""
    Recorder.seen.clear()
    quantizer = Hadamard(inner=Recorder(), sides=sides)
    context = Context(torch.Generator().manual_seed(seed), **around)
    codebook = quantizer.fit(x, context=context)
    codes = quantizer.encode(x, codebook, context=context)
    return (*Recorder.seen, codebook, codes)


def midrise(bits):
    return Uniform(bits=bits, scheme="midrise", granularity="channel", range="mse")


def rotation(features, seed):
    """R with ``rows @ R`` what is coded, from the rotated identity."""
    return rotate(torch.eye(features, dtype=torch.float64), seed)


def spiky(gaussian, rows, columns):
    """One element in a hundred is thirty times as large."""
    x = gaussian(rows, columns, seed=1)
    return torch.where(gaussian(rows, columns, seed=2) > 2.326, 30 * x, x)


@pytest.mark.parametrize("sides", ["input", "both"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rotated_and_back_is_the_tensor(code, gaussian, shape, sides):
    """The inner code is exact; what is left is float32 rounding, a few units of 2^-24 for each of 8 stages."""
    x = gaussian(*shape)
    y = code(Hadamard(inner=Recorder(), sides=sides), x).reconstruction
    assert float((x - y).abs().max()) <= 1e-6 * float(x.norm())


@pytest.mark.parametrize("sides", ["input", "both"])
@pytest.mark.parametrize(
    "inner", [midrise(3), LloydMax(bits=2), E8P(), NestedLattice(lattice="A2", m=4)], ids=str
)
def test_the_inner_squared_error_is_the_outer_one(gaussian, inner, sides):
    x = gaussian(24, 96) / 8
    quantizer, context = Hadamard(inner=inner, sides=sides), Context(torch.Generator().manual_seed(0))
    codebook = quantizer.fit(x, context=context)
    y = quantizer.decode(quantizer.encode(x, codebook, context=context), codebook, x.shape)
    Recorder.seen.clear()
    recorder = Hadamard(inner=Recorder(), sides=sides)
    for tensor in (x, y):
        recorder.encode(tensor, {**codebook, "e": torch.tensor(0), "c": {}}, context=context)
    (turned_x, _), (turned_y, _) = Recorder.seen
    inner_error = float((turned_x - turned_y).double().square().sum())
    assert float((x - y).double().square().sum()) == pytest.approx(inner_error, rel=1e-5)


@pytest.mark.parametrize("features", [64, 256])
def test_a_spike_is_spread_evenly_over_a_power_of_two(features):
    x = torch.zeros(3, features)
    x[1, 5] = 0.75
    (turned, _), _, codebook, _ = given(x)
    scaled = turned * 2.0 ** int(codebook["e"])
    assert torch.allclose(scaled[1].abs(), torch.tensor(0.75 / math.sqrt(features)), rtol=1e-6)
    assert not scaled[[0, 2]].any()


def test_both_sides_spread_a_spike_over_the_matrix():
    x = torch.zeros(16, 64)
    x[3, 5] = 0.5
    (turned, _), _, codebook, _ = given(x, sides="both")
    expected = torch.tensor(0.5 / math.sqrt(16 * 64))
    assert torch.allclose(turned.abs() * 2.0 ** int(codebook["e"]), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_inner_quantizer_meets_the_range_it_is_promised(gaussian, shape):
    x = gaussian(*shape)
    (fitted, _), (encoded, _), *_ = given(x / x.abs().max() * 0.99)
    assert 0.5 <= float(fitted.abs().max()) < 1
    assert fitted.shape == x.shape
    assert torch.equal(fitted, encoded)


@pytest.mark.parametrize("shape", [(6, 32), (4, 3, 3, 3), (20,)])
@pytest.mark.parametrize("sides", ["input", "both"])
def test_gram_measures_the_same_error_after_the_rotation(gaussian, shape, sides):
    """tr(D gram D^T) of a difference D equals that of the rotated ones; the Cholesky factor of it exists."""
    x, other = gaussian(*shape) / 8, gaussian(*shape, seed=1) / 8
    features = x[0].numel() if x.dim() > 1 else x.numel()
    inputs = gaussian(2 * features, features, seed=2).double()
    gram = inputs.T @ inputs
    (turned, context), _, codebook, _ = given(x, sides=sides, gram=gram)
    Recorder.seen.clear()
    Hadamard(inner=Recorder(), sides=sides).encode(other, codebook, context=Context(torch.Generator()))
    unit = 2.0 ** int(codebook["e"])
    difference = (unit * (turned - Recorder.seen[0][0])).reshape(-1, features).double()
    plain = (x - other).reshape(-1, features).double()
    after = float(torch.trace(difference @ context.gram @ difference.T))
    assert after == pytest.approx(float(torch.trace(plain @ gram @ plain.T)), rel=1e-5)
    assert torch.equal(context.gram, context.gram.T)
    torch.linalg.cholesky(context.gram)


@pytest.mark.parametrize("sides", ["input", "both"])
def test_the_loss_of_a_rotated_tensor_is_that_of_the_tensor_and_its_gradient_is_rotated(gaussian, sides):
    x, target, weights = gaussian(6, 24) / 8, gaussian(6, 24, seed=1) / 8, gaussian(6, 24, seed=3).abs()

    def loss(y):
        return (weights * (y - target).square()).sum()

    (turned, context), *_ = given(x, sides=sides, loss=loss)
    y = turned.clone().requires_grad_()
    found = context.loss(y)
    assert float(found.detach()) == pytest.approx(float(loss(x)), rel=1e-5)
    found.backward()
    # central differences are exact for squares, whatever the step; losses come in float32
    direction = gaussian(6, 24, seed=2)
    with torch.no_grad():
        ahead, behind = float(context.loss(turned + direction)), float(context.loss(turned - direction))
    expected = pytest.approx((ahead - behind) / 2, abs=1e-5 * (ahead + behind))
    assert float((y.grad * direction).sum()) == expected


@pytest.mark.parametrize("features", [32, 27])
def test_importance_is_the_diagonal_of_the_rotated_one(gaussian, features):
    """For a row with importances h it is that of R^T diag(h) R."""
    x, importance = gaussian(5, features) / 8, gaussian(5, features, seed=1).square()
    (_, context), _, codebook, _ = given(x, importance=importance)
    r = rotation(features, int(codebook["seed"]))
    expected = torch.stack([(r.T @ torch.diag(h.double()) @ r).diagonal() for h in importance])
    torch.testing.assert_close(context.importance.double(), expected, rtol=1e-5, atol=1e-6)


def test_importance_of_both_sides_keeps_its_sum(gaussian):
    importance = gaussian(8, 32, seed=1).square()
    (_, context), *_ = given(gaussian(8, 32) / 8, sides="both", importance=importance)
    assert float(context.importance.std()) < 1e-6
    assert float(context.importance.sum()) == pytest.approx(float(importance.sum()), rel=1e-5)


def test_a_gram_of_another_size_is_refused(gaussian):
    with pytest.raises(InputError, match=r"shape \(8, 8\).*16 input features"):
        given(gaussian(4, 16) / 8, gram=torch.eye(8))


def test_the_seed_is_in_the_bytes_and_decides(gaussian):
    x = gaussian(16, 64) / 8
    quantizer, books = Hadamard(), []
    for seed in (0, 0, 1):
        books.append(quantizer.fit(x, context=Context(torch.Generator().manual_seed(seed))))
    assert pack(books[0]) == pack(books[1])
    assert int(books[0]["seed"]) != int(books[2]["seed"])
    assert books[0]["seed"].dtype == torch.int32
    without = {name: part for name, part in books[0].items() if name != "seed"}
    # its name and kind, 4 bytes, and its number of dimensions
    assert nbytes(books[0]) - nbytes(without) == 1 + len("seed") + 1 + 1 + 4
    codes = quantizer.encode(x, books[0], context=Context(torch.Generator()))
    right, wrong = (
        quantizer.decode(codes, {**books[0], "seed": book["seed"]}, x.shape) for book in (books[1], books[2])
    )
    # what was turned back wrongly is a stranger to x: |x - y|^2 is about |x|^2 + |y|^2
    assert float((x - right).norm()) < float(x.norm()) < float((x - wrong).norm())


def test_outliers_no_longer_decide_the_range(code, gaussian, gain_z, sqnr_db):
    """Fewer errors by 4 paired standard errors over 64 rows.

    On both sides 16384 elements mix to a Gaussian: 19.38 dB (MSE .01154), less 4 standard errors of .06 dB.
    """
    x = spiky(gaussian, 64, 256)
    quantizers = midrise(4), Hadamard(inner=midrise(4)), Hadamard(inner=midrise(4), sides="both")
    plain, rotated, both = (code(quantizer, x).reconstruction for quantizer in quantizers)
    for turned in (rotated, both):
        assert gain_z((x - plain).square().sum(1), (x - turned).square().sum(1)) > 4
    assert sqnr_db(x, both) > -10 * math.log10(0.0115429) - 0.24


@pytest.mark.parametrize("inner", [midrise(2), midrise(4), E8P()], ids=str)
def test_a_gaussian_stays_one(code, gaussian, gain_z, inner):
    """Rotations keep iid Gaussians as they are: the errors of both codes agree within 4 standard errors."""
    x = gaussian(128, 256)
    errors = [
        (x - code(quantizer, x).reconstruction).double().square().mean(1)
        for quantizer in (inner, Hadamard(inner=inner))
    ]
    assert abs(gain_z(*errors)) < 4


def test_what_the_inner_quantizer_needs_is_needed():
    wrapped = Hadamard(inner=KMeansHessian(bits=2))
    assert wrapped.suits("weight", frozenset({"importance"}))
    assert not wrapped.suits("weight", frozenset())
    assert not wrapped.suits("source", frozenset({"importance"}))


@parametrize_checks([*(Hadamard(**point) for point in Hadamard.sweep), Hadamard(inner=E8P(), sides="both")])
def test_contract(quantizer, check):
    check(quantizer)
