"""What one tensor says of the claims: sources whose answers are known."""

import math

import pytest
import torch
from torch import Tensor

import qbench
from qbench.errors import InputError
from qbench.hypotheses import Estimate, Hypothesis, Region
from qbench.vector_verdicts import GradientVerdicts, VectorVerdict, Word

ROWS, COLUMNS = 256, 256
NORMAL_KURTOSIS_ERROR = math.sqrt(24 / (ROWS * COLUMNS))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def laplace(*shape: int) -> Tensor:
    u = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())


def words(found: GradientVerdicts) -> dict[str, str]:
    return {one.id: one.verdict for one in found}


@pytest.fixture(scope="module")
def gaussian() -> GradientVerdicts:
    return qbench.gradient_verdicts(normal(ROWS, COLUMNS))


def test_an_iid_gaussian_is_one(gaussian: GradientVerdicts) -> None:
    """All but G2, which needs G1 to fail, and G5, which a Gaussian contradicts: median |u| = .6745."""
    assert words(gaussian) == {
        "G0": "holds",
        "G1": "holds",
        "G2": "fails",
        "G3": "holds",
        "G4": "holds",
        "G5": "fails",
        "G6": "holds",
    }


def test_figures_of_a_gaussian_are_the_known_ones(gaussian: GradientVerdicts) -> None:
    """Four standard errors: of the kurtosis sqrt(24/n), of the median .5 / (density sqrt(n)), of the tail sqrt(p/n)."""
    n = ROWS * COLUMNS
    kurtosis = gaussian["G1"].figures["excess_kurtosis"]
    median, tail = (gaussian["G5"].figures[name] for name in ("median_magnitude", "tail_share"))
    assert kurtosis is not None
    assert median is not None
    assert tail is not None
    assert abs(kurtosis.value) < 4 * NORMAL_KURTOSIS_ERROR
    assert abs(median.value - 0.67449) < 4 * 0.5 / (2 * 0.31778 * math.sqrt(n))
    assert abs(tail.value - 0.0026998) < 4 * math.sqrt(0.0027 / n)


def test_intervals_have_the_width_of_the_standard_error(gaussian: GradientVerdicts) -> None:
    """Half the width is t(7, .975) times an estimated standard error with 7 degrees of freedom.

    Its ratio to t times the true one lies within sqrt(chi2(7) / 7), between .29 and 1.86 in 99.8 % of the draws.
    """
    for name, error in (("excess_kurtosis", NORMAL_KURTOSIS_ERROR),):
        estimate = gaussian["G1"].figures[name]
        assert estimate is not None
        assert 0.29 < (estimate.high - estimate.low) / 2 / (2.3646 * error) < 1.86


def test_a_laplacian_is_peaked_and_not_gaussian() -> None:
    found = qbench.gradient_verdicts(laplace(ROWS, COLUMNS))
    assert {name: words(found)[name] for name in ("G1", "G2", "G3", "G4", "G5", "G6")} == {
        "G1": "fails",
        "G2": "fails",
        "G3": "holds",
        "G4": "holds",
        "G5": "holds",
        "G6": "fails",
    }


@pytest.mark.parametrize("as_vector", [False, True])
def test_a_pool_of_gaussians_is_a_scale_mixture(as_vector: bool) -> None:
    """Rows of standard deviations from .1 to 10. As a vector its rows are read again: 65,536 = 256 x 256."""
    pool = normal(ROWS, COLUMNS) * torch.logspace(-1, 1, ROWS, dtype=torch.float64)[:, None]
    found = qbench.gradient_verdicts(pool.reshape(-1) if as_vector else pool)
    assert {name: words(found)[name] for name in ("G1", "G2", "G3", "G4")} == {
        "G1": "fails",
        "G2": "holds",
        "G3": "fails",
        "G4": "holds",
    }


