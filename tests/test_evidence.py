"""From a registry to what hypotheses are judged by: missing, failed and partnered cells, and unknown names."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from qbench import evidence, plugins, suite
from qbench.errors import RegistryError, SuiteError
from qbench.evidence import Evidence, gather
from qbench.hypotheses import Estimate
from qbench.registry import Registry
from qbench.schema import Cell, Measurement, Result
from qbench.suite import Planned, Suite
from qbench.tracks.lattice_verdict import decide_l1
from qbench.verdicts import Tally

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_results import STARTED, result_of, write_run

SUITE = """
name = "mine"
version = 1
[[grid]]
track = "float"
target = "weight"
model = ["mlp", "cnn"]
dataset = "digits"
optimizer = ["sgd", "adam"]
seed = [0, 1]
[[hypothesis]]
id = "H"
claim = "x is small"
track = "float"
windows = ["early", "late"]
all = [{ figure = "x", at_most = 1.0 }]
"""
LATTICES = """
name = "lattices"
version = 1
[[grid]]
track = "lattice-scaling"
target = "source"
quantizer = [
  "nested-lattice(lattice=Z,m=2)", "nested-lattice(lattice=A2,m=2)", "nested-lattice(lattice=E8,m=2)",
  "nested-lattice(lattice=Z,m=4)", "nested-lattice(lattice=A2,m=4)", "nested-lattice(lattice=E8,m=4)",
  "nested-lattice(lattice=D4,m=8)",
]
dataset = ["gaussian", "laplacian"]
[grid.budget]
elements = 1024
[[hypothesis]]
id = "L1"
claim = "more minima"
track = "lattice-scaling"
where = "dataset=gaussian target=source"
against = { lattice = "Z" }
exact = true
all = [{ figure = "minima", at_least = 1 }]
"""
Metrics = Mapping[str, float | None]


@pytest.fixture(scope="module")
def catalog() -> plugins.Catalog:
    return plugins.load(["all"])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "results.duckdb")


def parse(path: Path, text: str) -> Suite:
    file = path / "mine.toml"
    file.write_text(text)
    return suite.parse(file)


def result(cell: Cell, metrics: Metrics | None) -> Result:
    if metrics is None:
        return result_of(cell, status="error")
    return result_of(cell, measurements={name: Measurement(value=v, unit="1") for name, v in metrics.items()})


def fill(
    registry: Registry,
    planned: Iterable[Planned],
    measured: Callable[[Cell], Metrics | None],
    digest: str = "",
) -> None:
    """A run of these cells; None is a failure."""
    planned = list(planned)
    results = [result(one.cell, measured(one.cell)) for one in planned]
    write_run(registry, results, [digest or one.digest for one in planned])


def windows(early: float, late: float, half: float = 0.0) -> dict[str, float | None]:
    pairs = (("early", early), ("late", late))
    return {
        f"{window}.x{end}": value + sign * half
        for window, value in pairs
        for end, sign in (("", 0), (".low", -1), (".high", 1))
    }


def test_cells_windows_and_failures_are_told_apart(
    tmp_path: Path, catalog: plugins.Catalog, registry: Registry
) -> None:
    """Of 8 planned cells 2 were never run and 1 failed; 5 cells with 2 windows are 10 observations."""
    mine = parse(tmp_path, SUITE)
    planned = suite.expand(mine, catalog)
    failed = planned[0].cell
    fill(registry, planned[:6], lambda cell: None if cell == failed else windows(0.5, 1.5, half=0.4))
    found = gather(mine, catalog, registry)
    assert found.counts("float") == {"ok": 5, "error": 1, "missing": 2}
    (verdict,) = found.verdicts()
    assert verdict.outcome == "depends"
    assert verdict.tally == Tally(supports=5, contradicts=5, undecided=0)
    assert verdict.by("window") == {"early": Tally(5, 0, 0), "late": Tally(0, 5, 0)}
    assert verdict.largest_component == ("window", pytest.approx(1.0))
    assert set(verdict.by("architecture")) == {"mlp", "cnn"}


def test_the_newest_attempt_counts(tmp_path: Path, catalog: plugins.Catalog, registry: Registry) -> None:
    mine = parse(tmp_path, SUITE)
    planned = suite.expand(mine, catalog)[:1]
    fill(registry, planned, lambda cell: None)
    assert [verdict.outcome for verdict in gather(mine, catalog, registry).verdicts()] == ["unmeasured"]
    again = {"attempt": 2, "started": STARTED + timedelta(hours=1)}
    registry.write([result(planned[0].cell, windows(0.5, 0.5)).model_copy(update=again)])
    assert [verdict.outcome for verdict in gather(mine, catalog, registry).verdicts()] == ["holds"]


def estimates(found: Evidence) -> list[Estimate | None]:
    (verdict,) = found.verdicts()
    return [one.observation.figures["x"] for one in verdict.judged]


def test_a_figure_without_its_interval_says_nothing_unless_it_is_exact(
    tmp_path: Path, catalog: plugins.Catalog, registry: Registry
) -> None:
    mine = parse(tmp_path, SUITE)
    planned = suite.expand(mine, catalog)[:2]
    whole = windows(0.5, 0.5)
    broken = {"early.x": 0.5, "late.x": 0.5, "late.x.low": None, "late.x.high": 0.7}
    fill(registry, planned, lambda cell: whole if cell == planned[0].cell else broken)
    found = gather(mine, catalog, registry)
    assert estimates(found) == [Estimate.exact(0.5)] * 2 + [None] * 2
    assert found.verdicts()[0].tally == Tally(supports=2, contradicts=0, undecided=2)
    exactly = gather(parse(tmp_path, SUITE + "exact = true\n"), catalog, registry)
    assert estimates(exactly) == [Estimate.exact(0.5)] * 4


def test_the_kind_of_a_layer_is_a_factor_where_layers_are_known(
    tmp_path: Path, catalog: plugins.Catalog, registry: Registry
) -> None:
    """x of a layer is 1 in convolutions and 3 in linear layers, plus 1 in cnn: kind 1, architecture 1/4, total 5/4.

    Of 32 layers each share is less by the other's over 30.
    """
    mine = parse(tmp_path, SUITE)
    planned = suite.expand(mine, catalog)
    facts = {"layers": "0.a:convolution:4096 1.b:linear:8192"}

    def layers(cell: Cell) -> list[float]:
        assert cell.model is not None
        shift = float(cell.model.name == "cnn")
        return [1.0 + shift, 3.0 + shift]

    for one in planned:
        bare = result(one.cell, windows(0.5, 0.5))
        more = {
            name: m.model_copy(update={"samples": layers(one.cell)} if name.endswith("x") else {})
            for name, m in bare.measurements.items()
        }
        registry.write([bare.model_copy(update={"measurements": more, "facts": facts})])
    (verdict,) = gather(mine, catalog, registry).verdicts()
    assert dict(verdict.components) == {
        "layer kind": pytest.approx((1 - 1 / 4 / 30) / (5 / 4)),
        "architecture": pytest.approx((1 / 4 - 1 / 30) / (5 / 4)),
    }


BUDGETS = """
name = "budgets"
version = 1
[[grid]]
track = "gradient-statistics"
target = "gradient"
model = ["mlp", "cnn"]
dataset = "digits"
optimizer = "sgd"
[[grid]]
track = "gradient-statistics"
target = "gradient"
model = "mlp"
dataset = "digits"
optimizer = "sgd"
[grid.budget]
gradient = "outputs"
[[hypothesis]]
id = "ALL"
claim = "x is small"
track = "gradient-statistics"
windows = ["early", "late"]
all = [{ figure = "x", at_most = 1.0 }]
[[hypothesis]]
id = "SOME"
claim = "x of weights is small"
track = "gradient-statistics"
budget = { gradient = "weights" }
windows = ["early", "late"]
all = [{ figure = "x", at_most = 1.0 }]
"""


def test_a_hypothesis_may_be_about_the_cells_of_a_budget(
    tmp_path: Path, catalog: plugins.Catalog, registry: Registry
) -> None:
    """Weights' x is .5, that of outputs 1.5: of all cells the gradient is what it depends on."""
    mine = parse(tmp_path, BUDGETS)
    outputs = windows(1.5, 1.5)
    of_weights = {**windows(0.5, 0.5), "late.x.left_out": 2.0}

    def measured(cell: Cell) -> Metrics:
        return of_weights if cell.budget["gradient"] == "weights" else outputs

    fill(registry, suite.expand(mine, catalog), measured)
    whole, some = gather(mine, catalog, registry).verdicts()
    assert (whole.outcome, whole.tally) == ("depends", Tally(4, 2, 0))
    assert whole.largest_component == ("gradient", pytest.approx(1.0))
    assert whole.by("gradient") == {"outputs": Tally(0, 2, 0), "weights": Tally(4, 0, 0)}
    assert (some.outcome, some.tally) == ("holds", Tally(4, 0, 0))
    # two layers in the late windows of mlp and cnn
    assert some.left_out("x") == (4, 2)


