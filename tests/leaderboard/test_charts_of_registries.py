"""Charts that read the registry itself: scans, layers, gradients, training with coded gradients; and all charts."""

import json
import math
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest
import vl_convert

from qbench.leaderboard.charts import all_charts, theme
from qbench.leaderboard.charts.beta import beta, simplified
from qbench.leaderboard.charts.chart import Chart
from qbench.leaderboard.charts.gradient_codes import gradient_codes
from qbench.leaderboard.charts.gradient_density import binned, folded, gradient_density
from qbench.leaderboard.charts.gradient_increments import gradient_increments
from qbench.leaderboard.charts.gradient_memory import gradient_memory
from qbench.leaderboard.charts.newest import taken
from qbench.leaderboard.charts.sensitivity import sensitivity
from qbench.leaderboard.charts.traffic import traffic
from qbench.leaderboard.points import points_of
from qbench.leaderboard.standings import standings
from qbench.registry import Registry, RunCell
from qbench.schema import Result, Spec

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from registries import CATALOG, compressed, gradients, layers, realistic, result, scans, write

IDS = [
    *("signature", "pareto", "heat", "profile", "sources", "beta", "sensitivity"),
    *(
        "gradient-density",
        "gradient-memory",
        "gradient-increments",
        "gradient-codes",
        "traffic",
        "throughput",
    ),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return realistic(tmp_path_factory.mktemp("charts") / "realistic.duckdb")


@pytest.fixture(scope="module")
def charts(registry: Registry) -> list[Chart]:
    boards, points = points_of(registry, CATALOG)
    ranked = {b.key: standings(points[points["board"] == b.key], better=b.better, draws=20) for b in boards}
    return all_charts(registry, boards, points, ranked)


def rows(chart: Chart) -> list[dict[str, Any]]:
    assert chart.spec is not None
    found: list[dict[str, Any]] = chart.spec["datasets"]["rows"]
    return found


def test_every_chart_is_there_and_compiles(charts: list[Chart]) -> None:
    assert [chart.id for chart in charts] == IDS
    for chart in charts:
        for spec in (chart.spec, *chart.boards.values()):
            assert spec is not None, chart.id
            own = {**spec, "datasets": {"points": []}} if chart.linked else spec
            alt.Chart.from_dict(own, validate=True)
            for mode in ("light", "dark"):
                vl_convert.vegalite_to_vega({**own, "config": theme.config(mode)}, vl_version="6.1")
        assert len(json.dumps([chart.spec, chart.boards])) < 150_000


def test_expressions_are_those_of_the_interpreter(charts: list[Chart]) -> None:
    """No regular expressions, which the interpreter of Vega lacks; nothing that fetches."""
    text = json.dumps([[chart.spec, chart.boards] for chart in charts])
    for word in ("regexp(", "test(", "replace(", '"url"', '"href"', "http://"):
        assert word not in text
    known = {part.split(chr(34))[0] for part in text.split("https://")[1:]}
    assert known == {theme.SCHEMA.removeprefix("https://")}


def test_an_empty_registry_gives_words(tmp_path: Path) -> None:
    empty = Registry(tmp_path / "empty.duckdb")
    empty.begin_run("smoke", {}, [])
    boards, points = points_of(empty, CATALOG)
    found = all_charts(empty, boards, points, {})
    assert [chart.id for chart in found] == IDS
    assert all(chart.spec is None and "`qbench run" in chart.empty for chart in found)


def test_the_minima_of_a_scan_are_marked(registry: Registry) -> None:
    chart = beta(registry)
    marked = {row["lattice"]: row for row in rows(chart) if row.get("kind") == "certain"}
    assert (marked["Z"]["beta"], marked["E8"]["beta"]) == (4.0, 2.0)
    assert marked["Z"]["gap"] == pytest.approx(
        10 * math.log10(0.12 * 16), abs=1e-3
    )  # the limit of 2 bits is 1/16
    assert marked["E8"]["gap"] == pytest.approx(10 * math.log10(0.08 * 16), abs=1e-3)
    assert "Z 2.83 dB at beta 4.00 and E8 1.07 dB at beta 2.00" in chart.alt
    assert "2 scans on gaussian, M = 4 with 2 certain local minima" in chart.alt


def test_a_lattice_that_was_not_scanned_is_said(tmp_path: Path) -> None:
    """Z has both policies, E8 one: its line of the other's list says so, and no other line is moved by it."""
    found = scans()
    words = {**dict(found[0].cell.quantizer.parameters), "overload": "shrink"}
    code = Spec(name="nested-lattice", parameters=words)
    cell = found[0].cell.model_copy(update={"quantizer": code})
    registry = Registry(tmp_path / "registry.duckdb")
    write(registry, [*found, found[0].model_copy(update={"cell": cell})])
    chart = beta(registry)
    said = {(row["policy"], row["lattice"]): row for row in rows(chart) if "words" in row or "absent" in row}
    assert said["shrink", "E8"]["absent"] == "E8 not scanned"
    assert {row["gap"] for (_, lattice), row in said.items() if lattice == "Z"} == {
        said["nearest", "Z"]["gap"]
    }
    assert chart.alt.endswith("shrink was not scanned for E8.")


def test_a_simplified_curve_keeps_its_corner() -> None:
    line = [(2.0**i, abs(i - 7.0)) for i in range(20)]
    found = simplified(line, 5)
    assert {line[0], line[7], line[-1]} <= set(found)
    assert found == sorted(found)
    assert simplified(line[:3], 5) == [line[0], line[2]]  # a straight line needs its ends alone


def test_the_most_sensitive_layer_is_named(registry: Registry) -> None:
    chart = sensitivity(registry)
    assert [(row["layer"], row["kl"], row["bits"]) for row in rows(chart)] == [
        ("first", 0.32, "8 bits"),
        ("second", 0.02, "2 bits"),
        ("third", 0.08, "4 bits"),
    ]
    assert chart.title == "Layers differ up to 16-fold in what their quantization costs"
    assert "layer first is the most sensitive of 3, KL divergence 0.32 nat and 8 bits, 16 times" in chart.alt


def test_bits_that_differ_over_seeds_are_said_as_they_are(tmp_path: Path) -> None:
    """The allocation gives the first layer 3, 4 and 4 bits; no SQNR stands beside one number of bits for all."""
    (one,) = layers()
    made = [
        one.model_copy(
            update={
                "cell": one.cell.model_copy(update={"seed": seed}),
                "facts": {**one.facts, "bits": f"{bits} 2 4"},
            }
        )
        for seed, bits in enumerate((3, 4, 4))
    ]
    registry = Registry(tmp_path / "seeds.duckdb")
    write(registry, made)
    chart = sensitivity(registry)
    assert [(row["bits"], row["seeds"]) for row in rows(chart)] == [
        ("3–4 bits", 3),
        ("2 bits", 3),
        ("4 bits", 3),
    ]
    assert "0.32 nat and 3–4 bits" in chart.alt
    assert "mean over seeds" in json.dumps(chart.spec)


@pytest.mark.parametrize(
    "chart",
    [gradient_density, gradient_memory, gradient_increments, gradient_codes],
    ids=lambda one: one.__name__,
)
def test_gradients_of_outputs_and_trainings_without_the_figure_are_not_drawn(
    tmp_path: Path, chart: Any
) -> None:
    """One more training sees the gradients of outputs, one measures something else; two are left, and counted."""
    known = gradients()
    plain = Registry(tmp_path / "plain.duckdb")
    write(plain, known)
    cell = known[0].cell.model_copy(update={"budget": {"gradient": "weights"}})
    outputs = cell.model_copy(update={"budget": {"gradient": "outputs"}, "model": Spec(name="strange")})
    other = cell.model_copy(update={"model": Spec(name="other")})
    given = {
        name: one.model_copy(
            update={"samples": [9 * x for x in one.samples], "value": one.value and 9 * one.value}
        )
        for name, one in known[0].measurements.items()
    }
    mixed = Registry(tmp_path / "mixed.duckdb")
    made = [
        known[0].model_copy(update={"cell": cell}),
        known[1],
        known[0].model_copy(update={"cell": outputs, "measurements": given}),
        known[0].model_copy(update={"cell": other, "measurements": {"accuracy": given["accuracy"]}}),
    ]
    write(mixed, made)
    assert "Gradients of weights, 2 trainings: mlp on digits" in chart(mixed).caption
    assert (chart(mixed).title, chart(mixed).alt) == (chart(plain).title, chart(plain).alt)


def test_bins_hold_the_mass_of_their_density() -> None:
    gaussian = binned("gaussian", {"scale": 1.0})
    assert gaussian[0] == pytest.approx(0.39877, abs=1e-5)  # (Phi(.05) - Phi(-.05)) / .1
    assert 0.1 * (gaussian[0] + 2 * gaussian[1:].sum()) == pytest.approx(
        math.erf(4.05 / math.sqrt(2)), abs=1e-12
    )
    laplace = binned("laplace", {"scale": 2.0})
    assert laplace[10] == pytest.approx((math.exp(-0.475) - math.exp(-0.525)) / 2 / 0.1)
    one_sided = np.zeros(101)
    one_sided[53] = 1.0
    assert folded(one_sided)[3] == 5.0  # all mass in one bin of width .1: density 10, half of it on each side


def test_a_gaussian_histogram_is_drawn_as_one(registry: Registry) -> None:
    chart = gradient_density(registry)
    found = [row for row in rows(chart) if row["window"] == "late"]
    for row in found[:30]:
        assert row["measured"] == pytest.approx(row["Gaussian"], rel=0.01)  # three digits
        assert row["generalized Gaussian"] == pytest.approx(
            row["Gaussian"], rel=0.01
        )  # shape 2, scale sqrt 2
    assert "density at 0 0.40, at 3 sigma 0.0044, median shape of the generalized Gaussian 2.00" in chart.alt
    assert chart.title == "Gradients by their fits: median shape 2.00 to 2.00, where a Gaussian has 2"


def test_memory_and_increments_say_what_was_measured(registry: Registry) -> None:
    memory = gradient_memory(registry)
    assert [row["r"] for row in rows(memory) if row["window"] == "early"] == [0.25, 0.12, 0.06, 0.03]
    assert "early 0.25 at lag 1 (10th to 90th percentile 0.25 to 0.25) and 0.03 at lag 4" in memory.alt
    moved = gradient_increments(registry)
    assert moved.spec is not None
    steps = moved.spec["datasets"]["steps"]
    assert [(row["dw"], row["dg"]) for row in steps][:2] == [(0.1, 2.0), (0.2, 4.0)]  # a ratio of 20
    assert "has median 20" in moved.alt
    assert moved.title == "A typical step changes the gradient of its own batch by 50 %"


def test_codes_of_gradients_stand_beside_their_prediction(registry: Registry) -> None:
    chart = gradient_codes(registry)
    assert "lloyd-max 1.50 dB and kmeans -0.50 dB" in chart.alt
    assert chart.title == "lloyd-max loses 1.5 dB on gradients against iid Gaussian values"
    first = next(row for row in rows(chart) if row["code"] == "lloyd-max")
    assert (first["rate"], first["sqnr"], first["predicted"]) == (1.0, 2.5, 4.0)


def test_traffic_counts_both_ways(registry: Registry) -> None:
    boards, points = points_of(registry, CATALOG)
    chart = traffic(registry, points, boards)
    codes = [row for row in rows(chart) if "family" in row]
    assert sorted((row["bits"], row["accuracy"], row["times"]) for row in codes) == [
        (4e6, 94.0, 16.0),
        (16e6, 96.5, 4.0),
    ]
    (rule,) = [row for row in rows(chart) if "float" in row]
    assert (rule["float"], rule["whole"]) == (97.0, 64e6)
    assert "float32 97.00 %, best uniform" in chart.alt


def test_traffic_knows_the_float_run_of_every_digest(tmp_path: Path) -> None:
    """One digest has two results, the other one: each board shows the run in float32 and how many times less it is."""
    registry = Registry(tmp_path / "two.duckdb")
    known = compressed()
    write(registry, known)
    code = Spec.parse("uniform(bits=4,granularity=channel,range=mse,scheme=midrise)")
    one = known[0].model_copy(update={"cell": known[0].cell.model_copy(update={"quantizer": code})})
    run_id = registry.begin_run("synthetic", {}, [RunCell(one.cell_id, one.cell.track, "4" * 64)])
    registry.write([one.model_copy(update={"run_id": run_id})])
    boards, points = points_of(registry, CATALOG)
    chart = traffic(registry, points, boards)
    specs = [chart.spec, *chart.boards.values()]
    assert len(specs) == 2
    for spec in specs:
        assert spec is not None
        assert {row["whole"] for row in spec["datasets"]["rows"]} == {64e6}
        assert all(row["times"] == 64e6 / row["bits"] for row in spec["datasets"]["rows"] if "family" in row)


def test_the_limit_of_throughput_is_what_the_shown_device_copied(registry: Registry, tmp_path: Path) -> None:
    """Two codes on a CPU that copies 10e9 bytes a second and one on a GPU that copies 2e12."""

    def timed(bits: int, copying: float, **given: str) -> Result:
        measured = {"rate": float(bits), "sqnr_db": 6.0 * bits, "encode_throughput": 100.0}
        found = result(
            *("rate-distortion", "source", measured | {"copy_bandwidth": copying}, {"rate_class": "fixed"}),
            dataset="gaussian",
            quantizer=f"uniform(bits={bits})",
        )
        return found.model_copy(update=given)

    cuda = {"device_kind": "cuda", "device": "GPU"}
    copied = Registry(tmp_path / "copied.duckdb")
    write(copied, [timed(4, 10e9), timed(8, 10e9), timed(2, 2e12, **cuda)])
    boards, points = points_of(copied, CATALOG)
    chart = all_charts(copied, boards, points, {})[-1]
    assert chart.spec is not None
    line = {row["rate"]: row["speed"] for row in chart.spec["datasets"]["bound"]}
    assert line[8.0] == pytest.approx(10e9 / 5 / 1e6)
    assert "for the fastest copying measured" in chart.caption
    without = all_charts(registry, *points_of(registry, CATALOG), {})[-1]
    assert "was not recorded" in without.caption


def test_one_digest_alone_is_drawn(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "two.duckdb")
    curve = {"early.autocorrelation_by_lag": (1.0, 0.5)}
    given = {"model": "mlp", "dataset": "digits"}
    made = [
        result("gradient-statistics", "gradient", curve, {}, optimizer=optimizer, **given)
        for optimizer in ("sgd", "adam", "adamw")
    ]
    write(registry, made[:2])
    other = registry.begin_run("own", {}, [])
    registry.write([made[2].model_copy(update={"run_id": other})])
    assert {one.words["optimizer"] for one in taken(registry, "gradient-statistics", ["early.%"])} == {
        "sgd",
        "adam",
    }