def test_three_directions_are_not_independent() -> None:
    x = normal(ROWS, 3) @ normal(3, COLUMNS, seed=1) + 0.3 * normal(ROWS, COLUMNS, seed=2)
    found = qbench.gradient_verdicts(x)
    assert found["G4"].verdict == "fails"
    energy = found["G4"].figures["top4_energy_ratio"]
    assert energy is not None
    assert energy.low > 2


def test_an_atom_at_zero_is_found() -> None:
    """Half the values are zero: sd of the share sqrt(.25 / n) = .002."""
    mask = torch.rand((ROWS, COLUMNS), generator=torch.Generator().manual_seed(3)) < 0.5
    found = qbench.gradient_verdicts(normal(ROWS, COLUMNS) * mask)
    share = found["G0"].figures["zero_share"]
    assert found["G0"].verdict == "fails"
    assert share is not None
    assert abs(share.value - 0.5) < 4 * math.sqrt(0.25 / (ROWS * COLUMNS))
    assert found["G1"].verdict == "holds"


def test_verdicts_do_not_depend_on_the_unit_and_are_repeated() -> None:
    x = normal(64, 128).float()
    first, again, scaled = (qbench.gradient_verdicts(given) for given in (x, x, x * 2.0**-40))
    assert str(first) == str(again)
    assert words(first) == words(scaled)


def test_figures_that_are_not_defined_decide_nothing() -> None:
    found = qbench.gradient_verdicts(torch.zeros(64, 64))
    assert words(found)["G0"] == "fails"
    assert found["G1"].verdict == "undecided"
    assert found["G1"].figures["shape"] is None
    assert "not defined here" in str(found)


def test_the_table_has_a_line_per_figure_and_says_why(gaussian: GradientVerdicts) -> None:
    lines = str(gaussian).splitlines()
    assert len(lines) == 1 + sum(2 + len(one.figures) for one in gaussian)
    kurtosis = next(line for line in lines if line.split()[0] == "excess_kurtosis")
    assert "-0.5 <= excess_kurtosis <= 0.5" in kurtosis
    claims = [line for line in lines if line.startswith("G")]
    assert [line.split(None, 2) for line in claims] == [[one.id, one.verdict, one.claim] for one in gaussian]
    assert "because G1 holds, but this claim needs it to fail" in lines[lines.index(claims[2]) + 1]
    assert "because median_magnitude, tail_share lie outside" in lines[lines.index(claims[5]) + 1]


def test_why_names_what_decides() -> None:
    inside, across, outside = Estimate(0, -0.1, 0.1), Estimate(1, 0.5, 1.5), Estimate(2, 1.5, 2.5)
    two = Hypothesis(
        id="H",
        claim="small",
        track="t",
        needs_failed="N",
        all=[Region(figure="a", at_most=1), Region(figure="b", at_most=1)],
    )

    def why(a: Estimate | None, b: Estimate | None, verdict: Word, needed: Word) -> str:
        return VectorVerdict(two, {"a": a, "b": b}, verdict, needed).why

    assert why(inside, inside, "holds", "fails") == "N fails, as it must; every figure lies inside its region"
    assert why(inside, outside, "fails", "fails") == "b lies outside its region"
    assert why(inside, inside, "fails", "holds") == "N holds, but this claim needs it to fail"
    assert (
        why(None, across, "undecided", "fails") == "a is not defined here; b has an interval across a bound"
    )


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(63, 65), "has 4095 coordinates; verdicts need floats, at least 4096"),
        (torch.zeros(4096, dtype=torch.int64), "torch.int64"),
        (
            torch.full((64, 64), math.nan),
            r"4,096 of the 4,096 elements of x are NaN or infinite, the first at x\[0, 0\]",
        ),
        ([1, 2], "x is of type list; give a float tensor"),
    ],
)
def test_what_cannot_be_judged_is_refused(x: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        qbench.gradient_verdicts(x)


def test_an_unknown_claim_is_named(gaussian: GradientVerdicts) -> None:
    assert (len(gaussian), gaussian["G3"].region) == (7, "variance_spread_db <= 0.5")
    with pytest.raises(KeyError, match="no verdict 'G9'; there are: G0, G1"):
        gaussian["G9"]
