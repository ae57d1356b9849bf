"""Subtractive dither."""

from pathlib import Path

import pytest
import torch

from qbench.components import Context
from qbench.message import nbytes, pack
from qbench.quantizers.lattices import LATTICES, lattice
from qbench.quantizers.lattices.dither import voronoi_dither
from qbench.quantizers.lattices.voronoi_code import UNIT
from qbench.quantizers.nested_lattice import NestedLattice

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from nested_lattices import UNIT_SCALE, context, gaussian, generator, reconstruct, standard_error


@pytest.mark.parametrize("policy", ["wrap", "shrink", "expand", "best-of-k"])
@pytest.mark.parametrize("source", ["gaussian", "zero", "constant"])
@pytest.mark.parametrize("name", ["Z", "A2", "A3*", "D4", "E8"])
def test_dither_makes_the_granular_error_independent_of_the_input(
    name: str, source: str, policy: str
) -> None:
    # MSE = G V^(2/n) (beta / M)^2 within 4 standard errors over vectors; no vector comes near the edge of the cell.
    kind, rows, m = lattice(name), 6000, 16
    x = {
        "gaussian": gaussian(rows, kind.dimension, seed=15) * 0.3,
        "zero": torch.zeros(rows, kind.dimension),
        "constant": torch.full((rows, kind.dimension), 0.13),
    }[source]
    beta = 4.0 * kind.volume ** (-1 / kind.dimension)
    # best-of-k has the larger beta's error too: with two that differ by a millionth they are one
    betas = [beta, beta * (1 + 1e-6)] if policy == "best-of-k" else beta
    quantizer = NestedLattice(lattice=name, m=m, beta=betas, overload=policy, dither="subtractive")
    error = (reconstruct(quantizer, x, UNIT_SCALE) - x).double() * m / 4.0
    per_vector = error.square().mean(1)
    assert abs(float(per_vector.mean()) - kind.second_moment) < 4 * standard_error(per_vector)
    assert bool((error.mean(0).abs() < 5 * error.std(0) / rows**0.5).all()), "the error has no mean"


def test_the_seed_of_the_dither_is_drawn_and_sent() -> None:
    quantizer = NestedLattice(lattice="D4", m=8, overload="shrink", dither="subtractive")
    x = gaussian(4000, seed=16)
    first, again, other = (
        quantizer.encode(x, {**UNIT_SCALE, "beta": torch.tensor(5.0)}, context=Context(generator(seed)))
        for seed in (0, 0, 1)
    )
    assert int(first["seed"]) == int(again["seed"]) != int(other["seed"])
    assert pack(first) == pack(again)
    plain = NestedLattice(lattice="D4", m=8, overload="shrink").encode(
        x, {**UNIT_SCALE, "beta": torch.tensor(5.0)}, context=context()
    )
    named = nbytes(first) - nbytes(plain) - 4
    assert 0 < named < 12, "its name and kind"


def test_a_dither_spans_chunks() -> None:
    x = gaussian(3 * 2**15 + 17, seed=17) * 0.2
    decoded = reconstruct(
        NestedLattice(lattice="Z", m=16, beta=4.0, overload="wrap", dither="subtractive"), x, UNIT_SCALE
    )
    assert float((x - decoded).abs().max()) <= 0.125 + 1e-6


@pytest.mark.parametrize("name", LATTICES)
def test_the_dither_is_uniform_over_the_cell(name: str) -> None:
    # n G V^(2/n) is the mean square over the cell; 4 standard errors, and the lattice is 1/256 coarse: 2e-5.
    kind, rows = lattice(name), 300 if name == "Leech" else 4000
    u = voronoi_dither(kind, rows, UNIT, "7/0", torch.device("cpu"))
    # no lattice point is nearer than 0; on the boundary another may be as near
    assert torch.equal((u - kind.decide(u, scale=UNIT)).square().sum(1), u.square().sum(1))
    squares = (u / UNIT).square().sum(1) / kind.dimension
    expected = kind.second_moment * kind.volume ** (2 / kind.dimension)
    assert abs(float(squares.mean()) / expected - 1) < 4 * standard_error(squares) / expected + 2e-5
    assert not torch.equal(u, voronoi_dither(kind, rows, UNIT, "7/1", torch.device("cpu")))