@pytest.mark.parametrize(
    ("text", "metrics", "error", "said"),
    [
        pytest.param(
            *(SUITE, {"early.x": 0.5, "late.x": 0.5}, SuiteError),
            "H: no measured cell .* has 'early.x.low'; .* needs exact = true",
            id="a figure that never has an interval",
        ),
        pytest.param(
            *(BUDGETS.replace('gradient = "weights"', 'gradient = "biases"'), windows(0.5, 0.5), SuiteError),
            "SOME: no cell of track .* has a budget of gradient=biases",
            id="a budget that no cell has",
        ),
        pytest.param(
            *(SUITE, windows(0.5, 0.5, half=-0.1), RegistryError),
            r"result [0-9a-f]+: measurement 'early.x' has early.x.low=0.6 above",
            id="an interval the wrong way round",
        ),
        pytest.param(
            *(SUITE.replace('figure = "x"', 'figure = "y"'), windows(0.5, 0.5), SuiteError),
            "hypothesis H: no measured cell of track 'float' has 'early.y'; .* there are: early.x, late.x$",
            id="a figure that nobody measured",
        ),
    ],
)
def test_what_no_verdict_can_be_made_of_is_named(
    tmp_path: Path,
    catalog: plugins.Catalog,
    registry: Registry,
    text: str,
    metrics: Metrics,
    error: type[Exception],
    said: str,
) -> None:
    mine = parse(tmp_path, text)
    fill(registry, suite.expand(mine, catalog)[:1], lambda cell: metrics)
    with pytest.raises(error, match=said):
        gather(mine, catalog, registry).verdicts()


