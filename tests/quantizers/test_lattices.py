import itertools

import pytest
import torch

from qbench.errors import ParameterError
from qbench.quantizers.lattices import LATTICES, Lattice, lattice
from qbench.quantizers.lattices.lattice import CHUNK_ROWS

E8 = lattice("E8")


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


@pytest.fixture(params=LATTICES.values(), ids=lambda kind: kind.name)
def any_lattice(request: pytest.FixtureRequest) -> Lattice:
    return request.param


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


def test_nearest_moves_with_the_lattice(any_lattice: Lattice) -> None:
    n = any_lattice.dimension
    x = torch.rand(5000, n, generator=generator(1), dtype=torch.float64)
    steps = torch.randint(-50, 50, (5000, n), generator=generator(2)).double()
    shift = steps @ any_lattice.generator
    assert torch.equal(any_lattice.nearest(x + shift), any_lattice.nearest(x) + shift)
    assert torch.equal(any_lattice.nearest(8 * x, scale=8), 8 * any_lattice.nearest(x))


def test_second_moment_by_monte_carlo(any_lattice: Lattice) -> None:
    # Uniform over a fundamental cell; G = E|x - Q(x)|^2 / (n V^(2/n)) within 4 standard errors.
    n = any_lattice.dimension
    x = torch.rand(200_000, n, generator=generator(3), dtype=torch.float64) @ any_lattice.generator
    moment = (x - any_lattice.nearest(x)).square().mean(1) / any_lattice.volume ** (2 / n)
    error = float(moment.std()) / len(x) ** 0.5
    assert abs(float(moment.mean()) - any_lattice.second_moment) < 4 * error


def test_published_second_moments() -> None:
    assert lattice("Z").second_moment == pytest.approx(1 / 12, rel=1e-15)
    assert E8.second_moment == pytest.approx(0.0716821, abs=5e-8)


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
    halves = (
        torch.randint(-4, 5, (CHUNK_ROWS + 7, any_lattice.dimension), generator=generator(8)).double() / 2
    )
    whole = any_lattice.nearest(halves)
    order = torch.randperm(len(halves), generator=generator(9))
    assert torch.equal(any_lattice.nearest(halves[order]), whole[order])
    for row in (0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 6):
        assert torch.equal(any_lattice.nearest(halves[row]), whole[row])


def test_coordinates_invert_the_generator_exactly(any_lattice: Lattice) -> None:
    c = torch.randint(-(2**24), 2**24, (1000, any_lattice.dimension), generator=generator(10))
    assert torch.equal(any_lattice.coordinates(c.double() @ any_lattice.generator), c)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("leading", [(), (0,), (5,), (2, 3)])
def test_shape_and_dtype_stay(any_lattice: Lattice, dtype: torch.dtype, leading: tuple[int, ...]) -> None:
    x = torch.randn(*leading, any_lattice.dimension, generator=generator(11), dtype=torch.float64).to(dtype)
    nearest = any_lattice.nearest(x)
    assert nearest.shape == x.shape
    assert nearest.dtype == dtype
    assert torch.equal(nearest.double(), any_lattice.nearest(x.double()))


def test_vectors_of_another_length_are_refused() -> None:
    for x in (torch.zeros(8, 4), torch.zeros(())):
        with pytest.raises(ValueError, match="lattice E8 takes vectors of 8 along the last axis"):
            E8.nearest(x)


def test_an_unknown_lattice_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"no lattice 'A9'; use one of Z, E8"):
        lattice("A9")
