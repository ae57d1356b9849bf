"""The best of several betas."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from qbench.message import Stream, nbytes
from qbench.quantizers.lattices import lattice
from qbench.quantizers.lattices.betas import best_subset
from qbench.quantizers.nested_lattice import NestedLattice

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from nested_lattices import UNIT_SCALE, context, gaussian, mse_with_error, reconstruct

FOUR = [3.33, 4.17, 5.17, 8.0]


def test_the_best_of_four_betas_reproduces_the_reference() -> None:
    # .00586(2) at R = 4.007: 4 standard errors, ours and the reference's. The ideal rate is log2(14) and the entropy of
    # the choice; the bytes may take half a percent more.
    quantizer = NestedLattice(m=14, beta=FOUR, offset="zero", overload="best-of-k", coder="rans")
    x = gaussian(800_000)
    mse, error = mse_with_error(quantizer, x, UNIT_SCALE)
    assert abs(mse - 0.00586) < 4 * math.hypot(error, 2e-5)
    codes = quantizer.encode(x, UNIT_SCALE, context=context())
    choice = codes["choice"]
    assert isinstance(choice, Stream)
    shares = choice.values.bincount() / len(choice.values)
    ideal = math.log2(14) - float((shares * shares.log2()).sum()) / 8
    assert ideal == pytest.approx(4.007, abs=0.002)
    assert ideal < 8 * nbytes(codes) / x.numel() < 1.005 * ideal


def test_fitted_betas_are_no_worse_than_those_of_the_reference() -> None:
    quantizer = NestedLattice(m=14, offset="zero", overload="best-of-k")
    codebook = quantizer.fit(gaussian(262_144, seed=1), context=context())
    mse, error = mse_with_error(quantizer, gaussian(400_000), codebook)
    assert codebook["beta"].shape == (4,)
    assert bool((codebook["beta"].diff() > 0).all())
    assert mse < 0.00586 + 4 * error


@pytest.mark.parametrize("dither", [None, "subtractive"])
def test_every_vector_gets_the_beta_that_decodes_nearest(dither: str | None) -> None:
    # The same seed of the dither for all of them; 1e-6 for float32.
    x = gaussian(16_000, seed=11) * 1.5
    settings = {"m": 6, "offset": "zero", "dither": dither}
    several = NestedLattice(beta=FOUR, overload="best-of-k", **settings)
    alone = [NestedLattice(beta=beta, overload="wrap", **settings) for beta in FOUR]
    errors = [
        (x - reconstruct(quantizer, x, UNIT_SCALE)).square().view(-1, 8).sum(1)
        for quantizer in (several, *alone)
    ]
    least = torch.stack(errors[1:]).min(0).values
    assert bool((errors[0] <= least * (1 + 1e-5) + 1e-6).all())
    assert float((errors[0] - least).abs().median()) < 1e-6


def test_what_overloads_with_every_beta_is_shrunk_with_the_largest() -> None:
    x = gaussian(4000, 8, seed=12) * 20
    best = reconstruct(NestedLattice(m=6, beta=FOUR, overload="best-of-k"), x, UNIT_SCALE)
    shrunk = reconstruct(NestedLattice(m=6, beta=FOUR[-1], overload="shrink"), x, UNIT_SCALE)
    assert bool(((x - best).square().sum(1) <= (x - shrunk).square().sum(1) * (1 + 1e-5)).all())
    assert float((best == shrunk).all(1).float().mean()) > 0.5


def test_a_fixed_choice_costs_two_bits_a_vector() -> None:
    quantizer = NestedLattice(m=16, overload="best-of-k")
    codes = quantizer.encode(
        gaussian(80_000), quantizer.fit(gaussian(80_000), context=context()), context=context()
    )
    assert 8 * nbytes(codes) / 80_000 == pytest.approx(4 + 2 / 8, abs=0.01)


@pytest.mark.parametrize("name", ["Z", "E8"])
def test_the_best_of_several_betas_stays_above_the_rate_distortion_function(name: str) -> None:
    for m, k in itertools.product((2, 4), (2, 4)):
        quantizer = NestedLattice(lattice=name, m=m, k=k, offset="zero", overload="best-of-k")
        codebook = quantizer.fit(gaussian(8_000, seed=14), context=context())
        mse, error = mse_with_error(quantizer, gaussian(40_000, seed=13), codebook)
        assert mse > 4.0 ** -(math.log2(m) + math.log2(k) / lattice(name).dimension) - 3 * error


def test_the_best_subset_is_the_best_of_all() -> None:
    # Squared distances of points on a line to candidate sites: with as many clusters as sites every method must agree.
    points = torch.tensor([0.0, 0.1, 0.2, 5.0, 5.1, 9.0, 9.2])
    sites = torch.linspace(0, 10, 21)
    errors = (sites[:, None] - points).square()
    for k in (1, 2, 3):
        every = itertools.combinations(range(len(sites)), k)
        least = min(float(errors[list(chosen)].amin(0).sum()) for chosen in every)
        found = best_subset(errors, k)
        assert found == sorted(set(found))
        assert float(errors[found].amin(0).sum()) == pytest.approx(least)
