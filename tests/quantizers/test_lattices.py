import itertools
import math

import pytest
import torch
from torch import Tensor

from qbench.errors import ParameterError
from qbench.quantizers.lattices import LATTICES, Lattice, bw16, lattice, leech
from qbench.quantizers.lattices.dn import nearest_even_sum
from qbench.quantizers.lattices.lattice import CHUNK_ROWS

E8 = lattice("E8")
KISSING = {"Z": 2, "A2": 6, "A3": 12, "A3*": 8, "D4": 24, "E8": 240, "BW16": 4320, "Leech": 196560}
MINIMAL_NORM = {"Z": 1, "A2": 2, "A3": 2, "A3*": 0.75, "D4": 2, "E8": 2, "BW16": 8, "Leech": 32}
# So many vectors that the standard error of G is below 0.1 %.
VECTORS = {
    "Z": 2**20,
    "A2": 450_000,
    "A3": 270_000,
    "A3*": 270_000,
    "D4": 180_000,
    "E8": 70_000,
    "BW16": 24_000,
}
VECTORS |= {"Leech": 10_000, "A5": 150_000, "D6": 100_000}
BOX = torch.tensor(list(itertools.product((-1, 0, 1), repeat=4)), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def e8_points(squared_norm: int) -> torch.Tensor:
    """All points of E8 of a squared norm up to 4, from the definition: integer or half-integer, even sum."""
    integers = torch.tensor(list(itertools.product((-2, -1, 0, 1, 2), repeat=8)), dtype=torch.float64)
    halves = torch.tensor(list(itertools.product((-1.5, -0.5, 0.5, 1.5), repeat=8)), dtype=torch.float64)
    points = torch.cat([integers, halves])
    return points[(points.square().sum(1) == squared_norm) & (points.sum(1) % 2 == 0)]


@pytest.fixture(scope="module")
def shells() -> dict[int, torch.Tensor]:
    return {norm: e8_points(norm) for norm in (0, 2, 4)}


def sign_patterns(length: int, minus: int) -> Tensor:
    """All vectors of +-1 whose number of minus signs has the parity of ``minus``."""
    signs = torch.tensor(list(itertools.product((1, -1), repeat=length)), dtype=torch.float64)
    return signs[((signs < 0).sum(1) - minus) % 2 == 0]


def pairs(n: int, size: float) -> Tensor:
    """(+-size, +-size, 0, ..., 0) in every order."""
    first, second = torch.triu_indices(n, n, offset=1)
    eye = torch.eye(n, dtype=torch.float64) * size
    return torch.cat([a * eye[first] + b * eye[second] for a in (1, -1) for b in (1, -1)])


def octads(words: Tensor, minus: int) -> Tensor:
    """Words of weight 8 with every sign pattern of that parity on their ones."""
    found = []
    for word in words[words.sum(1) == 8]:
        vectors = torch.zeros(128, len(word), dtype=torch.float64)
        vectors[:, word.bool()] = sign_patterns(8, minus)
        found.append(vectors)
    return torch.cat(found)


def shortest(name: str) -> Tensor:
    """The shortest vectors from the definition of each lattice, not from its generator."""
    if name == "Leech":
        words = leech._EVEN.words
        odd = (1 - 2 * words)[:, None] * (1 - 4 * torch.eye(24, dtype=torch.float64))
        return torch.cat([pairs(24, 4), 2 * octads(words, 0), odd.reshape(-1, 24)])
    if name == "BW16":
        return torch.cat([pairs(16, 2), octads(bw16._EVEN.words, 0)])
    candidates = {
        "Z": BOX[:, :1],
        "A2": BOX[BOX[:, :3].sum(1) == 0][:, :3],
        "A3": BOX[BOX.sum(1) == 0],
        "A3*": torch.cat([BOX[:, :3], BOX[:, :3] + 0.5, BOX[:, :3] - 0.5]),
        "D4": BOX[BOX.sum(1) % 2 == 0],
        "E8": e8_points(2) if name == "E8" else BOX,
    }[name].unique(dim=0)
    norms = candidates.square().sum(1)
    return candidates[norms == norms[norms > 0].min()]


@pytest.fixture(params=[*LATTICES, "A5", "D6"])
def any_lattice(request: pytest.FixtureRequest) -> Lattice:
    return lattice(request.param)


def enough(kind: Lattice, rows: int) -> int:
    """Fewer where the nearest point is sought in thousands of cosets."""
    return min(rows, 1000) if kind.cosets > 1000 else rows


def test_volume_is_the_determinant_of_the_generator(any_lattice: Lattice) -> None:
    assert any_lattice.generator.shape == (any_lattice.dimension, any_lattice.dimension)
    assert float(torch.linalg.det(any_lattice.generator).abs()) == pytest.approx(
        any_lattice.volume, rel=1e-12
    )


def test_e8_has_the_shells_of_its_theta_series(shells: dict[int, torch.Tensor]) -> None:
    # 1 + 240 q^2 + 2160 q^4: kissing number 240; the nearest point of each is itself, and it has coordinates.
    assert [len(shells[norm]) for norm in (0, 2, 4)] == [1, 240, 2160]
    points = torch.cat(list(shells.values()))
    assert torch.equal(E8.nearest(points), points)
    assert torch.equal(E8.coordinates(points).double() @ E8.generator, points)


def test_e8_nearest_is_the_nearest_of_all_candidates(shells: dict[int, torch.Tensor]) -> None:
    # In the cube |x_i| <= 1/2 the norm is at most sqrt(2) and the covering radius is 1: the nearest point
    # has a squared norm of at most (1 + sqrt(2))^2 < 6.
    x = torch.rand(4000, 8, generator=generator(), dtype=torch.float64) - 0.5
    candidates = torch.cat(list(shells.values()))
    best = candidates[torch.cdist(x, candidates, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)]
    assert torch.equal(E8.nearest(x), best)


@pytest.mark.parametrize("name", LATTICES)
def test_shortest_vectors_and_kissing_number(name: str) -> None:
    kind, vectors = lattice(name), shortest(name).unique(dim=0)
    assert len(vectors) == KISSING[name]
    assert torch.equal(vectors.square().sum(1).unique(), torch.tensor([MINIMAL_NORM[name]]).double())
    points = kind.project(vectors)
    assert torch.allclose(kind.coordinates(points).double() @ kind.generator, points, atol=1e-12)
    assert torch.equal(kind.decide(vectors[:: len(vectors) // 500 + 1]), vectors[:: len(vectors) // 500 + 1])


@pytest.mark.parametrize(("name", "unit"), [("BW16", 2), ("Leech", 8)])
def test_nothing_is_shorter_in_sixteen_and_twenty_four_dimensions(name: str, unit: int) -> None:
    # Scaled by 1/unit both are even: norms are multiples of 2 unit, half the minimal norm. An integer vector of
    # that norm is one coordinate of size 2 or 4, or a word of weight 4 (twice that): neither is there.
    kind = lattice(name)
    gram = kind.basis @ kind.basis.T / unit
    assert torch.equal(gram, gram.round())
    assert bool((gram.diagonal() % 2 == 0).all())
    single = torch.eye(kind.dimension, dtype=torch.float64) * (2 * unit) ** 0.5
    assert not (kind.nearest(single) == single).all(1).any()


def test_reed_muller_and_golay_codes() -> None:
    # Weight enumerators: 1, 30, 1 at 0, 8, 16; 1, 759, 2576, 759, 1 at 0, 8, 12, 16, 24. Closed under addition.
    for code, k, weights in (
        (bw16._EVEN, 5, {0: 1, 8: 30, 16: 1}),
        (leech._EVEN, 12, {0: 1, 8: 759, 12: 2576, 16: 759, 24: 1}),
    ):
        words = code.words.long()
        assert len(words.unique(dim=0)) == 2**k
        found, counts = words.sum(1).unique(return_counts=True)
        assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == weights
        numbers = (words << torch.arange(words.shape[1])).sum(1)
        assert torch.equal((numbers ^ numbers[7]).sort().values, numbers.sort().values)
        assert int((words @ words.T % 2).sum()) == 0


@pytest.mark.parametrize("name", ["Z", "A2", "A3", "A3*", "D4"])
def test_nearest_is_the_nearest_of_all_points_around(name: str) -> None:
    # In a fundamental cell of these bases no coordinate of the nearest point is above 4.
    kind = lattice(name)
    choices = torch.tensor(list(itertools.product(range(-4, 6), repeat=kind.dimension)), dtype=torch.float64)
    points = choices @ kind.generator
    x = torch.rand(1000, kind.dimension, generator=generator(12), dtype=torch.float64) @ kind.generator
    best = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    assert torch.equal(kind.coordinates(kind.nearest(x)), choices[best].long())


@pytest.mark.parametrize("name", ["BW16", "Leech"])
def test_nearest_is_the_best_of_all_cosets(name: str) -> None:
    kind = lattice(name)
    code, unit = (bw16._EVEN, 1) if name == "BW16" else (leech._EVEN, 2)
    shifts = code.words * unit
    if name == "Leech":
        shifts = torch.cat([shifts, shifts + torch.tensor([-3.0] + [1.0] * 23)])
    x = torch.rand(20, kind.dimension, generator=generator(13), dtype=torch.float64) @ kind.generator
    for row in x:
        candidates = nearest_even_sum(row - shifts, 2 * unit) + shifts
        best = candidates[(candidates - row).square().sum(1).argmin()]
        assert torch.equal(kind.nearest(row), best)


@pytest.mark.parametrize("name", ["BW16", "Leech"])
def test_no_shortest_step_leads_nearer(name: str) -> None:
    kind, steps = lattice(name), shortest(name)
    x = torch.rand(100, kind.dimension, generator=generator(14), dtype=torch.float64) @ kind.generator
    gap = x - kind.nearest(x)
    assert float((gap @ steps.T).max()) < MINIMAL_NORM[name] / 2


def test_nearest_moves_with_the_lattice(any_lattice: Lattice) -> None:
    n, rows = any_lattice.dimension, enough(any_lattice, 5000)
    x = torch.rand(rows, n, generator=generator(1), dtype=torch.float64)
    steps = torch.randint(-50, 50, (rows, n), generator=generator(2))
    home = any_lattice.coordinates(any_lattice.nearest(x))
    moved = any_lattice.nearest(x + steps.double() @ any_lattice.generator)
    assert torch.equal(any_lattice.coordinates(moved), home + steps)
    assert torch.equal(any_lattice.coordinates(any_lattice.nearest(8 * x, scale=8) / 8), home)


def test_second_moment_by_monte_carlo(any_lattice: Lattice) -> None:
    # Uniform over a fundamental cell; G = E|x - Q(x)|^2 / (n V^(2/n)) within 4 standard errors of 0.1 % each.
    n, rows = any_lattice.dimension, VECTORS[any_lattice.name]
    coordinates = torch.rand(rows, n, generator=generator(3), dtype=torch.float64)
    x = (coordinates @ any_lattice.generator).float()
    moment = (x - any_lattice.nearest(x)).double().square().mean(1) / any_lattice.volume ** (2 / n)
    error = float(moment.std()) / rows**0.5
    assert error < 0.001 * any_lattice.second_moment
    assert abs(float(moment.mean()) - any_lattice.second_moment) < 4 * error


def test_published_second_moments() -> None:
    published = {"Z": 0.0833333, "A2": 0.0801875, "A3": 0.0787451, "A3*": 0.0785433, "D4": 0.0766032}
    published |= {"E8": 0.0716821, "BW16": 0.0682976, "Leech": 0.0657707, "D3": 0.0787451}
    for name, value in published.items():
        assert lattice(name).second_moment == pytest.approx(value, abs=5.1e-8)


def test_no_cell_is_rounder_than_a_ball(any_lattice: Lattice) -> None:
    # Of a ball G = Gamma(n/2 + 1)^(2/n) / ((n + 2) pi): 1/12 in one dimension, and 1 / (2 pi e) in the limit.
    n = any_lattice.dimension
    ball = math.gamma(n / 2 + 1) ** (2 / n) / ((n + 2) * math.pi)
    assert (
        1 / (2 * math.pi * math.e) < ball <= any_lattice.second_moment * (1 + 1e-12) <= 1 / 12 * (1 + 2e-12)
    )


@pytest.mark.parametrize("scale", [2, 3, 256, 3 * 256, 7 * 256, 61 * 256, 64 * 256])
def test_e8_decides_exactly_on_ties_and_beside_them(scale: int, shells: dict[int, torch.Tensor]) -> None:
    # The 240 shortest vectors v are the ones that bound the Voronoi cell (Conway & Sloane 1982), so p is a
    # nearest point iff 2 (x - p).v <= |v|^2 for each of them, times the scale: here in Python's integers.
    roots = [[int(2 * c) for c in root] for root in shells[2].tolist()]
    points = torch.randint(-(2**20), 2**20, (60, 8), generator=generator(4)).double() @ E8.generator
    middles = points + shells[2][torch.randint(240, (60,), generator=generator(5))] / 2
    holes = points + torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    beside = torch.randint(-1, 2, (60, 8), generator=generator(6)).double()
    tied = (torch.cat([middles, holes]) * scale * 2).round() / 2
    x = torch.cat([tied.floor(), tied.floor() + beside.repeat(2, 1)])
    nearest = E8.nearest(x, scale=scale)
    assert torch.equal(E8.coordinates(nearest / scale).double() @ E8.generator * scale, nearest)
    for gap in (2 * (x - nearest)).to(torch.int64).tolist():
        assert all(sum(a * b for a, b in zip(gap, root, strict=True)) <= 4 * scale for root in roots)


@pytest.mark.parametrize("scale", [2, 3, 256, 7 * 256, 64 * 256])
@pytest.mark.parametrize("name", ["A2", "A3", "A5", "D4", "D6"])
def test_root_lattices_decide_exactly_on_ties_and_beside_them(name: str, scale: int) -> None:
    # Their shortest vectors bound the Voronoi cell; as above, for A_n in its n + 1 coordinates.
    kind = lattice(name)
    n, width = kind.basis.shape
    roots = pairs(width, 1)
    roots = (roots if name[0] == "D" else roots[roots.sum(1) == 0]).long()
    points = torch.randint(-(2**20), 2**20, (300, n), generator=generator(15)).double() @ kind.basis * scale
    middle = roots[torch.randint(len(roots), (300,), generator=generator(16))].double() * scale / 2
    beside = torch.randint(-1, 2, (300, n), generator=generator(17)).double() @ kind.basis
    x = points + middle.floor() + beside
    gap = (x - kind.decide(x, scale=scale)).long()
    assert bool((2 * gap @ roots.T <= 2 * scale).all())


@pytest.mark.parametrize("scale", [2, 3, 256, 7 * 256, 64 * 256])
@pytest.mark.parametrize("name", ["BW16", "Leech"])
def test_large_integers_are_decided_as_small_ones(name: str, scale: int) -> None:
    # Half-way between two points, where ties are, and beside it: the same distance at the origin and far away.
    kind = lattice(name)
    steps = shortest(name)[:: KISSING[name] // 40]
    x = (steps * scale / 2).floor() + torch.randint(-1, 2, steps.shape, generator=generator(18)).double()
    far = torch.randint(-(2**20), 2**20, steps.shape, generator=generator(19)).double() @ kind.basis * scale
    home, away = (x - kind.nearest(x, scale=scale)), (x + far - kind.nearest(x + far, scale=scale))
    assert torch.equal(home.square().sum(1), away.square().sum(1))
    assert bool((home @ shortest(name).T <= scale * MINIMAL_NORM[name] / 2).all())


@pytest.mark.parametrize("scale", [2, 3, 7 * 256, 64 * 256])
def test_z_decides_exactly_on_ties_and_beside_them(scale: int) -> None:
    multiples = torch.randint(-(2**49) // scale, 2**49 // scale, (2000, 1), generator=generator(7))
    for beside in (-1, 0, 1):
        x = multiples * scale + scale // 2 + beside
        nearest = lattice("Z").nearest(x.double(), scale=scale)
        for value, found in zip(x.flatten().tolist(), nearest.flatten().tolist(), strict=True):
            assert int(found) % scale == 0
            assert 2 * abs(value - int(found)) <= scale


def test_ties_go_the_same_way_wherever_a_vector_stands(any_lattice: Lattice) -> None:
    shape = enough(any_lattice, CHUNK_ROWS + 7), any_lattice.basis.shape[1]
    halves = torch.randint(-4, 5, shape, generator=generator(8)).double() / 2
    whole = any_lattice.decide(halves)
    order = torch.randperm(len(halves), generator=generator(9))
    assert torch.equal(any_lattice.decide(halves[order]), whole[order])
    for row in (0, 1, 15, 16, len(halves) // 2, len(halves) - 8, len(halves) - 1):
        assert torch.equal(any_lattice.decide(halves[row]), whole[row])


def test_coordinates_invert_the_generator_exactly(any_lattice: Lattice) -> None:
    c = torch.randint(-(2**24), 2**24, (1000, any_lattice.dimension), generator=generator(10))
    assert torch.equal(any_lattice.coordinates(c.double() @ any_lattice.generator), c)


def test_the_generator_is_lower_triangular_and_the_basis_in_other_coordinates(any_lattice: Lattice) -> None:
    generator_ = any_lattice.generator
    assert torch.equal(generator_, generator_.tril())
    assert bool((generator_.diagonal() > 0).all())
    assert torch.allclose(any_lattice.embed(generator_), any_lattice.basis, atol=1e-14)
    gram = any_lattice.basis @ any_lattice.basis.T
    assert torch.allclose(generator_ @ generator_.T, gram, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("leading", [(), (0,), (5,), (2, 3)])
def test_shape_and_dtype_stay(any_lattice: Lattice, dtype: torch.dtype, leading: tuple[int, ...]) -> None:
    x = torch.randn(*leading, any_lattice.dimension, generator=generator(11), dtype=torch.float64).to(dtype)
    nearest = any_lattice.nearest(x)
    assert nearest.shape == x.shape
    assert nearest.dtype == dtype
    assert torch.allclose(nearest.double(), any_lattice.nearest(x.double()), rtol=1e-5, atol=1e-6)


def test_vectors_of_another_length_are_refused() -> None:
    for x in (torch.zeros(8, 4), torch.zeros(())):
        with pytest.raises(ValueError, match="lattice E8 takes vectors of 8 along the last axis"):
            E8.nearest(x)


@pytest.mark.parametrize("name", ["B9", "A1", "D1", "A25", "A02", "e8", "A"])
def test_an_unknown_lattice_is_refused_by_name(name: str) -> None:
    with pytest.raises(
        ParameterError, match=rf"no lattice '{name}'; use one of Z, A2, .*or An or Dn with n from 2"
    ):
        lattice(name)
