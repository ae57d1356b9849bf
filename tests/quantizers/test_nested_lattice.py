"""Codewords of nested lattice codes, the search for them, and what every policy keeps."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.errors import ParameterError
from qbench.message import Stream
from qbench.quantizers.lattices import lattice
from qbench.quantizers.lattices.voronoi_code import UNIT, VoronoiCode
from qbench.quantizers.nested_lattice import NestedLattice
from qbench.schema import Spec
from qbench.testing import check_quantizer

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from nested_lattices import GENERIC, POLICIES, UNIT_SCALE, all_codewords, context, gaussian, reconstruct


def e8_roots() -> Tensor:
    integers = torch.tensor(list(itertools.product((-1, 0, 1), repeat=8)), dtype=torch.float64)
    halves = torch.tensor(list(itertools.product((-0.5, 0.5), repeat=8)), dtype=torch.float64)
    points = torch.cat([integers, halves])
    return points[(points.square().sum(1) == 2) & (points.sum(1) % 2 == 0)]


@pytest.mark.parametrize("offset", ["generic", "zero", 7])
@pytest.mark.parametrize(
    ("name", "m"),
    [
        *[("Z", 2), ("Z", 3), ("Z", 16), ("A2", 2), ("A2", 5), ("A3", 4), ("A3*", 3), ("D4", 4), ("A5", 2)],
        *[("E8", 2), ("E8", 3)],
    ],
)
def test_every_index_has_its_own_codeword_and_comes_back(name: str, m: int, offset: Any) -> None:
    codewords = all_codewords(name, m, offset)
    assert len(torch.unique(codewords, dim=0)) == m ** lattice(name).dimension
    for policy in POLICIES:
        quantizer = NestedLattice(lattice=name, m=m, beta=float(m), offset=offset, overload=policy)
        assert torch.equal(reconstruct(quantizer, codewords, UNIT_SCALE), codewords)


@pytest.mark.parametrize("offset", ["generic", "zero", 7])
@pytest.mark.parametrize("m", [2, 3])
def test_codewords_lie_in_the_coarse_cell(m: int, offset: Any) -> None:
    # c is in the Voronoi cell of m E8 iff c.v <= m |v|^2 / 2 = m for the 240 roots v; all numbers are dyadic.
    products = all_codewords("E8", m, offset).double() @ e8_roots().T
    assert float(products.max()) <= m
    assert offset != "generic" or float(products.max()) < m


def test_the_generic_offset_never_meets_a_tie() -> None:
    # A codeword p - m q is on the boundary iff (p - m q).v = m for a root v, and p.v is an integer less a.v:
    # impossible for any m if no a.v is an integer. In Z the boundary is m / 2: impossible if 2 a is none.
    numerators = torch.tensor(GENERIC, dtype=torch.float64)
    products = numerators @ e8_roots().T
    assert bool((products.remainder(UNIT) != 0).all())
    assert float(products.max()) < UNIT, "not inside the Voronoi cell"
    assert (2 * int(numerators[0])) % UNIT != 0


def test_the_search_is_refused_where_there_are_too_many_codewords() -> None:
    with pytest.raises(ParameterError, match=r"2\^24 codewords of Leech and is limited to 65536"):
        NestedLattice(lattice="Leech", m=2)
    assert NestedLattice(lattice="BW16", m=2).parameters.m == 2


@pytest.mark.parametrize("offset", ["generic", "zero", 3])
@pytest.mark.parametrize("m", [4, 5, 16])
def test_integers_are_a_uniform_scalar_quantizer(m: int, offset: Any) -> None:
    beta = 3.0
    levels = all_codewords("Z", m, offset).flatten().sort().values * beta / m
    assert torch.allclose(levels.diff(), torch.full((m - 1,), beta / m))
    x = gaussian(5000, seed=2)
    for policy in ("nearest", "shrink"):
        quantizer = NestedLattice(lattice="Z", m=m, beta=beta, offset=offset, overload=policy)
        nearest = levels[(x[:, None] - levels).abs().argmin(1)]
        assert torch.allclose(reconstruct(quantizer, x, UNIT_SCALE), nearest)


def test_nearest_is_the_nearest_of_all_codewords() -> None:
    codewords = all_codewords("E8", 2, "generic") * 1.7 / 2
    x = gaussian(2000, 8, seed=7) * 2
    quantizer = NestedLattice(m=2, beta=1.7)
    distance = torch.cdist(x.double(), codewords.double(), compute_mode="donot_use_mm_for_euclid_dist")
    achieved = (x - reconstruct(quantizer, x, UNIT_SCALE)).double().square().sum(1).sqrt()
    assert torch.allclose(achieved, distance.min(1).values, rtol=1e-6)


@pytest.mark.parametrize("spread", [0.5, 3.0, 50.0])
@pytest.mark.parametrize(("name", "m"), [("Z", 1500), ("A2", 40), ("D4", 6), ("E8", 3)])
def test_a_search_that_skips_codewords_finds_the_first_of_the_nearest(
    name: str, m: int, spread: float
) -> None:
    # Whole steps, so that products are exact and many codewords are equally near: more than one box of each.
    code = VoronoiCode(lattice(name), m, [0] * lattice(name).dimension)
    n, dimension = len(code.offset), lattice(name).dimension
    x = (gaussian(700, n, seed=11).double() * spread * m * UNIT / 4).round()
    index = torch.tensor(list(itertools.product(range(m), repeat=dimension))).flip(1)
    codewords = code.decode(index)
    first = (x @ codewords.T - codewords.square().sum(1) / 2).argmax(1)
    assert torch.equal(code.search(x), index[first])


@pytest.mark.parametrize("spread", [0.3, 1.0, 20.0])
@pytest.mark.parametrize(("name", "m"), [("Z", 7), ("A2", 5), ("A3*", 3), ("D4", 4), ("E8", 2)])
def test_no_codeword_is_nearer_than_the_bound(name: str, m: int, spread: float) -> None:
    code = VoronoiCode(lattice(name), m, [40] * lattice(name).dimension)
    x = lattice(name).embed(gaussian(500, lattice(name).dimension, seed=12).double() * spread * m * UNIT)
    nearest = (x - code.decode(code.search(x))).square().sum(1)
    bound = code.bound(x)
    assert bool((bound <= nearest * (1 + 1e-9)).all())
    # Where nothing overloads it is the distance itself, and far away it is most of it.
    inside = ~code.encode(x)[1]
    assert torch.allclose(bound[inside], nearest[inside]) or spread > 10
    assert float((bound / nearest).mean()) > 0.5


@pytest.mark.parametrize("policy", POLICIES)
def test_without_overload_every_policy_is_the_lattice(policy: str) -> None:
    x = gaussian(4000, 8, seed=8).double() * 0.2
    code = VoronoiCode(lattice("E8"), 4, GENERIC)
    units = x * UNIT
    expected = (lattice("E8").nearest(units + code.offset, scale=UNIT) - code.offset) / UNIT
    quantizer = NestedLattice(m=4, beta=4.0, overload=policy)
    assert torch.equal(reconstruct(quantizer, x.float(), UNIT_SCALE), expected.float())


def test_expand_takes_the_least_power_without_overload() -> None:
    # Z, M = 4, step 1, offset 0: the levels are -1, 0, 1 and one of -2 and 2, times 1, 2, 4 or 8.
    quantizer = NestedLattice(lattice="Z", m=4, beta=4.0, offset="zero", overload="expand")
    x = torch.tensor([0.2, -1.3, 2.7, 5.4, -9.2, 100.0])
    codes = quantizer.encode(x, UNIT_SCALE, context=context())
    expansion = codes["expansion"]
    assert isinstance(expansion, Stream)
    assert expansion.levels == 4
    assert expansion.values.tolist() == [0, 0, 1, 2, 3, 3]
    assert quantizer.decode(codes, UNIT_SCALE, x.shape)[:5].tolist() == [0.0, -1.0, 2.0, 4.0, -8.0]


def test_automatic_beta_depends_on_neither_scale_nor_order_of_calls() -> None:
    x = gaussian(20_000, seed=9)
    quantizer = NestedLattice(m=2)
    first, second = (quantizer.fit(x * factor, context=context()) for factor in (1.0, 2.0**-20))
    assert float(first["beta"]) == float(second["beta"])
    assert float(first["scale"]) == float(second["scale"]) * 2**20
    assert float(first["scale"]) == pytest.approx(float(x.square().mean().sqrt()), rel=1e-6)
    assert first["scale"].dtype == first["beta"].dtype == torch.float32


def test_a_given_beta_is_not_sent() -> None:
    assert set(NestedLattice(beta=4).fit(gaussian(100), context=context())) == {"scale"}


@pytest.mark.parametrize("policy", [*POLICIES, "best-of-k"])
@pytest.mark.parametrize("name", ["Z", "E8"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (7,), (8,), (3, 5, 7), (2, 2, 5, 10)])
def test_any_shape(shape: tuple[int, ...], name: str, policy: str) -> None:
    x = gaussian(*shape, seed=10)
    quantizer = NestedLattice(lattice=name, m=3, overload=policy)
    decoded = reconstruct(quantizer, x)
    assert decoded.shape == x.shape
    assert decoded.dtype == torch.float32
    assert bool(torch.isfinite(decoded).all())
    zeros = torch.zeros(shape)
    assert torch.equal(reconstruct(quantizer, zeros), zeros)


@pytest.mark.parametrize("policy", [*POLICIES, "best-of-k"])
def test_a_fixed_codebook_survives_data_of_another_scale(policy: str) -> None:
    quantizer = NestedLattice(m=3, overload=policy)
    codebook = quantizer.fit(gaussian(1000), context=context())
    for factor in (1e-30, 1e30):
        decoded = reconstruct(quantizer, gaussian(1000) * factor, codebook)
        assert bool(torch.isfinite(decoded).all())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"m": 8}, r"8\^8 codewords of E8 and is limited to 65536; use m <= 4, or overload=shrink"),
        ({"lattice": "B9"}, "no lattice 'B9'; use one of Z, A2, A3"),
        ({"m": 1}, "m=1: input should be greater than or equal to 2"),
        ({"beta": -1.0}, "beta"),
        ({"offset": -1}, "offset"),
        ({"overload": "clip"}, "'wrap', 'shrink', 'expand' or 'best-of-k'"),
        ({"beta": [3, 4]}, r"beta=\[3.0, 4.0\], overload=nearest: give one, or use overload=best-of-k"),
        ({"beta": 3, "overload": "best-of-k"}, r"beta=3.0, overload=best-of-k: give a list"),
        ({"beta": [4, 3], "overload": "best-of-k"}, "every one must be larger than the one before it"),
        ({"beta": [3], "overload": "best-of-k"}, "beta"),
        ({"k": 1}, "k=1: input should be greater than or equal to 2"),
        ({"dither": "subtractive"}, "use overload=shrink, wrap, expand or best-of-k"),
    ],
)
def test_bad_parameters_say_what_is_allowed(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        NestedLattice(**parameters)


def test_every_point_of_the_sweep_survives_its_specification() -> None:
    for point in NestedLattice.sweep:
        spec = NestedLattice(**point).spec
        assert NestedLattice(**Spec.parse(str(spec)).parameters).spec == spec


@pytest.mark.parametrize(
    "parameters",
    [
        {"lattice": "Z", "m": 4, "overload": "best-of-k", "k": 2, "coder": "rans"},
        {"lattice": "D4", "m": 8, "overload": "best-of-k", "beta": [2.0, 6.0], "dither": "subtractive"},
        {"lattice": "A2", "m": 4, "overload": "expand", "beta": 1.0, "dither": "subtractive"},
    ],
)
def test_every_policy_keeps_the_contract(parameters: dict[str, Any]) -> None:
    check_quantizer(NestedLattice(**parameters))
