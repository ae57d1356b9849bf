"""Hypotheses: what one cell says of a region, how regions join, and their place in a suite and its digests."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import qbench
from qbench import plugins, suite
from qbench.errors import SuiteError
from qbench.hypotheses import Estimate, Hypothesis, Region, Support, every, measurement, opposite

GRADIENTS = Path(qbench.__file__).parent / "suites" / "gradients.toml"
NEVER = Estimate(9.0, 9.0, 9.0)


def hypothesis(**given: Any) -> Hypothesis:
    whole = {"id": "H", "claim": "it is so", "track": "float", **given}
    if "all" not in whole and "any" not in whole:
        whole["all"] = [{"figure": "x", "at_most": 1.0}]
    return Hypothesis(**whole)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.8, 2.2, "supports"),
        (1.9, 2.0, "supports"),
        (1.79, 2.2, "undecided"),
        (1.8, 2.21, "undecided"),
        (1.0, 3.0, "undecided"),
        (1.0, 1.8, "undecided"),
        (1.0, 1.79, "contradicts"),
        (2.21, 3.0, "contradicts"),
    ],
)
def test_an_interval_inside_supports_and_one_wholly_outside_contradicts(
    low: float, high: float, expected: Support
) -> None:
    """Bounds belong to the region."""
    region = Region(figure="shape", at_least=1.8, at_most=2.2)
    assert region.support(Estimate((low + high) / 2, low, high)) == expected


def test_a_region_with_one_bound_is_open_at_the_other_side() -> None:
    assert Region(figure="x", at_least=1.0).support(Estimate.exact(1e300)) == "supports"
    assert Region(figure="x", at_most=1.0).support(Estimate.exact(-1e300)) == "supports"
    assert Region(figure="x", at_most=1.0).support(None) == "undecided"


INSIDE, OUTSIDE, ACROSS = Estimate(0.5, 0.4, 0.6), Estimate(2.0, 1.9, 2.1), Estimate(1.0, 0.9, 1.1)


@pytest.mark.parametrize(
    ("x", "y", "of_all", "of_any"),
    [
        (INSIDE, INSIDE, "supports", "supports"),
        (INSIDE, OUTSIDE, "contradicts", "supports"),
        (INSIDE, ACROSS, "undecided", "supports"),
        (OUTSIDE, ACROSS, "contradicts", "undecided"),
        (OUTSIDE, OUTSIDE, "contradicts", "contradicts"),
        (ACROSS, None, "undecided", "undecided"),
        (None, OUTSIDE, "contradicts", "undecided"),
    ],
)
def test_all_needs_every_figure_and_any_needs_one(
    x: Estimate | None, y: Estimate | None, of_all: Support, of_any: Support
) -> None:
    regions = [{"figure": "x", "at_most": 1.0}, {"figure": "y", "at_most": 1.0}]
    assert hypothesis(all=regions).support({"x": x, "y": y}) == of_all
    assert hypothesis(any=regions).support({"x": x, "y": y}) == of_any


@pytest.mark.parametrize(
    ("last", "average", "expected"),
    [
        (Estimate(1.5, 1.1, 1.9), Estimate.exact(0.0), "supports"),
        (Estimate(0.5, 0.3, 0.7), Estimate.exact(0.0), "undecided"),
        (Estimate(0.1, 0.0, 0.2), Estimate.exact(0.0), "contradicts"),
        (Estimate(0.1, 0.0, 0.3), Estimate.exact(0.0), "undecided"),
        (Estimate.exact(-2.0), Estimate(0.9, 0.8, 1.0), "undecided"),
        (Estimate.exact(0.25), Estimate.exact(0.25), "contradicts"),
        (Estimate.exact(0.0), None, "undecided"),
    ],
)
def test_predictability_has_regions_of_its_own_for_failing(
    last: Estimate, average: Estimate | None, expected: Support
) -> None:
    """Gains of 1 dB or more by one predictor support G8; gains of at most .25 dB by both contradict it."""
    g8 = next(one for one in suite.parse(GRADIENTS).hypothesis if one.id == "G8")
    assert g8.support({"gain_last_db": last, "gain_average_db": average}) == expected


def test_beside_all_any_failing_region_contradicts() -> None:
    both = hypothesis(
        all=[{"figure": "x", "at_least": 1.0}, {"figure": "y", "at_least": 1.0}],
        fails=[{"figure": "x", "at_most": 0.25}, {"figure": "y", "at_most": 0.25}],
    )
    assert both.support({"x": NEVER, "y": Estimate.exact(0.2)}) == "contradicts"
    assert both.support({"x": NEVER, "y": Estimate.exact(0.5)}) == "undecided"
    assert both.support({"x": NEVER, "y": NEVER}) == "supports"


@pytest.mark.parametrize(
    ("own", "needed", "expected"),
    [
        (INSIDE, "contradicts", "supports"),
        (INSIDE, "undecided", "undecided"),
        (INSIDE, "supports", "contradicts"),
        (OUTSIDE, "contradicts", "contradicts"),
        (OUTSIDE, "undecided", "contradicts"),
        (ACROSS, "contradicts", "undecided"),
    ],
)
def test_what_needs_another_to_fail_is_both(own: Estimate, needed: Support, expected: Support) -> None:
    assert hypothesis(needs_failed="G").support({"x": own}, needed) == expected


def test_opposites() -> None:
    assert [opposite(one) for one in ("supports", "contradicts", "undecided")] == [
        "contradicts",
        "supports",
        "undecided",
    ]
    assert every([]) == "supports"


def test_differences_leave_open_what_their_parts_leave_open() -> None:
    assert Estimate(3.0, 2.0, 4.0) - Estimate(1.0, 0.5, 2.0) == Estimate(2.0, 0.0, 3.5)


def test_measurements_are_named_by_window() -> None:
    assert measurement("early", "shape") == "early.shape"
    assert hypothesis(windows=["early", "late"], exact=True).measured == ["early.x", "late.x"]
    assert hypothesis().measured == ["x", "x.low", "x.high"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"all": [{"figure": "x"}]}, "figure 'x' has no bound"),
        ({"all": [{"figure": "x", "at_least": 2, "at_most": 1}]}, r"at_least=2.0 is above at_most=1.0"),
        ({"all": [{"figure": "x", "at_most": float("nan")}]}, "finite number"),
        ({"all": [{"figure": "X y", "at_most": 1}]}, "figure"),
        (
            {"all": [{"figure": "x", "at_most": 1}], "any": [{"figure": "x", "at_most": 1}]},
            "either all or any",
        ),
        ({"all": []}, "either all or any"),
        ({"needs_failed": "H"}, "needs itself to fail"),
        ({"where": "dataset"}, "cannot read selection term 'dataset'"),
        ({"id": "no spaces here"}, "id"),
    ],
)
def test_a_bad_hypothesis_says_what_is_wrong(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        hypothesis(**given)


# The regions as they were stated before any run: figure, least, most.
STATED: dict[str, list[tuple[str, float | None, float | None]]] = {
    "G0": [("zero_share", None, 0.01)],
    "G1": [("ks_gaussian", None, 0.02), ("excess_kurtosis", -0.5, 0.5), ("shape", 1.8, 2.2)],
    "G2": [
        ("normalized_ks_gaussian", None, 0.02),
        ("normalized_excess_kurtosis", -0.5, 0.5),
        ("normalized_shape", 1.8, 2.2),
    ],
    "G3": [("variance_spread_db", None, 0.5)],
    "G4": [("top4_energy_ratio", None, 2.0), ("decorrelation_gain_db", None, 0.25)],
    "G5": [("median_magnitude", None, 0.575), ("tail_share", 0.0062, None)],
    "G6": [
        ("coding_gap_db_2", -0.25, 0.25),
        ("coding_gap_db_4", -0.25, 0.25),
        ("adapting_gain_db_2", None, 0.25),
        ("adapting_gain_db_4", None, 0.25),
    ],
    "G7a": [("run.lipschitz_kept", 0.99, None)],
    "G7b": [("drift_kept", 0.95, None)],
    "G8": [("gain_last_db", 1.0, None), ("gain_average_db", 1.0, None)],
    "W1": [("weights.share_within_one", 0.99, None), ("weights.int8_loss", None, 0.5)],
    "W2": [("weights.sign_cosine", 0.778, 0.818), ("weights.sign_correlation", 0.75, None)],
    "L1": [("minima", 1.0, None)],
}


def test_suite_gradients_states_the_claims_of_the_notes() -> None:
    stated = suite.parse(GRADIENTS).hypothesis
    regions = {one.id: [(r.figure, r.at_least, r.at_most) for r in one.regions] for one in stated}
    assert regions == STATED
    by_id = {one.id: one for one in stated}
    assert [one.id for one in stated if one.any] == ["G8"]
    assert [one.id for one in stated if one.needs_failed] == ["G2"]
    assert by_id["G2"].needs_failed == "G1"
    assert by_id["L1"].against == {"lattice": "Z"}
    assert [one.id for one in stated if one.exact] == ["L1"]
    narrowed = {one.id: one.budget for one in stated if one.budget}
    assert narrowed == {name: {"gradient": "weights"} for name in ("G7a", "G8", "W1", "W2")}
    for one in stated:
        in_windows = one.id.startswith("G") and one.id != "G7a"
        assert one.windows == (["early", "middle", "late"] if in_windows else [])


def test_suite_gradients_covers_architectures_optimizers_and_data_sets() -> None:
    grids = [grid for grid in suite.parse(GRADIENTS).grid if grid.track == "gradient-statistics"]
    covered = {
        (name(model), name(optimizer), dataset)
        for grid in grids
        for model in grid.model
        for optimizer in grid.optimizer
        for dataset in grid.dataset
    }
    models = ("mlp", "cnn", "alexnet", "resnet18", "densenet121", "googlenet", "vit")
    optimizers = ("sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw")
    data = ("digits", "mnist", "fashion-mnist", "cifar10")
    assert covered == {(m, o, d) for m in models for o in optimizers for d in data}


def test_suite_gradients_looks_at_outputs_too() -> None:
    planned = suite.expand(suite.parse(GRADIENTS), plugins.load(["all"]))
    cells = [one.cell for one in planned if one.cell.budget.get("gradient") == "outputs"]
    assert [(c.model and c.model.name, str(c.dataset)) for c in cells] == [
        ("mlp", "digits"),
        ("cnn", "digits"),
    ]


def test_a_budget_is_part_of_the_protocol_where_one_is_named() -> None:
    bare, narrow = hypothesis(), hypothesis(budget={"gradient": "weights"})
    assert "budget" not in bare.protocol()
    assert narrow.protocol() == {**bare.protocol(), "budget": {"gradient": "weights"}}


def name(spec: str) -> str:
    return re.split(r"[(:]", spec)[0]


def test_l1_is_about_the_gaussian_cells_of_suite_lattice_scaling() -> None:
    catalog = plugins.load(["all"])

    def cells(path: Path) -> set[str]:
        whole = suite.parse(path)
        grids = [grid for grid in whole.grid if grid.track == "lattice-scaling" and grid.target == "source"]
        planned = suite.expand(whole.model_copy(update={"grid": grids, "hypothesis": []}), catalog)
        return {
            one.cell.cell_id
            for one in planned
            if one.cell.dataset
            and one.cell.dataset.name == "gaussian"
            and one.cell.budget["normalization"] == "none"
        }

    assert cells(GRADIENTS) == cells(GRADIENTS.with_name("lattice-scaling.toml"))


SUITE = """
name = "mine"
version = 1
[[grid]]
track = "float"
target = "weight"
model = "mlp"
dataset = "digits"
optimizer = "adam"
[[grid]]
track = "rate-distortion"
target = "source"
quantizer = "uniform"
dataset = "gaussian"
"""
HYPOTHESIS = """
[[hypothesis]]
id = "H1"
claim = "it is so"
track = "float"
all = [{ figure = "x", at_most = 1.0 }]
"""


def write(path: Path, *parts: str) -> suite.Suite:
    file = path / "mine.toml"
    file.write_text(SUITE + "".join(parts))
    return suite.parse(file)


def test_a_hypothesis_is_part_of_the_digest_of_its_track_alone(tmp_path: Path) -> None:
    catalog = plugins.load(["all"])
    bare = write(tmp_path).digests(catalog)
    stated = write(tmp_path, HYPOTHESIS).digests(catalog)
    moved = write(tmp_path, HYPOTHESIS.replace("1.0", "1.5")).digests(catalog)
    reworded = write(tmp_path, HYPOTHESIS.replace("it is so", "so it is")).digests(catalog)
    assert len({bare["float"], stated["float"], moved["float"]}) == 3
    shown = write(tmp_path, HYPOTHESIS + 'report = ["other"]\n').digests(catalog)
    assert reworded == shown == stated
    assert bare["rate-distortion"] == stated["rate-distortion"] == moved["rate-distortion"]


NEEDY = HYPOTHESIS.replace('"H1"', '"H2"') + 'needs_failed = "H1"\n'


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([HYPOTHESIS, HYPOTHESIS], "hypothesis H1 stands there 2 times"),
        (
            [HYPOTHESIS.replace("float", "ptq")],
            "H1 is about track 'ptq', .* there are: float, rate-distortion",
        ),
        ([NEEDY], "H2 needs 'H1' to fail, which is not there; there are: H2"),
        ([HYPOTHESIS, 'windows = ["early"]\n', NEEDY], "H2 needs 'H1' to fail, .*the same windows"),
        (
            [HYPOTHESIS, NEEDY, NEEDY.replace("H1", "H0").replace("H2", "H3").replace("H0", "H2")],
            "H3 needs 'H2' to fail, which needs 'H1' to fail itself",
        ),
        (
            [HYPOTHESIS, 'colour = "red"\n'],
            "unknown key 'colour' in hypothesis 1; allowed: id, claim, track, where, windows, all",
        ),
        (
            [HYPOTHESIS.replace("at_most", "below")],
            "unknown key 'below' in hypothesis 1, all 1; allowed: figure, at_least, at_most",
        ),
        ([HYPOTHESIS, 'where = "dataset"\n'], "hypothesis 1, where: cannot read selection term 'dataset'"),
    ],
)
def test_hypotheses_that_do_not_fit_the_suite_are_named(tmp_path: Path, parts: list[str], words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        write(tmp_path, *parts)