def test_what_was_measured_before_the_hypotheses_were_stated_is_known(
    tmp_path: Path, catalog: plugins.Catalog, registry: Registry
) -> None:
    mine = parse(tmp_path, SUITE)
    planned = suite.expand(mine, catalog)
    fill(registry, planned[:3], lambda cell: windows(0.5, 0.5), digest="0" * 64)
    fill(registry, planned[3:5], lambda cell: windows(0.5, 0.5))
    records = gather(mine, catalog, registry).records["float"]
    assert [one.as_stated for one in records[:5]] == [False, False, False, True, True]


def test_a_suite_without_hypotheses_is_refused(
    tmp_path: Path, catalog: plugins.Catalog, registry: Registry
) -> None:
    bare = parse(tmp_path, SUITE.split("[[hypothesis]]")[0])
    with pytest.raises(SuiteError, match="suite 'mine' states no hypothesis"):
        gather(bare, catalog, registry)


class Row:
    """A record as the verdict at the end of a run reads it."""

    def __init__(self, record: evidence.Record) -> None:
        self.cell, self.record = record.cell, record

    def value(self, name: str) -> float | None:
        found = self.record.estimate(name, exact=True)
        return None if found is None else found.value


@pytest.mark.parametrize(
    ("minima", "outcome", "tally"),
    [
        ({"Z": 1, "A2": 2, "E8": 3, "D4": 9}, "holds", Tally(4, 0, 0)),
        ({"Z": 2, "A2": 2, "E8": 1, "D4": 9}, "fails", Tally(0, 4, 0)),
        ({"Z": 1, "A2": 1, "E8": 2, "D4": 9}, "depends", Tally(2, 2, 0)),
    ],
)
def test_lattices_are_judged_against_the_integers_as_at_the_end_of_a_run(
    tmp_path: Path,
    catalog: plugins.Catalog,
    registry: Registry,
    minima: dict[str, int],
    outcome: str,
    tally: Tally,
) -> None:
    """A2 and E8 at m = 2 and 4 on the Gaussian; D4 at m = 8 has no partner, and other sources do not count."""
    lattices = parse(tmp_path, LATTICES)

    def measured(cell: Cell) -> Metrics:
        assert cell.quantizer is not None
        assert cell.dataset is not None
        found = minima[cell.quantizer.parameters["lattice"]]
        return {"minima": found if cell.dataset.name == "gaussian" else 7}

    fill(registry, suite.expand(lattices, catalog), measured)
    found = gather(lattices, catalog, registry)
    (verdict,) = found.verdicts()
    assert (verdict.outcome, verdict.tally) == (outcome, tally)
    other = decide_l1([Row(record) for record in found.records["lattice-scaling"]])
    assert (other.outcome, other.supporting, other.cells) == (outcome, tally.supports, tally.cells)
    if outcome == "depends":
        assert verdict.largest_component == ("lattice", pytest.approx(1.0))
