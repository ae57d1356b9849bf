import math

import pytest
import torch

from qbench.errors import InputError, ParameterError
from qbench.quantizers.uniform import Uniform

# Exact MSE of the midrise quantizer with the best step, unit variance, 1 to 8 bits.
GAUSSIAN = [0.363380, 0.118846, 0.0374397, 0.0115429, 0.00349521, 0.00104005, 3.04333e-4, 8.76862e-5]
LAPLACIAN = [0.5, 0.196302, 0.0717478, 0.025351, 0.00871322, 0.00291343, 9.48597e-4, 3.0142e-4]


@pytest.mark.parametrize("bits", range(1, 9))
def test_best_midrise_range_reaches_the_exact_optimum(code, gaussian, laplacian, z_score, bits):
    """Fitted on one sample, scored on another, within 3 standard errors of the scored sample's mean."""
    quantizer = Uniform(bits=bits, scheme="midrise", granularity="tensor", range="mse")
    for source, exact in ((gaussian, GAUSSIAN), (laplacian, LAPLACIAN)):
        x = source(1 << 18, seed=12)
        decoded = code(quantizer, x, fitted_on=source(1 << 18, seed=5)).reconstruction
        assert abs(z_score(x, decoded, exact[bits - 1])) < 3


@pytest.mark.parametrize(
    ("bits", "group_size", "symmetric", "asymmetric"),
    [
        (4, 32, 20.26, 21.85),
        (4, 64, 19.36, 20.81),
        (4, 128, 18.61, 19.95),
        (8, 64, 44.53, 45.42),
        (2, 64, 2.88, 6.81),
    ],
)
def test_integer_formats_on_a_gaussian(
    code, gaussian, sqnr_db, sqnr_db_error, bits, group_size, symmetric, asymmetric
):
    """Within the reference's .02 dB and 4 standard errors, from 1024 rows that share no group."""
    x = gaussian(1024, 1024)
    for scheme, expected in (("symmetric", symmetric), ("asymmetric", asymmetric)):
        coded = code(Uniform(bits=bits, scheme=scheme, group_size=group_size), x)
        standard_error = sqnr_db_error(x, coded.reconstruction)
        assert abs(sqnr_db(x, coded.reconstruction) - expected) < 0.02 + 4 * standard_error
        assert standard_error < 0.02
        zero_point = bits if scheme == "asymmetric" else 0
        rate = 8 * coded.nbytes / x.numel()
        assert rate == pytest.approx(bits + (16 + zero_point) / group_size, abs=0.001)


