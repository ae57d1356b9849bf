import math
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.components import Context
from qbench.errors import ParameterError
from qbench.message import Message, Stream, nbytes, pack, unpack
from qbench.quantizers.lattice_quantizer import LatticeQuantizer
from qbench.quantizers.lattices import LATTICES, lattice
from qbench.schema import Spec

UNIT_SCALE: Message = {"scale": torch.tensor(1.0)}
SEEDS = (None, 0, 5)


def context() -> Context:
    return Context(torch.Generator().manual_seed(0))


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reconstruct(quantizer: LatticeQuantizer, x: Tensor, codebook: Message | None = None) -> Tensor:
    """What a fresh decoder makes of the bytes, with a codebook given or fitted on x."""
    book = quantizer.fit(x, context=context()) if codebook is None else codebook
    codes, _ = unpack(pack(quantizer.encode(x, book, context=context())))
    kept, _ = unpack(pack(book))
    return LatticeQuantizer(**dict(quantizer.parameters)).decode(codes, kept, x.shape)


def unit_step(name: str) -> float:
    """V^(-1/n): the beta of a cell of volume 1."""
    return lattice(name).volume ** (-1 / lattice(name).dimension)


def rate(quantizer: LatticeQuantizer, x: Tensor) -> float:
    return 8 * nbytes(quantizer.encode(x, UNIT_SCALE, context=context())) / x.numel()


@pytest.mark.parametrize("source", ["gaussian", "zero", "constant", "small"])
@pytest.mark.parametrize("name", [*LATTICES, "A5"])
def test_dither_makes_the_error_independent_of_the_input(name: str, source: str) -> None:
    # MSE = G V^(2/n) beta^2 whatever x is, within 4 standard errors over vectors.
    kind = lattice(name)
    rows = 400 if name == "Leech" else 8000
    x = {
        "gaussian": gaussian(rows, kind.dimension),
        "zero": torch.zeros(rows, kind.dimension),
        "constant": torch.full((rows, kind.dimension), 0.3),
        "small": gaussian(rows, kind.dimension) * 0.05,
    }[source]
    beta = 1.3 * unit_step(name)
    error = (reconstruct(LatticeQuantizer(lattice=name, beta=beta, dither=1), x, UNIT_SCALE) - x).double()
    per_vector = error.square().mean(1) / 1.3**2
    assert abs(float(per_vector.mean()) - kind.second_moment) < 4 * float(per_vector.std()) / rows**0.5
    mean = error.mean(0)
    assert bool((mean.abs() < 5 * error.std(0) / rows**0.5).all()), "the error has no mean"


@pytest.mark.parametrize("name", LATTICES)
def test_without_dither_the_nearest_point_comes_back(name: str) -> None:
    n = lattice(name).dimension
    x = gaussian(300, n)
    beta = 0.37 * unit_step(name)
    expected = lattice(name).nearest(x.double() * (1 / torch.tensor(beta, dtype=torch.float64))) * beta
    decoded = reconstruct(LatticeQuantizer(lattice=name, beta=beta), x, UNIT_SCALE)
    assert torch.allclose(decoded, expected.float(), rtol=1e-5, atol=1e-6)


def test_without_dither_a_small_vector_is_zero() -> None:
    x = gaussian(8000) * 0.01
    assert torch.equal(reconstruct(LatticeQuantizer(beta=1.0), x, UNIT_SCALE), torch.zeros(8000))


@pytest.mark.parametrize("name", LATTICES)
def test_the_rate_at_high_resolution(name: str) -> None:
    # h(X) - log2(V^(1/n) beta), h of N(0, 1) is log2(2 pi e) / 2 = 2.0471 bits. Above it lies what the streams
    # cost besides: tables, and that coordinates are coded apart; below it only chance (SE of the information of
    # N(0, 1) over 48,000 values: sqrt(1/2) / ln 2 / sqrt(48000) = .0047; four of them).
    quantizer = LatticeQuantizer(lattice=name, beta=0.25 * unit_step(name))
    ideal = 0.5 * math.log2(2 * math.pi * math.e) + 2
    assert ideal - 0.019 < rate(quantizer, gaussian(48_000)) < ideal + 0.07


