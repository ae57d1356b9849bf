"""Landscapes with known minima, what certifies one, and what is said about them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import erfc
from torch import Tensor

from qbench import plugins
from qbench.baselines import Baseline, make_baseline
from qbench.components import Examples
from qbench.datasets.scale_mixture import DEVIATION
from qbench.errors import InputError, InvalidReconstructionError, ParameterError, SuiteError
from qbench.measuring import decode
from qbench.schema import Cell, Outcome, Recipe, Spec
from qbench.tracks.beta_landscape import Point, minima
from qbench.tracks.lattice_scaling import LatticeScaling
from qbench.tracks.lattice_verdict import decide_l1


class Bench:
    """What the track asks of its surroundings, in this process."""

    device = torch.device("cpu")

    def __init__(self, root: Path | None = None, images: Examples | None = None) -> None:
        self.catalog = plugins.load(["all"])
        self.root, self.examples, self.factor = root, images, 1.0

    def build(self, kind: Any, spec: Spec) -> Any:
        return self.catalog.build(kind, spec)

    def quantizer(self, spec: Spec) -> Any:
        return self.catalog.build("quantizer", spec)

    def data(self, spec: Spec) -> Examples:
        assert self.examples is not None
        return self.examples

    def baseline(self, recipe: Recipe) -> Baseline:
        assert self.root is not None
        return make_baseline(recipe, self, self.root)

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        return [decode(payload) * self.factor for payload in payloads]

    def loaded(self) -> None:
        pass


def run(
    quantizer: str, dataset: str = "gaussian", *, bench: Any = None, seed: int = 0, **budget: Any
) -> Outcome:
    track, bench = LatticeScaling(**budget), bench or Bench()
    cell = Cell(
        track="lattice-scaling",
        track_version=1,
        target="source",
        quantizer=bench.quantizer(Spec.parse(quantizer)).spec,
        dataset=Spec(name=dataset),
        seed=seed,
        budget=track.spec.parameters,
    )
    return track.run(cell, bench)


def certified(outcome: Outcome) -> list[tuple[float, float]]:
    """beta and relative mean squared error of the certified minima."""
    every = [outcome.measurements[f"minimum_{name}"].samples for name in ("beta", "mse", "certified")]
    return [(beta, mse) for beta, mse, sure in zip(*every, strict=True) if sure]


@pytest.mark.parametrize(
    ("offset", "reference"), [("zero", [(0.57, 0.4476), (4.19, 0.5726)]), ("half", [(0.533, 0.4381)])]
)
def test_the_mixture_of_two_gaussians(offset: str, reference: list[tuple[float, float]]) -> None:
    # 1 % of the error; at 2^20 values its standard error is half of that, for about 10500 of them are wide. The source
    # has unit variance here. The minima are flat: 10 % of beta.
    quantizer = f"nested-lattice(lattice=Z,m=4,overload=nearest,offset={offset})"
    outcome = run(quantizer, "scale-mixture", elements=2**20, lower=2.0, per_octave=3, refine=2)
    found = certified(outcome)
    assert [mse for _, mse in found] == pytest.approx([mse for _, mse in reference], rel=0.01)
    assert [beta * DEVIATION for beta, _ in found] == pytest.approx([beta for beta, _ in reference], rel=0.1)
    origin = str(outcome.facts["origin"])
    assert ("small vectors" in origin and "large vectors" in origin) == (len(reference) == 2)


def test_blocks_of_fixed_norm_have_a_minimum_for_every_shell() -> None:
    # The reference's lattice has shortest vectors of length 1, ours of sqrt(2); the grid is 1 % fine: 2 %.
    quantizer = "nested-lattice(lattice=A2,m=8,overload=nearest,offset=zero)"
    budget = {"elements": 8192, "lower": 1.2, "upper": 16.0, "refine": 8}
    outcome = run(quantizer, normalization="block", **budget)
    betas = [beta * math.sqrt(2) for beta, _ in certified(outcome)]
    assert betas == pytest.approx([3.17, 4.13, 5.99, 10.75], rel=0.02)
    assert str(outcome.facts["origin"]).count("a shell of codewords crosses the sphere") == 4
    assert len(certified(run(quantizer, **budget))) == 1


@pytest.mark.parametrize(
    ("m", "mse"), [(2, 0.363380), (3, None), (4, 0.118846), (8, 0.0374397), (16, 0.0115429)]
)
def test_integers_have_at_most_one_minimum_on_a_gaussian(m: int, mse: float | None) -> None:
    # With an offset of 1/2 it is Max's optimal uniform quantizer. The squared error's relative deviation is below 2 at
    # 65536 values: 4 standard errors are 3 %.
    found = certified(run(f"nested-lattice(lattice=Z,m={m},offset=half)", upper=32.0))
    assert len(found) == 1
    assert mse is None or found[0][1] == pytest.approx(mse, rel=0.03)
    for policy in ("wrap", "nearest"):
        quantizer = f"nested-lattice(lattice=Z,m={m},overload={policy},offset=zero)"
        assert len(certified(run(quantizer, elements=32768, upper=32.0))) <= 1


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_small_sample_makes_false_minima_that_are_not_certified(seed: int) -> None:
    # A2, M = 8, wrap, 20,000 vectors: one that overloads less moves the error by 2 %.
    quantizer = "nested-lattice(lattice=A2,m=8,overload=wrap,offset=zero)"
    outcome = run(quantizer, seed=seed, elements=40_000, lower=4.0, upper=16.0, per_octave=32)
    assert len(certified(outcome)) == 1
    deep = [db >= 0.1 for db in outcome.measurements["minimum_prominence_db"].samples]
    assert sum(deep) > 1
    assert "below 5 paired standard errors" in str(outcome.facts["origin"])


def test_the_reference_of_four_betas_lies_on_the_landscape() -> None:
    # .00586 at 3.33, 4.17, 5.17, 8; beta is the least of them. 8192 vectors whose error has a relative deviation
    # below .7: 4 standard errors are 3 %.
    quantizer = (
        "nested-lattice(lattice=E8,m=14,overload=best-of-k,beta=[3.33,4.17,5.17,8.0],offset=zero,coder=rans)"
    )
    outcome = run(quantizer, lower=3.33, upper=6.66, per_octave=1)
    assert outcome.measurements["beta"].samples[0] == pytest.approx(3.33)
    assert outcome.measurements["mse"].samples[0] == pytest.approx(0.00586, rel=0.03)
    assert outcome.facts["rate_class"] == "coded"


def test_ratios_of_betas_are_fitted_where_none_are_given() -> None:
    outcome = run("nested-lattice(lattice=A2,m=4,overload=best-of-k,k=2)", elements=16384, per_octave=4)
    alone = run("nested-lattice(lattice=A2,m=4,overload=wrap)", elements=16384, per_octave=4)
    assert outcome.measurements["mse"].value < alone.measurements["mse"].value
    assert outcome.measurements["rate"].value == pytest.approx(2 + 1 / 2, abs=0.03)


def test_the_terms_of_the_error() -> None:
    # Z with offset 1/2 overloads iff |x| > beta / 2: probability erfc(beta / sqrt(8)), 4 binomial standard errors, and
    # beta is in units of this sample's root mean square, known to 1 / sqrt(2 * 65536): another .2 %.
    # With a dither the granular error is (beta / M)^2 / 12 for every input; the largest beta leaves nothing else. Its
    # square has a relative deviation of sqrt(4 / 5), so 4 standard errors at 65536 values are 1.4 %, and 4 more for the
    # energy of the sample, 2.2 %.
    found = run("nested-lattice(lattice=Z,m=16,overload=wrap,offset=half)", refine=1).measurements
    for beta, share in zip(found["beta"].samples, found["overload_probability"].samples, strict=True):
        expected = float(erfc(beta / math.sqrt(8)))
        assert abs(share - expected) <= 4 * math.sqrt(expected * (1 - expected) / 65536) + 2e-3
    terms = zip(found["granular_mse"].samples, found["overload_mse"].samples, strict=True)
    assert [sum(pair) for pair in terms] == pytest.approx(found["mse"].samples)

    dithered = run("nested-lattice(lattice=Z,m=16,overload=wrap,dither=subtractive)", refine=1).measurements
    assert dithered["mse"].samples[-1] == pytest.approx((64 / 16) ** 2 / 12, rel=0.014 + 0.022)
    assert dithered["overload_mse"].samples[-1] == 0


def test_all_policies_see_the_same_vectors() -> None:
    outcomes = [
        run(f"nested-lattice(lattice=D4,m=4,overload={policy})", elements=8192)
        for policy in ("wrap", "shrink", "nearest")
    ]
    assert len({outcome.measurements["mse"].samples[-1] for outcome in outcomes}) == 1
    again = run("nested-lattice(lattice=D4,m=4,overload=wrap)", elements=8192)
    assert again == outcomes[0]


def test_rate_limit_and_gap() -> None:
    found = run("nested-lattice(lattice=E8,m=4,overload=shrink)", elements=16384).measurements
    rate, mse = found["rate"].value, found["mse"].value
    assert rate == pytest.approx(2, abs=0.03)
    assert found["distortion_limit"].value == pytest.approx(4.0**-rate)
    assert found["gap_db"].value == pytest.approx(10 * math.log10(mse * 4.0**rate))
    assert found["mse"].n == len(found["beta"].samples) == len(found["mse"].samples)
    assert found["mse"].value == min(found["mse"].samples)
    assert found["decoded_mse"].samples[0] == pytest.approx(mse)


def test_a_decoder_that_disagrees_is_no_result() -> None:
    bench = Bench()
    bench.factor = 1.01
    with pytest.raises(InvalidReconstructionError, match="not the 0.1"):
        run("nested-lattice(lattice=Z,m=4)", bench=bench, elements=2048)


@pytest.mark.parametrize(
    ("quantizer", "dataset", "message"),
    [
        ("uniform(bits=4)", "gaussian", "scans the beta of quantizer 'nested-lattice'; 'uniform' has none"),
        ("nested-lattice(beta=3)", "gaussian", "tries every beta, so beta=3.0 of .* says nothing"),
        ("nested-lattice(m=3)", "digits", "is no iid source; name one, such as gaussian"),
    ],
)
def test_cells_that_make_no_sense(quantizer: str, dataset: str, message: str) -> None:
    with pytest.raises(SuiteError, match=message):
        run(quantizer, dataset)


def test_budgets_that_make_no_sense() -> None:
    with pytest.raises(ParameterError, match=r"upper=3\.0 is less than twice lower=2\.0"):
        LatticeScaling(lower=2.0, upper=3.0)
    with pytest.raises(InputError, match="128 vectors are too few for 1024 batches"):
        run("nested-lattice(m=3)", elements=1024, batches=1024)


def test_captured_gradients(tmp_path: Path) -> None:
    pixels = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (640, 1, 8, 8), generator=pixels, dtype=torch.uint8)
    labels = (images.float().mean((1, 2, 3)) > 127.5).long()
    bench = Bench(tmp_path, Examples(images[:512], labels[:512], images[512:], labels[512:], classes=2))
    track = LatticeScaling(elements=4096, training={"epochs": 1}, lower=0.25, upper=256.0, per_octave=4)
    cell = Cell(
        track="lattice-scaling",
        track_version=1,
        target="gradient",
        quantizer=bench.quantizer(Spec.parse("nested-lattice(lattice=D4,m=4)")).spec,
        model=Spec.parse("mlp(width=32,depth=2)"),
        dataset=Spec(name="digits"),
        optimizer=Spec(name="adam"),
        budget=track.spec.parameters,
    )
    assert track.baseline(cell) is not None
    outcome = track.run(cell, bench)
    baseline = bench.baseline(Recipe.of(cell, track.parameters.training.model_dump(mode="json")))
    assert (outcome.baseline_id, outcome.baseline_sha256) == (baseline.baseline_id, baseline.sha256)
    assert outcome.facts["layers"] == 3
    assert "distortion_limit" not in outcome.measurements
    # 64 * 32 + 32 * 32 + 32 * 2 values, in 32 batches of whole vectors
    assert outcome.measurements["rate"].value == pytest.approx(2, abs=0.1)
    assert 0 < outcome.measurements["mse"].value < 1
    assert outcome == track.run(cell, bench)


def landscape(errors: Sequence[Sequence[float]]) -> list[Point]:
    """Points at beta = 1, 2, 3, ... from the errors of every batch."""
    return [
        Point(float(number), torch.tensor(batches).reshape(-1, 1, 1) * torch.eye(2) / 2, 0.0, 0.0)
        for number, batches in enumerate(errors, 1)
    ]


def test_prominence_is_what_must_be_climbed() -> None:
    found = minima(landscape([[e] * 8 for e in (1.0, 0.5, 0.8, 0.4, 0.9)]))
    assert [one.beta for one in found] == [2, 4]
    assert [one.prominence_db for one in found] == pytest.approx(
        [10 * math.log10(0.8 / 0.5), 10 * math.log10(0.9 / 0.4)]
    )
    assert all(one.certified for one in found)


@pytest.mark.parametrize("errors", [(1.0, 0.5, 0.2), (0.2, 0.5, 1.0), (0.2, 0.5, 0.2), (0.3, 0.3, 0.3)])
def test_the_ends_of_the_grid_are_no_minima(errors: tuple[float, ...]) -> None:
    assert minima(landscape([[e] * 8 for e in errors])) == []


@pytest.mark.parametrize(("depth", "sure"), [(0.0230, False), (0.0235, True)])
def test_a_tenth_of_a_decibel_is_needed(depth: float, sure: bool) -> None:
    # 0.1 dB is a factor of 1.02329.
    found = minima(landscape([[1.0] * 8, [0.5] * 8, [0.5 * (1 + depth)] * 8, [0.4] * 8, [1.0] * 8]))
    assert [one.certified for one in found] == [sure, True]


@pytest.mark.parametrize(("spread", "sure"), [(0.5, True), (0.6, False)])
def test_five_paired_standard_errors_are_needed(spread: float, sure: bool) -> None:
    # A mean of 1 and differences 1 +- s in eight batches: a standard error of s / sqrt(7).
    high = [2 + spread, 2 - spread] * 4
    (found,) = minima(landscape([high, [1.0] * 8, high]))
    assert found.prominence_se == pytest.approx(math.sqrt(7) / spread)
    assert found.certified == sure


def test_a_barrier_that_one_batch_ends_is_not_certified() -> None:
    # From .5 up to .6 everywhere, then down to .4 because of one batch alone: surely a rise, hardly a fall.
    fall = [0.6] * 7 + [-1.0]
    first, second = minima(landscape([[1.0] * 8, [0.5] * 8, [0.6] * 8, fall, [1.0] * 8]))
    assert first.prominence_db > 0.1
    assert first.prominence_se == pytest.approx(1.0)
    assert not first.certified
    assert second.beta == 4


@dataclass(frozen=True)
class Row:
    """A row of the registry as far as the verdict looks."""

    lattice: str
    minima: float
    m: int = 4
    overload: str = "wrap"
    dataset: str = "gaussian"
    normalization: str = "none"

    @property
    def cell(self) -> Cell:
        parameters = {"lattice": self.lattice, "m": self.m, "overload": self.overload, "offset": "generic"}
        return Cell(
            track="lattice-scaling",
            track_version=1,
            target="source",
            quantizer=Spec(name="nested-lattice", parameters=parameters),
            dataset=Spec(name=self.dataset),
            budget={"normalization": self.normalization},
        )

    def value(self, name: str) -> float | None:
        return self.minima if name == "minima" else None


def rows(more: int, of: int) -> list[Row]:
    """So many comparisons with Z, the first ``more`` of which have two minima and Z one."""
    return [
        row
        for m in range(of)
        for row in (Row("Z", 1.0, m=m), Row("E8", 2.0 if m < more else 1.0, m=m, overload="wrap"))
    ]


@pytest.mark.parametrize(
    ("more", "outcome"),
    [(10, "holds"), (8, "holds"), (7, "depends"), (3, "depends"), (2, "fails"), (0, "fails")],
)
def test_l1_is_decided_by_eighty_percent(more: int, outcome: str) -> None:
    verdict = decide_l1(rows(more, 10))
    assert (verdict.outcome, verdict.supporting, verdict.cells) == (outcome, more, 10)
    assert verdict.text.startswith(f"L1 {outcome}")
    assert f"in {more} of 10 cells ({10 * more} %)" in verdict.text
    assert ("largest variance component is the m" in verdict.text) == (outcome == "depends")


def test_l1_names_the_cells_that_differ() -> None:
    differs = [Row("Z", 1.0, overload="expand"), Row("E8", 4.0, overload="expand")]
    assert "E8 expand 1" in decide_l1([*rows(0, 10), *differs]).text


def test_l1_is_about_iid_gaussian_blocks_with_a_partner() -> None:
    others = [
        *(Row(name, 3.0, dataset="laplacian") for name in ("Z", "E8")),
        *(Row(name, 3.0, normalization="block") for name in ("Z", "A2")),
        Row("D4", 3.0, m=5),
        Row("Z", 1.0, m=6),
    ]
    verdict = decide_l1(others)
    assert (verdict.outcome, verdict.cells) == ("undecided", 0)
    assert "no row of an iid Gaussian source has a partner over Z" in verdict.text
