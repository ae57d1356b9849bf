"""The figures of sources whose figures are known."""

import math

import numpy as np
import pytest
import torch

from qbench.errors import InputError
from qbench.gradient_figures import FIGURES, SAMPLE, figures, magnitude_figures, marginal_figures

ROWS, COLUMNS = 256, 512


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(name: str, shape: tuple[int, ...] = (ROWS, COLUMNS)) -> np.ndarray:
    rng = np.random.default_rng(21)
    signs = rng.choice([-1.0, 1.0], shape)
    draws = {
        "gaussian": lambda: rng.standard_normal(shape),
        "laplace": lambda: rng.laplace(size=shape),
        "generalized gaussian": lambda: signs * rng.gamma(2, size=shape) ** 2,
        "student": lambda: rng.standard_t(4, size=shape),
        "pool": lambda: rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], 1))),
        "grid": lambda: (
            rng.standard_normal(shape)
            * np.exp(rng.standard_normal((shape[0], 1)) + rng.standard_normal((1, shape[1])))
        ),
        "low rank": lambda: (
            rng.standard_normal((shape[0], 4)) @ rng.standard_normal((4, shape[1]))
            + 0.5 * rng.standard_normal(shape)
        ),
    }
    return draws[name]()


def of(name: str) -> dict[str, float]:
    return figures(torch.from_numpy(draw(name)).float(), generator())


def holds(found: dict[str, float]) -> set[str]:
    """The claims as they are stated, G0 to G6."""

    def gaussian(prefix: str = "") -> bool:
        distance, kurtosis = found[f"{prefix}ks_gaussian"], found[f"{prefix}excess_kurtosis"]
        return distance <= 0.02 and abs(kurtosis) <= 0.5 and 1.8 <= found[f"{prefix}shape"] <= 2.2

    claims = {
        "G0": found["zero_share"] <= 0.01,
        "G1": gaussian(),
        "G2": not gaussian() and gaussian("normalized_"),
        "G3": found["variance_spread_db"] <= 0.5,
        "G4": found["top4_energy_ratio"] <= 2 and found["decorrelation_gain_db"] <= 0.25,
        "G5": found["median_magnitude"] <= 0.575 and found["tail_share"] >= 0.0062,
        "G6": all(
            abs(found[f"coding_gap_db_{b}"]) <= 0.25 and found[f"adapting_gain_db_{b}"] <= 0.25
            for b in (2, 4)
        ),
    }
    return {name for name, held in claims.items() if held}


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("gaussian", {"G0", "G1", "G3", "G4", "G6"}),
        ("laplace", {"G0", "G3", "G4", "G5"}),
        ("generalized gaussian", {"G0", "G3", "G4", "G5"}),
        ("student", {"G0", "G3", "G4", "G5"}),
        ("pool", {"G0", "G2", "G4", "G5"}),
        ("grid", {"G0", "G2", "G4", "G5"}),
    ],
)
def test_known_sources_satisfy_the_claims_that_are_true_of_them(name: str, claims: set[str]) -> None:
    assert holds(of(name)) == claims


def test_low_rank_is_not_independent() -> None:
    assert "G4" not in holds(of("low rank"))


@pytest.mark.parametrize(
    ("name", "kurtosis", "shape", "distance", "median", "tail"),
    [
        ("gaussian", 0.0, 2.0, 0.0, 0.6745, 0.0027),
        ("laplace", 3.0, 1.0, 0.0620, 0.4901, 0.0144),
        ("generalized gaussian", 22.2, 0.5, 0.1545, None, None),
    ],
)
def test_figures_are_their_closed_forms(
    name: str, kurtosis: float, shape: float, distance: float, median: float | None, tail: float | None
) -> None:
    """Of n = 2^16. Kurtosis: standard error sqrt(24 / n) = .02 for a Gaussian, about .25 for Laplace; of shape p about
    p * .01; of a distance below .5 / sqrt(n), but a Gaussian's own is about .6 / sqrt(n); of a share sqrt(p / n).
    Laplace: median log(2) / sqrt(2), tail exp(-3 sqrt 2). Shape .5: kurtosis Gamma(10) Gamma(2) / Gamma(6)^2."""
    found = of(name)
    assert found["excess_kurtosis"] == pytest.approx(kurtosis, abs={0.0: 0.08, 3.0: 0.75}.get(kurtosis, 12))
    assert found["shape"] == pytest.approx(shape, rel=0.03)
    assert found["ks_gaussian"] == pytest.approx(distance, abs=1.5 / math.sqrt(SAMPLE))
    if median is not None and tail is not None:
        assert found["median_magnitude"] == pytest.approx(median, abs=4 / math.sqrt(SAMPLE))
        assert found["tail_share"] == pytest.approx(tail, abs=4 * math.sqrt(tail / SAMPLE))