def test_better_lattices_are_closer_to_the_rate_distortion_function() -> None:
    # At high rate the gap is 10 log10(2 pi e G): 1.53 dB for Z, 1.03 for BW16. Above it lies what streams cost besides,
    # .35 dB as a bound; below it only chance: 6.02 dB a bit of the information's SE, sqrt(1/2) / ln 2 / sqrt(64000),
    # and 4.34 dB of the error's relative one, sqrt(4/5 / 64000) for Z and less for the others: 4 of .024 and .016 dB.
    x = gaussian(64_000, seed=3)
    gaps = {}
    for name in ("Z", "D4", "E8", "BW16"):
        quantizer = LatticeQuantizer(lattice=name, beta=0.5 * unit_step(name))
        mse = float((reconstruct(quantizer, x, UNIT_SCALE) - x).double().square().mean())
        gaps[name] = 10 * math.log10(mse) + 20 * math.log10(2) * rate(quantizer, x)
        granular = 10 * math.log10(2 * math.pi * math.e * lattice(name).second_moment)
        assert granular - 4 * math.hypot(0.024, 0.016) < gaps[name] < granular + 0.35
    assert gaps["Z"] > gaps["D4"] > gaps["E8"] > gaps["BW16"] > 0


@pytest.mark.parametrize("dither", SEEDS)
@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0, 16.0])
def test_nothing_passes_the_rate_distortion_function(beta: float, dither: int | None) -> None:
    for name in ("Z", "A2", "E8", "BW16"):
        x = gaussian(16_000, seed=6)
        quantizer = LatticeQuantizer(lattice=name, beta=beta, dither=dither)
        squares = (reconstruct(quantizer, x, UNIT_SCALE) - x).double().square()
        error = float(squares.std()) / len(x) ** 0.5
        assert float(squares.mean()) > 4.0 ** -rate(quantizer, x) - 3 * error


@pytest.mark.parametrize("name", [*LATTICES, "A7", "D5"])
def test_what_is_sent_has_a_coordinate_for_every_place_and_comes_back(name: str) -> None:
    quantizer = LatticeQuantizer(lattice=name)
    c = torch.randint(-(2**20), 2**20, (500, lattice(name).dimension), generator=context().generator)
    q = quantizer._indices(c)
    assert torch.equal(quantizer._coordinates(q), c)
    # q_i B_ii is within B_ii / 2 of the i-th coordinate of the point.
    kind = lattice(name)
    gap = (c.double() @ kind.generator) / kind.generator.diagonal() - q
    assert float(gap.abs().max()) <= 0.5 + 2**-10 + 1e-6


def test_streams_are_range_coded_with_levels_a_power_of_two() -> None:
    codes = LatticeQuantizer(lattice="E8", beta=0.5).encode(gaussian(4000), UNIT_SCALE, context=context())
    assert set(codes) == {"q0", "q1", "q2"}  # B_ii is 2, 1 or 1/2
    for stream in codes.values():
        assert isinstance(stream, Stream)
        assert stream.coder == "rans"
        assert stream.levels & (stream.levels - 1) == 0
        assert int(stream.values.max()) >= stream.levels // 2


