"""What the page of verdicts says of cells that are too small to support a region, counted by hand."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats

from qbench import suite
from qbench.cli.verdict_page import page
from qbench.cli.verdict_rules import limits, rules
from qbench.evidence import MISSING, Evidence, Record
from qbench.schema import Cell, Spec
from qbench.suite import Suite

GRID = """
name = "mine"
version = 1
[[grid]]
track = "float"
target = "weight"
model = "mlp"
dataset = "digits"
optimizer = "adam"
"""
CLAIMS = """
[[hypothesis]]
id = "SLOW"
claim = "slow"
track = "float"
windows = ["early", "late"]
all = [{ figure = "drift_kept", at_least = 0.95 }]
[[hypothesis]]
id = "BOUND"
claim = "bounded"
track = "float"
all = [{ figure = "run.lipschitz_kept", at_least = 0.99 }]
[[hypothesis]]
id = "INT8"
claim = "eight bits"
track = "float"
all = [{ figure = "weights.int8_loss", at_most = 0.5 }, { figure = "other", at_most = 0.5 }]
"""


@pytest.fixture
def stated(tmp_path: Path) -> Suite:
    (tmp_path / "mine.toml").write_text(GRID + CLAIMS)
    return suite.parse(tmp_path / "mine.toml")


def record(dataset: str, counts: Mapping[str, int], status: str = "ok") -> Record:
    cell = Cell(track="float", track_version=1, target="weight", dataset=Spec(name=dataset), seed=0)
    metrics = {name: {"value": 0.0, "unit": "1", "n": n} for name, n in counts.items()}
    return Record(cell, status, metrics=metrics)


def said(stated: Suite, *records: Record) -> dict[str, str]:
    """By hypothesis, what the list says of it."""
    lines = limits(Evidence(stated, {"float": ""}, {"float": records})).split("\n")[2:]
    return {line[2:].partition(":")[0]: line for line in lines}


def cell(dataset: str, steps: int, pictures: int) -> Record:
    names = ("early.drift_kept", "late.drift_kept", "run.lipschitz_kept")
    return record(dataset, {**dict.fromkeys(names, steps), "weights.int8_loss": pictures, "other": 1})


def test_shares_of_few_steps_and_few_pictures_cannot_support(stated: Suite) -> None:
    """0.025^(1/8) = .631; 1.96 / 362 = .541 points, and 195.9964 / .5 = 391.99, so that 390 pictures are enough."""
    found = said(stated, cell("digits", 5, 360), cell("mnist", 8, 390))
    assert list(found) == ["SLOW", "BOUND", "INT8"]
    assert "in 4 of 4 cells (digits, mnist), which have 5 to 8 steps" in found["SLOW"]
    assert "the interval of 8 is still 0.631 to 1." in found["SLOW"]
    assert "in 2 of 2 cells (digits, mnist), which have 5 to 8 steps" in found["BOUND"]
    assert "in 1 of 2 cells (digits), which have 360 test pictures" in found["INT8"]
    assert "the interval of 360 is still -0.541 to 0.541." in found["INT8"]


@pytest.mark.parametrize(
    ("steps", "few"), [(71, ["SLOW", "BOUND"]), (72, ["BOUND"]), (367, ["BOUND"]), (368, [])]
)
def test_enough_steps_are_where_clopper_and_pearson_reach_the_share(
    stated: Suite, steps: int, few: list[str]
) -> None:
    assert list(said(stated, cell("mnist", steps, 10_000))) == few
    low = stats.binomtest(steps, steps).proportion_ci(method="exact").low
    assert [name for name, share in (("SLOW", 0.95), ("BOUND", 0.99)) if low < share] == few


def test_one_picture_less_is_too_few(stated: Suite) -> None:
    assert math.ceil(195.9964 / 0.5) - 2 == 390
    assert list(said(stated, cell("mnist", 400, 389))) == ["INT8"]


def test_only_measured_cells_count_and_without_them_nothing_is_said(stated: Suite) -> None:
    none = Evidence(stated, {"float": ""}, {"float": [record("mnist", {}, MISSING)]})
    assert limits(none) == ""
    assert "too few data" not in page(none, [], "mine")


def test_the_page_has_the_list(stated: Suite) -> None:
    evidence = Evidence(stated, {"float": ""}, {"float": [cell("digits", 5, 360)]})
    assert f"\n\n{limits(evidence)}\n\n" in page(evidence, [], "mine")


def test_rules_of_gradients_stand_where_there_are_gradients(stated: Suite) -> None:
    tracks = (["float"], ["float", "gradient-statistics"])
    without, beside = (rules(Evidence(stated, {}, {name: [] for name in names})) for names in tracks)
    assert len(without) == 1
    assert beside[0] == without[0]
    assert "bootstrap" in beside[1]
    assert "bootstrap" not in without[0]