@pytest.mark.parametrize("scheme", ["midrise", "symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", [2, 3, 8, 12, 16])
def test_uniform_input_has_a_twelfth_of_a_squared_step(code, scheme, bits, z_score):
    """Input uniform on [-1, 1], which the cells cover exactly, with half a cell at each end where symmetric.

    Within 4 standard errors. In float32, code + zero_point has 8 bits behind the point at 16 bits: 1 % of
    step / 2.
    """
    x = 2 * torch.rand(1 << 18, generator=torch.Generator().manual_seed(0)) - 1
    x[:2] = torch.tensor([-1.0, 1.0])
    steps = 2**bits - {"midrise": 0, "symmetric": 2, "asymmetric": 1}[scheme]
    quantizer = Uniform(bits=bits, scheme=scheme, granularity="tensor", scale_dtype="float32")
    step = 2 / steps
    decoded = code(quantizer, x).reconstruction
    assert abs(z_score(x, decoded, step**2 / 12)) < 4
    assert float((x - decoded).abs().max()) <= step / 2 * 1.01


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("group_size", [32, 100])
def test_asymmetric_groups_of_any_bits(code, gaussian, bits, group_size):
    """b + 16/g + b/g bits, and nowhere more than half a step off: a range that is shifted by a fraction of a step
    loses nothing. At 16 bits code + zero_point has 8 bits behind the point: 1 % of step / 2.

    Counts, names and the last bytes take 400 bits at most. The scales here are those of the extremes, rounded up.
    """
    x = gaussian(100, 200) + torch.linspace(-4, 4, 100)[:, None]
    coded = code(Uniform(bits=bits, scheme="asymmetric", group_size=group_size), x)
    expected = x.numel() * (bits + (16 + bits) / group_size)
    assert expected < 8 * coded.nbytes <= expected + 400
    rows = x.reshape(-1, group_size)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    step = ((high - low) / (2**bits - 1) * (1 + 2**-10))[:, None]
    error = (coded.reconstruction.reshape(rows.shape) - rows).abs()
    assert bool((error <= step / 2 * 1.01).all())


def test_levels_lie_where_the_scheme_says(code):
    x = torch.linspace(-0.75, 0.75, 1001)
    found = {
        scheme: code(Uniform(bits=2, scheme=scheme, granularity="tensor", scale_dtype="float32"), x)
        .reconstruction.unique()
        .tolist()
        for scheme in ("symmetric", "midrise", "asymmetric")
    }
    assert found["symmetric"] == [-0.75, 0, 0.75]
    assert found["midrise"] == [-0.5625, -0.1875, 0.1875, 0.5625]
    assert found["asymmetric"] == [-1.0, -0.5, 0, 0.5]


def test_asymmetric_range_of_positive_data_uses_every_code(code):
    x = torch.linspace(0, 0.75, 16)
    coded = code(Uniform(bits=4, scheme="asymmetric", granularity="tensor", scale_dtype="float32"), x)
    assert coded.codes["codes"].values.tolist() == list(range(16))
    assert torch.allclose(coded.reconstruction, x, atol=1e-7)


def test_best_range_is_never_worse_than_the_extremes(code, gaussian):
    """Up to the rounding of a float16 scale, at most 2^-10 of it and so 2^-9 of the error."""
    x = gaussian(40, 64) ** 3
    for scheme in ("symmetric", "midrise", "asymmetric"):
        for bits in (2, 4, 6):
            errors = [
                (code(Uniform(bits=bits, scheme=scheme, range=choice), x).reconstruction - x).square().sum(1)
                for choice in ("mse", "minmax")
            ]
            assert bool((errors[0] <= errors[1] * (1 + 2**-9)).all())


@pytest.mark.parametrize("scheme", ["symmetric", "midrise", "asymmetric"])
def test_best_range_of_a_row_equals_an_exhaustive_search(code, gaussian, scheme):
    """2000 ranges, evenly spaced, of three rows that are unlike; the search may lose 1 % to them.

    (zero point, steps in the range) of 8 levels: (4, 6), (3.5, 8), (rounded, 7).
    """
    x = gaussian(3, 512) ** torch.tensor([[1], [3], [5]])
    quantizer = Uniform(bits=3, scheme=scheme, granularity="channel", range="mse", scale_dtype="float32")
    ours = (code(quantizer, x).reconstruction - x).square().sum(1)
    low, high = x.amin(1), x.amax(1)
    if scheme != "asymmetric":
        high = torch.maximum(high, -low)
        low = -high
    best = torch.full((3,), math.inf)
    for factor in torch.linspace(0.005, 2, 2000):
        scale = (factor * (high - low) / {"symmetric": 6, "midrise": 8, "asymmetric": 7}[scheme])[:, None]
        zero_point = {"symmetric": 4, "midrise": 3.5}.get(scheme, (-factor * low[:, None] / scale).round())
        codes = (x / scale + zero_point).round().clamp(0, 7)
        best = torch.minimum(best, (scale * (codes - zero_point) - x).square().sum(1))
    assert bool((ours <= best * 1.01).all())


def test_one_bit_of_two_values_is_exact(code):
    x = torch.tensor([0.75, -0.75, -0.75, 0.75, 0.75])
    decoded = code(Uniform(bits=1, scheme="midrise", range="mse", granularity="tensor"), x).reconstruction
    assert torch.allclose(decoded, x, rtol=0.007)


def test_percentile_clips_outliers(code, gaussian, sqnr_db):
    x = gaussian(1 << 14)
    x[5] = 1000.0
    kept = torch.arange(x.numel()) != 5
    decoded = code(Uniform(bits=8, granularity="tensor", range="percentile"), x).reconstruction
    extremes = code(Uniform(bits=8, granularity="tensor"), x).reconstruction
    assert sqnr_db(x[kept], decoded[kept]) > 30
    assert sqnr_db(x[kept], extremes[kept]) < 1


def test_rows_a_million_times_smaller_keep_their_quality(code, gaussian, sqnr_db):
    """A float16 scale of the small row has 7 bits left: its steps are at most 1/128 too wide, .068 dB."""
    row = gaussian(4096)
    x = torch.stack([row, row * 1e-6])
    for bits, range_ in ((4, "mse"), (8, "minmax"), (8, "mse")):
        decoded = code(
            Uniform(bits=bits, scheme="midrise", granularity="channel", range=range_), x
        ).reconstruction
        assert sqnr_db(x[1], decoded[1]) == pytest.approx(
            sqnr_db(x[0], decoded[0]), abs=20 * math.log10(1 + 2**-7)
        )


def test_a_fitted_scale_clips_what_exceeds_it(code):
    x = torch.tensor([0.5, -0.5])
    decoded = code(
        Uniform(bits=4, granularity="tensor", scale_dtype="float32"), 100 * x, fitted_on=x
    ).reconstruction
    assert decoded.tolist() == pytest.approx([0.5, -0.5 * 8 / 7])


def test_codebook_of_other_channels_is_refused(code, gaussian):
    with pytest.raises(InputError, match="3 channels, the tensor has 5"):
        code(Uniform(granularity="channel"), gaussian(5, 4), fitted_on=gaussian(3, 4))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bits": 1}, "one symmetric bit has no positive level"),
        ({"bits": 17}, "bits=17"),
        ({"group_size": 0}, "group_size=0"),
        ({"range": "max"}, "'minmax', 'percentile', 'mse' or 'learned'"),
        ({"width": 4}, "no parameter 'width'; it has: bits, scheme"),
    ],
)
def test_bad_parameters_say_what_is_allowed(parameters, message):
    with pytest.raises(ParameterError, match=message):
        Uniform(**parameters)