def test_dither_is_a_function_of_its_seed() -> None:
    x = gaussian(800)
    first, again, other = (reconstruct(LatticeQuantizer(dither=seed), x) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_drawn_dither_is_sent_and_is_another_one_in_every_message() -> None:
    """Four bytes, beside a name and a kind in the schema and the number of its dimensions."""
    x, around = gaussian(800), context()
    drawn, fixed = LatticeQuantizer(dither="subtractive"), LatticeQuantizer(dither=0)
    one, other = (drawn.encode(x, UNIT_SCALE, context=around) for _ in range(2))
    assert int(one["seed"]) != int(other["seed"])
    same = LatticeQuantizer(dither=int(one["seed"])).encode(x, UNIT_SCALE, context=around)
    assert nbytes(one) == nbytes(same) + 4 + len("seed") + 3
    for codes in (one, other):
        again = LatticeQuantizer(dither=int(codes["seed"])).decode(codes, UNIT_SCALE, x.shape)
        assert torch.equal(drawn.decode(codes, UNIT_SCALE, x.shape), again)
    assert drawn.is_unbiased
    assert not fixed.is_unbiased


@pytest.mark.parametrize(("name", "beta"), [("Z", 3.0), ("E8", 4.0)])
def test_a_drawn_dither_makes_every_element_unbiased_over_messages(name: str, beta: float) -> None:
    """One tensor sent 300 times: every mean within 5 standard errors; E |x^ - x|^2 = G V^(2/n) beta^2 within 4.

    The elements are far below the step, where a code without dither returns 0.
    """
    kind, times, around = lattice(name), 300, context()
    quantizer, x = LatticeQuantizer(lattice=name, beta=beta, dither="subtractive"), gaussian(48) * 0.3
    sent = [
        quantizer.decode(quantizer.encode(x, UNIT_SCALE, context=around), UNIT_SCALE, x.shape)
        for _ in range(times)
    ]
    error = (torch.stack(sent) - x).double()
    assert float((error.mean(0) / (error.std(0) / times**0.5)).abs().max()) < 5
    squares = error.square().mean(1)
    expected = kind.second_moment * kind.volume ** (2 / kind.dimension) * beta**2
    assert abs(float(squares.mean()) - expected) < 4 * float(squares.std()) / times**0.5


@pytest.mark.parametrize("dither", SEEDS[:2])
@pytest.mark.parametrize("name", ["Z", "A2", "A3*", "E8", "Leech"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (7,), (8,), (3, 5, 7)])
def test_any_shape(shape: tuple[int, ...], name: str, dither: int | None) -> None:
    x = gaussian(*shape, seed=10)
    quantizer = LatticeQuantizer(lattice=name, beta=0.25, dither=dither)
    decoded = reconstruct(quantizer, x)
    assert decoded.shape == x.shape
    assert decoded.dtype == torch.float32
    assert bool(torch.isfinite(decoded).all())
    zeros = torch.zeros(shape)
    assert torch.equal(reconstruct(quantizer, zeros), zeros)


@pytest.mark.parametrize("dither", SEEDS[:2])
@pytest.mark.parametrize("name", ["A2", "E8", "BW16"])
def test_a_fixed_codebook_survives_data_of_another_scale(name: str, dither: int | None) -> None:
    quantizer = LatticeQuantizer(lattice=name, dither=dither)
    for factor in (1e-30, 1e8, 1e30):
        decoded = reconstruct(quantizer, gaussian(960) * factor, UNIT_SCALE)
        assert bool(torch.isfinite(decoded).all())


def test_many_vectors_are_decoded_in_chunks_alike() -> None:
    # The dither of a chunk depends on its number alone: both coders meet the same one across the boundary.
    x = gaussian(2 * (2**15 + 5), seed=4)
    error = (reconstruct(LatticeQuantizer(lattice="A2", beta=0.5, dither=3), x, UNIT_SCALE) - x).abs()
    # The hexagon's covering radius is sqrt(2/3) of the shortest vectors' length over sqrt(2).
    assert float(error.max()) <= 0.5 * math.sqrt(2 / 3) + 1e-5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"lattice": "B9"}, "no lattice 'B9'; use one of Z, A2"),
        ({"beta": 0.0}, "beta=0.0: input should be greater than or equal to 0.000001"),
        ({"dither": -1}, "dither"),
        ({"dither": 1.5}, "dither"),
        ({"dither": "drawn"}, "subtractive"),
        ({"m": 4}, "has no parameter 'm'"),
    ],
)
def test_bad_parameters_say_what_is_allowed(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        LatticeQuantizer(**parameters)


def test_every_point_of_the_sweep_survives_its_specification() -> None:
    for point in (*LatticeQuantizer.sweep, {"lattice": "A3*", "dither": 3}):
        spec = LatticeQuantizer(**point).spec
        assert LatticeQuantizer(**Spec.parse(str(spec)).parameters).spec == spec
