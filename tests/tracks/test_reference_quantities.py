"""Quantities with known answers: by hand, and standard errors that cover."""

import math
from typing import Any

import pytest
import torch

from qbench.tracks.reference_quantities import SCORED, Scored, Totals, in_units


def test_the_jackknife_of_a_mean_is_the_mean_and_its_standard_error() -> None:
    x = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    found = Totals(torch.stack([x, torch.ones(4).double()], 1), lambda t: float(t[0] / t[1])).jackknife()
    assert found.value == pytest.approx(4)
    assert found.standard_error == pytest.approx(float(x.std()) / 2)
    assert found.samples == pytest.approx(x.tolist())


def test_the_jackknife_takes_the_bias_away() -> None:
    """Of the squared mean: E (mean)^2 = mu^2 + s^2 / n, and mean^2 - s^2 / n is what the jackknife gives."""
    x = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    found = Totals(torch.stack([x, torch.ones(4).double()], 1), lambda t: float(t[0] / t[1]) ** 2).jackknife()
    assert found.value == pytest.approx(16 - float(x.var()) / 4)


def test_one_unit_alone_is_exact() -> None:
    assert Totals(torch.tensor([[3.0]]), lambda total: float(total[0])).jackknife().standard_error == 0


def signs(seed: int) -> Scored:
    """The sign of 64 x 64 Gaussian values times their mean magnitude."""
    x = torch.randn(64, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Scored(x, x.sign() * math.sqrt(2 / math.pi), 0.0, None)  # type: ignore[arg-type]


def thirds(seed: int) -> Scored:
    """Three values of probability 1/2, 1/4, 1/4: 1.5 bits."""
    x = torch.rand(64, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Scored(x, (x > 0.5).float() + (x > 0.75).float(), 0.0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quantity", "sample", "truth"),
    [
        ("mse", signs, 1 - 2 / math.pi),
        ("cosine", signs, math.sqrt(2 / math.pi)),
        ("sqnr_db", signs, -10 * math.log10(1 - 2 / math.pi)),
        ("entropy", thirds, 1.5),
    ],
)
def test_standard_errors_cover(quantity: str, sample: Any, truth: float) -> None:
    """z of 400 samples: mean 0 within 4 / sqrt(400), and of a t with 63 degrees of freedom 95.4 % lie within 2.04:
    at least 92 % do, with a binomial standard error of 1.0 %; not over 98.7 % do.
    """
    z = []
    for seed in range(400):
        found = SCORED[quantity](sample(seed)).jackknife()
        z.append((found.value - truth) / found.standard_error)
    assert abs(sum(z) / 400) < 0.2
    assert 0.92 < sum(abs(value) < 2.04 for value in z) / 400 < 0.987


def test_parts_of_the_first_axis_are_units() -> None:
    assert in_units(torch.zeros(2048, 10), 10).shape == (64, 32, 10)
    assert in_units(torch.zeros(16, 10), 10).shape == (16, 1, 10)
    assert in_units(torch.zeros(12, 10), 10).shape == (4, 3, 10)


def scored(x: Any, y: Any, at: float = 0.0) -> Scored:
    return Scored(torch.tensor(x).double(), torch.tensor(y).double(), at, None)  # type: ignore[arg-type]


def test_quantities_by_hand() -> None:
    x, y = [[[3.0, 4.0]], [[0.0, 2.0]]], [[[3.0, 0.0]], [[0.0, 1.0]]]

    def of(quantity: str, at: float = 0.0) -> float:
        totals = SCORED[quantity](scored(x, y, at))
        return totals.follows(totals.rows.sum(0))

    assert of("mse") == pytest.approx(17 / 4)
    assert of("sqnr_db") == pytest.approx(10 * math.log10(29 / 17))
    assert of("cosine") == pytest.approx(11 / math.sqrt(29 * 10))
    assert of("angle") == pytest.approx(math.degrees(math.acos(11 / math.sqrt(290))))
    assert of("vector_cosine") == pytest.approx((3 / 5 + 1) / 2)
    assert of("vector_cosine_deviation") == pytest.approx(0.2)
    assert of("relative_variance") == pytest.approx((16 / 25 + 1 / 4) / 2)
    assert of("nonzeros") == 1
    assert of("entropy") == pytest.approx(1.5)  # 0 twice, 1, 3
    assert of("level", 1) == pytest.approx((3 + 1) / 2)  # the second of 0, 3 and of 0, 1
    assert of("step") == pytest.approx((3 + 1) / 2)
    assert of("threshold") == pytest.approx((3.5 + 1) / 2)  # 4 becomes zero and 3 does not; 0 and 2


def test_levels_of_groups_are_in_units_of_the_largest() -> None:
    found = scored([[[0.0] * 3]] * 2, [[[2.0, -1.0, 0.5]], [[-8.0, -4.0, 2.0]]], at=1.0)
    assert SCORED["group_level"](found).jackknife().value == pytest.approx(-0.5)  # -1, -.5, .25, 1