def test_every_figure_is_there_in_order() -> None:
    assert tuple(of("gaussian")) == FIGURES


@pytest.mark.parametrize("exponent", [-100, 60])
def test_figures_know_no_unit(exponent: int) -> None:
    g = torch.from_numpy(draw("pool", (64, 96))).float()
    assert figures(g * 2.0**exponent, generator()) == pytest.approx(
        figures(g, generator()), rel=1e-6, abs=1e-9
    )


def test_figures_are_the_same_again() -> None:
    g = torch.from_numpy(draw("laplace", (1000, 100)))
    assert figures(g, generator(3)) == figures(g, generator(3))


def test_all_that_follows_a_row_is_its_columns() -> None:
    g = torch.from_numpy(draw("pool", (64, 128)))
    assert figures(g.reshape(64, 8, 4, 4), generator()) == figures(g, generator())


def test_zeros_and_dead_rows_are_shares_of_the_whole() -> None:
    """Densities are of what is not 0; magnitudes and codes are of everything."""
    g = torch.from_numpy(draw("gaussian", (200, 300)))
    g[:50] = 0
    g[:, :60] = 0
    found = figures(g, generator())
    assert found["zero_share"] == pytest.approx(1 - 0.75 * 0.8)
    assert found["dead_rows"] == pytest.approx(0.25)
    assert found["ks_gaussian"] < 0.02
    assert found["normalized_ks_gaussian"] < 0.02
    assert abs(found["variance_spread_db"]) < 0.1
    assert found["top4_energy_ratio"] == pytest.approx(1, abs=0.15)
    # P(|u| < median) = 1/2 where .4 are 0: Gaussian coordinates of scale sqrt(1 / .6) reach it at .1 / .6
    assert found["median_magnitude"] == pytest.approx(0.2104 / math.sqrt(0.6), abs=0.03)


def test_a_vector_is_one_row() -> None:
    found = figures(torch.from_numpy(draw("laplace", (5000,))), generator())
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"variance_spread_db", "top4_energy_ratio", "decorrelation_gain_db", "effective_rank"}
    assert found["dead_rows"] == 0
    assert found["normalized_shape"] == pytest.approx(1, abs=0.1)


def test_of_zeros_only_shares_are_defined() -> None:
    found = figures(torch.zeros(20, 30), generator())
    assert (found["zero_share"], found["dead_rows"]) == (1, 1)
    assert sum(map(math.isnan, found.values())) == len(FIGURES) - 2


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (1, 1000), (5, 2, 2)])
def test_small_tensors_have_what_is_defined(shape: tuple[int, ...]) -> None:
    found = figures(torch.ones(shape), generator())
    assert (found["zero_share"], found["dead_rows"]) == (0, 0)
    assert math.isnan(found["shape"])


def test_marginal_figures_by_hand() -> None:
    """Eight values of +-1: kurtosis 1, and Phi(1) = .8413 where half lies below."""
    found = marginal_figures(np.array([-1.0, 1.0] * 4 + [0.0] * 5))
    assert found["excess_kurtosis"] == pytest.approx(-2)
    assert found["ks_gaussian"] == pytest.approx(0.8413447 - 0.5)
    assert found["shape"] == pytest.approx(50)


def test_magnitude_figures_by_hand() -> None:
    """Nine of 1 and one of 11 in root mean square sqrt(13): 1 / 3.606, and one of ten beyond 3."""
    found = magnitude_figures(np.array([1.0] * 9 + [-11.0]))
    assert found == {"median_magnitude": pytest.approx(1 / math.sqrt(13)), "tail_share": pytest.approx(0.1)}


@pytest.mark.parametrize(
    ("g", "words"), [(torch.zeros(0, 3), "is empty"), (torch.tensor([1.0, math.nan]), "is not finite")]
)
def test_no_figures_without_numbers(g: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        figures(g, generator())
