"""Charts from tables: limits, envelopes, fronts, words, and specifications that Vega-Lite 6.1 accepts."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from qbench.datasets import laplacian, scale_mixture, uniform
from qbench.leaderboard.boards import Board
from qbench.leaderboard.charts import limits, theme, words
from qbench.leaderboard.charts.chart import Chart
from qbench.leaderboard.charts.envelope import envelopes
from qbench.leaderboard.charts.heat import heat
from qbench.leaderboard.charts.pareto import pareto
from qbench.leaderboard.charts.profile import profile
from qbench.leaderboard.charts.signature import signature, spread
from qbench.leaderboard.charts.sources import limits as lines_of
from qbench.leaderboard.charts.sources import sources
from qbench.leaderboard.charts.throughput import moved, throughput
from qbench.leaderboard.standings import Standing
from qbench.quantizers.lloyd_max import DENSITIES, exact_half

HOSTILE = '</script><img src=x onerror="alert(1)">\u2028\u202e' + "x" * 10_000


def point(**given: Any) -> dict[str, Any]:
    found = {
        **dict.fromkeys(("method", "core", "label", "quantizer", "spec"), "uniform"),
        "board": "b",
        "family": "scalar",
        "rate_class": "fixed",
        "model": "",
        "dataset": "gaussian",
        "optimizer": "",
        "unit": "gaussian",
        "device": "cpu",
        "seeds": 1,
        "result_id": "0123456789abcdef",
        **dict.fromkeys(
            ("gain", "accuracy", "baseline_accuracy", "accuracy_drop", "kl", "up_bits"), math.nan
        ),
        **dict.fromkeys(("quality", "sqnr_db", "gap_db", "rate", "encode_throughput", "down_bits"), math.nan),
        "copy_bandwidth": math.nan,
    }
    return found | given


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame([point(**row) for row in rows], columns=list(point()))
    texts = [name for name in table.columns if isinstance(point()[name], str)]
    return table.astype(dict.fromkeys(texts, "category"))


def coded(rate: float, gap: float, **given: Any) -> dict[str, Any]:
    return {"rate": rate, "gap_db": gap, "sqnr_db": 20 * math.log10(2) * rate - gap, **given}


def board(key: str = "b", **given: Any) -> Board:
    found: dict[str, Any] = {
        "key": key,
        "tab": "weights",
        "track": "ptq",
        "target": "weight",
        "suite": "standard",
        "digest": "d" * 64,
        "title": "weights after training (ptq)",
        "setting": "",
        "quality": "kl",
        "quality_label": "KL (nat)",
        "better": -1,
        "anchored": True,
        "default": True,
        "results": 10,
        "failed": 0,
        "newest": "2026-01-01",
    }
    return Board(
        **{name: value for name, value in (found | given).items() if name in Board.__dataclass_fields__}
    )


def linked(spec: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The specification with rows as the page gives them."""
    empty = {
        "method": "m",
        "label": "m",
        "family": "scalar",
        "rate_class": "fixed",
        "unit": "u",
        "model": "mlp",
    }
    rest = {
        "dataset": "digits",
        "seeds": 1,
        "selected": 0,
        "spec": "s",
        "drop": None,
        "gain": None,
        "quality": None,
        "order": 0,
    }
    return {**spec, "datasets": {"points": [{**empty, **rest, **row} for row in rows]}}


def drawn(spec: dict[str, Any], width: int = 800, mode: theme.Mode = "light") -> list[dict[str, Any]]:
    """Every group of marks of the picture."""
    own = {**spec, "config": theme.config(mode)}
    if own.get("width") == "container":
        own["width"] = width
    scene = vl_convert.vegalite_to_scenegraph(own, vl_version="6.1")["scenegraph"]
    found, waiting = [], [scene]
    while waiting:
        one = waiting.pop()
        if "marktype" in one:
            found.append(one)
        waiting += one.get("items", [])
    return found


def texts(spec: dict[str, Any], **look: Any) -> list[str]:
    marks = (mark for mark in drawn(spec, **look) if mark["marktype"] == "text")
    return [str(item.get("text", "")) for mark in marks for item in mark.get("items", [])]


def check(chart: Chart, rows: list[dict[str, Any]] | None = None) -> None:
    """Valid for the schema, compiles, is small and says something."""
    assert re.fullmatch(r"[a-z0-9-]+", chart.id)
    assert chart.title
    assert chart.caption.endswith(".")
    assert chart.alt.endswith(".")
    assert chart.spec is not None
    for spec in (chart.spec, *chart.boards.values()):
        own = linked(spec, rows or []) if chart.linked else spec
        alt.Chart.from_dict(own, validate=True)
        vl_convert.vegalite_to_vega(own, vl_version="6.1")
        assert sum(map(len, spec.get("datasets", {}).values())) <= 320
        json.dumps(spec, allow_nan=False)


def test_the_limits_are_the_closed_forms() -> None:
    assert pytest.approx(1.5329, abs=5e-5) == limits.SCALAR_GAP_DB
    assert limits.sphere_gap_db(1) == pytest.approx(limits.SCALAR_GAP_DB, abs=1e-12)  # an interval is a ball
    assert limits.sphere_second_moment(2) == pytest.approx(1 / (4 * math.pi))  # a disc
    assert limits.sphere_second_moment(24) == pytest.approx(0.0647498, abs=5e-8)
    assert limits.sphere_gap_db(24) == pytest.approx(10 * math.log10(0.0647498 / 0.0585498), abs=1e-4)
    assert 0 < limits.sphere_gap_db(100_000) < 1e-3


@pytest.mark.parametrize("rate", [0.0, 1.0, 2.5])
def test_the_limit_of_each_source_is_that_of_its_data_set(rate: float) -> None:
    assert limits.limit_sqnr_db("gaussian", rate) == pytest.approx(20 * math.log10(2) * rate)
    for name, source in {
        "laplacian": laplacian.Laplacian(),
        "uniform": uniform.Uniform(),
        "scale-mixture": scale_mixture.ScaleMixture(),
    }.items():
        known = -10 * math.log10(source.distortion_limit(rate))
        assert limits.limit_sqnr_db(name, rate) == pytest.approx(known, abs=1e-8)


@pytest.mark.parametrize("source", ["gaussian", "laplacian"])
def test_the_table_of_lloyd_and_max_is_what_newton_finds(source: str) -> None:
    density = DENSITIES[source]
    for bits, known in enumerate(limits.LLOYD_MAX[source], 1):
        levels = exact_half(density, 2**bits)
        ends = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2])
        mass = -np.diff(density.mass_above(ends), append=0.0)
        # printed to six or seven digits
        assert 1 - 2 * float(np.sum(mass * levels**2)) == pytest.approx(known, rel=2e-5, abs=6e-8)


@pytest.mark.parametrize(
    ("source", "rate", "error"),
    [
        *(("gaussian", *known) for known in ((0.5, 0.61734), (1, 0.34834), (2, 0.088941), (4, 0.005560))),
        *(("laplacian", *known) for known in ((1, 0.26499), (2, 0.073675), (3, 0.01902), (4, 0.004796))),
    ],
)
def test_entropy_coded_scalars_reach_the_known_errors(source: str, rate: float, error: float) -> None:
    rates, sqnr = limits.ecsq(source, np.geomspace(8, 0.09, 400))
    found = 10 ** (-float(np.interp(rate, rates, sqnr)) / 10)
    assert found == pytest.approx(
        error, rel=2e-3
    )  # the Laplacian optimum is not of uniform thresholds at low rate


def test_the_lines_of_a_source_end_where_its_limits_do() -> None:
    rows = lines_of("gaussian")
    ends = {row["line"]: row["sqnr"] for row in rows if row.get("line") and row["rate"] == 5.0}
    assert ends["limit"] == pytest.approx(30.10, abs=0.005)
    assert ends["limit"] - ends["ECSQ"] == pytest.approx(1.53, abs=0.02)  # four digits
    assert ends["Lloyd-Max"] == pytest.approx(-10 * math.log10(0.00250467), abs=0.005)
    assert {row.get("line") for row in lines_of("uniform") if "line" in row} == {"limit", "Lloyd-Max"}


def test_an_envelope_leaves_out_what_stands_off_the_line_of_its_family() -> None:
    assert [row["rate"] for row in envelopes(frame(coded(2, 1.0), coded(3, 2.9), coded(4, 3.0)))] == [2, 3, 4]
    assert [row["rate"] for row in envelopes(frame(coded(2, 1.0), coded(3, 3.1), coded(4, 3.0)))] == [2, 4]
    # sending it for 2 of 2.01 bits' time and nothing for the rest does better than the first
    assert [row["rate"] for row in envelopes(frame(coded(2, 2.0), coded(2.01, 1.0)))] == [2.01]
    worse_with_more_bits = frame(coded(2, 0.0), coded(2.5, 4.0))
    assert [row["rate"] for row in envelopes(worse_with_more_bits)] == [2]
    worse_than_nothing = frame(coded(1, 7.0))
    assert envelopes(worse_than_nothing) == []


def test_envelopes_are_by_family_and_rate_class() -> None:
    table = frame(coded(2, 1.0), coded(2, 2.0, family="vector"), coded(2, 0.5, rate_class="coded"))
    found = {(row["family"], row["rate_class"], row["gap"]) for row in envelopes(table)}
    assert found == {("scalar", "fixed", 1.0), ("vector", "fixed", 2.0), ("scalar", "coded", 0.5)}
    assert envelopes(frame(coded(2, 1.0, family="martian")))[0]["family"] == "other"


SIGNATURE = (
    coded(2, 2.75),
    coded(4, 3.91),
    coded(2, 1.7, family="lattice", label="E8"),
    coded(8, 16.7, family="float", label="fp8"),
    coded(4, 4.2, family="float", label="nf4"),
    coded(2, 0.1, family="vector", dataset="laplacian"),
)


def test_the_signature_has_its_rules_and_says_its_finding() -> None:
    chart = signature(frame(*SIGNATURE))
    check(chart)
    assert chart.title == "At 2 bits lattice codes come closest to the rate-distortion limit"
    assert "lattice (fixed) 1.70 dB and scalar (fixed) 2.75 dB" in chart.alt
    assert "From 1 bit on the least distance is 1.70 dB, by E8 at 2.00 bits" in chart.alt
    assert chart.caption.endswith("1 point above 6 dB stands outside the plot.")
    rules = {row["words"]: row["gap"] for row in chart.spec["datasets"]["limits"]}
    assert rules["scalar, high rate: 1.53 dB"] == pytest.approx(1.533, abs=1e-3)
    assert rules["sphere bound, n = 24: 0.44 dB"] == pytest.approx(0.4371, abs=1e-4)
    assert rules["the limit"] == 0
    assert {"scalar", "lattice", "float formats ↑", *rules} <= set(texts(chart.spec))


def test_the_signature_says_how_many_points_it_cannot_show() -> None:
    beyond = [coded(rate, 5.0 + rate, family="float") for rate in (2, 4, 8)]
    chart = signature(frame(coded(2, 1.0), *beyond))
    assert chart.caption.endswith("3 points above 6 dB stand outside the plot.")


def test_the_signature_says_what_its_lines_leave_out() -> None:
    """The middle one of three stands 1.1 dB above the line of the others."""
    chart = signature(frame(coded(2, 1.0), coded(3, 3.1), coded(4, 3.0)))
    assert chart.spec is not None
    assert [row["rate"] for row in chart.spec["datasets"]["codes"]] == [2, 4]
    assert "without those more than 1 dB above the line of their neighbours" in chart.caption


def test_labels_keep_a_line_apart_and_inside() -> None:
    labels = [{"gap": gap, "rate": 4.0, "words": str(gap)} for gap in (1.0, 1.01, 1.02, 6.0, 5.99, 0.0)]
    places = sorted(row["place"] for row in spread(labels, 6.0))
    assert min(np.diff(places)) >= 0.98 * 17 * 6 / 400
    assert places[0] > 0
    assert places[-1] <= 6.0


def test_sources_say_the_limit_of_each() -> None:
    table = frame(coded(2, 2.75), coded(2, 1.0, dataset="uniform", family="vector", label="vq"))
    chart = sources(table)
    check(chart)
    assert "Gaussian: limit 12.04 dB at 2 bits, uniform 9.29 dB at 2.00 bits" in chart.alt
    assert {"Gaussian", "uniform", "ECSQ", "Lloyd-Max", "limit"} <= set(texts(chart.spec))


FRONT = (
    {"label": "a", "bits": 1.0, "drop": 10.0},
    {"label": "beaten by a", "bits": 1.1, "drop": 12.0},
    {"label": "b", "bits": 2.0, "drop": 2.0},
    {"label": "beaten by b", "bits": 3.0, "drop": 2.5},
    {"label": "c", "bits": 4.0, "drop": 0.0},
)


def test_the_front_is_that_of_a_hand_made_set() -> None:
    rows = [{**row, "spec": row["label"], "method": row["label"]} for row in FRONT]
    table = frame(
        *(
            {"rate": r["bits"], "accuracy_drop": r["drop"], "label": r["label"], "spec": r["label"]}
            for r in rows
        )
    )
    chart = pareto(table, [board()])
    check(chart, rows)
    spec = linked(chart.spec, rows)
    assert {text for text in texts(spec) if text in {row["label"] for row in rows}} == {"a", "b", "c"}
    steps = [mark for mark in drawn(spec) if mark["marktype"] == "line" and len(mark["items"]) > 1]
    assert [len(mark["items"]) for mark in steps] == [3]
    assert "near 2 bits b is best with 2.00; near 4 bits c is best with 0.00" in chart.alt


def test_codes_that_lack_a_unit_have_no_place_on_the_front() -> None:
    rows = [
        {"label": label, "spec": label, "method": label, "unit": unit, "bits": bits, "drop": drop}
        for label, bits, drop in (("a", 1.0, 5.0), ("b", 2.0, 1.0))
        for unit in ("easy", "hard")
    ]
    rows.append({"label": "lucky", "spec": "l", "method": "l", "unit": "easy", "bits": 1.0, "drop": 0.0})
    table = frame({"accuracy_drop": 1.0, "rate": 2.0, "quality": 0.1})
    spec = linked(pareto(table, [board()]).spec, rows)
    assert {"a", "b"} <= set(texts(spec))
    assert "lucky" not in texts(spec)


def test_divergences_are_averaged_as_logarithms_and_sqnr_goes_up() -> None:
    languages = frame({"quality": 0.1, "rate": 2.0}, {"quality": 0.1, "rate": 2.0, "board": "s"})
    boards = [
        board(),
        board("s", track="rate-distortion", quality="sqnr_db", quality_label="SQNR (dB)", better=1),
    ]
    chart = pareto(languages, boards)
    check(chart)
    rows = [{"bits": 2.0, "unit": unit, "quality": kl} for unit, kl in (("x", 0.01), ("y", 1.0))]
    marks = [m for m in drawn(linked(chart.spec, rows)) if m["marktype"] == "symbol" and m.get("items")]
    assert any(item.get("description", "").find("0.1") >= 0 for m in marks for item in m["items"])
    assert "↓ KL (nat)" in texts(linked(chart.spec, rows))
    assert "↑ SQNR (dB)" in texts(linked(chart.boards["s"], rows))


def test_cells_hold_the_mean_of_each_model() -> None:
    rows = [
        {"label": "m", "model": "mlp", "gain": 0.5, "bits": 2.0},
        {"label": "m", "model": "mlp", "gain": 0.3, "bits": 4.0},
        {"label": "m", "model": "cnn", "gain": -0.2, "bits": 4.0},
    ]
    table = frame(*({"label": r["label"], "model": r["model"], "gain": r["gain"]} for r in rows))
    chart = heat(table, [board()], {})
    check(chart, rows)
    # 1 - 2^-0.4 = 24.2 %, 1 - 2^0.2 = -14.9 %, and of their mean 1 - 2^-0.1 = 6.7 %
    assert {"24 %", "−15 %", "mlp", "cnn"} <= set(texts(linked(chart.spec, rows)))
    assert "Best on average: m (fixed) 7 %" in chart.alt


def test_methods_without_a_rank_come_last() -> None:
    """The one that saves most stands last in the table, for want of a rank; the words do not name it best."""
    saved = {"second": 0.1, "no rank": 0.9, "first": 0.3}
    order = ("first", "second", "no rank")
    rows = [
        {"label": name, "method": name, "model": "mlp", "gain": gain, "bits": 2.0, "order": order.index(name)}
        for name, gain in saved.items()
    ]
    table = frame(
        *({"label": r["label"], "method": r["label"], "model": "mlp", "gain": r["gain"]} for r in rows)
    )
    ranked = [
        replace(standing(name, saved[name]), rank=rank)
        for name, rank in zip(order, (1, 2, None), strict=True)
    ]
    chart = heat(table, [board()], {"b": ranked})
    assert [text for text in texts(linked(chart.spec, rows)) if text in saved] == list(order)
    assert "3 methods on 1 model" in chart.alt
    assert (
        "Best on average: first (fixed) 19 % and second (fixed) 7 %; worst: second (fixed) 7 %." in chart.alt
    )


def standing(method: str, gain: float) -> Standing:
    given = dict.fromkeys(Standing.__dataclass_fields__, 0)
    words = {
        "method": method,
        "label": method,
        "family": "scalar",
        "rate_class": "fixed",
        "plugin": "",
        "rank": 1,
    }
    return Standing(**{**given, **words, "gain": gain, "low": gain - 0.1, "high": gain + 0.1, "n": 9})


def test_a_profile_has_methods_of_several_boards() -> None:
    table = frame(
        *(
            {"board": key, "method": f"{name} there", "core": name}
            for key in "ab"
            for name in ("both", "worse")
        ),
        {"board": "a", "method": "one there", "core": "one"},
    )
    boards = [board("a", title="first (ptq)"), board("b", title="second (qat)"), board("c", anchored=False)]
    ranks = {
        "a": [standing("both there", 0.5), standing("one there", 9.0), standing("worse there", -0.2)],
        "b": [standing("both there", 0.1), standing("worse there", 0.3)],
    }
    chart = profile(table, boards, ranks)
    check(chart)
    cells = {(row["name"], row["place"]): row["value"] for row in chart.spec["datasets"]["rows"]}
    assert cells == {
        ("both there", "first"): 0.5,
        ("both there", "second"): 0.1,
        ("worse there", "first"): -0.2,
        ("worse there", "second"): 0.3,
    }
    assert "1 of them save bits on every board" in chart.alt
    assert profile(table, boards, {"a": ranks["a"]}).spec is None


def timed(rate: float, speed: float, copying: float = math.nan, **given: Any) -> dict[str, Any]:
    return {"rate": rate, "encode_throughput": speed, "copy_bandwidth": copying, **given}


def named(name: str) -> dict[str, str]:
    return dict.fromkeys(("label", "quantizer", "spec"), name)


def bound(chart: Chart) -> dict[float, float]:
    """Of the line the millions of elements a second by bits."""
    assert chart.spec is not None
    return {row["rate"]: row["speed"] for row in chart.spec["datasets"]["bound"]}


def shares(chart: Chart) -> dict[str, str]:
    assert chart.spec is not None
    return {row["label"]: row["share"] for row in chart.spec["datasets"]["codes"]}


def test_throughput_is_drawn_below_the_copy_bandwidth() -> None:
    chart = throughput(frame(timed(8, 200, 10e9, **named("fast")), timed(2, 2, 10e9, **named("slow"))))
    check(chart)
    assert moved(4) == 4.5
    line = bound(chart)
    assert line[0.0] == pytest.approx(10e9 / 4 / 1e6)
    assert line[8.0] == pytest.approx(10e9 / 5 / 1e6)
    assert "limit: copying 10.0 GB/s" in texts(chart.spec)
    # 200e6 * 5 bytes; 2e6 * 4.25 bytes
    assert shares(chart) == {"fast": "10 % of 10.0 GB/s", "slow": "0.085 % of 10.0 GB/s"}
    assert "The fastest moves 10 % of 10.0 GB/s that its process copied." in chart.alt
    assert "limit is the grey line" in chart.caption
    for words_ in ("not recorded", "not measured", "moved more"):
        assert words_ not in chart.caption
    assert chart.title == "The fastest code encodes 100 times as many elements a second as the slowest"


def test_throughput_without_a_copy_bandwidth_claims_no_limit() -> None:
    chart = throughput(frame(timed(8, 200, **named("fast")), timed(2, 2, **named("slow"))))
    check(chart)
    assert "was not recorded" in chart.caption
    assert "limit is" not in chart.caption
    assert "copied" not in chart.alt
    assert bound(chart)[8.0] == pytest.approx(200)
    assert "1.0 GB/s, the most that a code moved" in texts(chart.spec)
    assert set(shares(chart).values()) == {"copying was not measured"}


def test_a_code_is_held_against_the_copying_of_its_own_machine() -> None:
    """The line is that of the fastest machine; two data sets of one code count by their median."""
    chart = throughput(
        frame(
            timed(8, 200, 10e9, **named("there")),
            timed(8, 100, 1e9, **named("here")),
            timed(8, 100, 3e9, **named("here"), dataset="uniform", unit="uniform"),
            timed(8, 50, **named("before")),
            timed(8, 40, -1.0, **named("wrong")),
        )
    )
    assert bound(chart)[8.0] == pytest.approx(2000)
    assert shares(chart) == {
        "there": "10 % of 10.0 GB/s",
        "here": "25 % of 2.0 GB/s",
        **dict.fromkeys(("before", "wrong"), "copying was not measured"),
    }
    assert "Beside 2 codes copying was not measured." in chart.caption


def test_a_code_above_the_line_is_no_contradiction() -> None:
    """500e6 * 5 bytes where 2e9 are copied."""
    chart = throughput(frame(timed(8, 500, 2e9, **named("fast")), timed(8, 10, 2e9, **named("slow"))))
    assert (
        "1 code moved more than was copied: a tensor that stays in a cache can be read faster."
        in chart.caption
    )
    assert "125 % of 2.0 GB/s that its process copied: a tensor that stays in a cache can" in chart.alt


def test_the_name_of_the_slowest_code_stays_above_the_axis() -> None:
    chart = throughput(frame(timed(8, 200, **named("fast")), timed(2, 2, **named("slow"))))
    assert chart.spec is not None
    names = [
        item["y"] + item["dy"]
        for mark in drawn(chart.spec)
        if mark["marktype"] == "text"
        for item in mark["items"]
        if item.get("text") == "slow"
    ]
    assert len(names) == 2  # with its halo
    assert max(names) + 13 / 2 + 4 < chart.spec["height"]  # half a line, and the halo


def test_a_chart_without_data_says_what_to_run() -> None:
    nothing = frame().iloc[:0]
    for chart in (
        *(signature(nothing), sources(nothing), throughput(nothing)),
        *(pareto(nothing, []), heat(nothing, [], {}), profile(nothing, [], {})),
    ):
        assert chart.spec is None
        assert "`qbench run" in chart.empty
        assert chart.empty in chart.alt


def test_hostile_names_are_one_short_line() -> None:
    assert words.plain(HOSTILE, 50) == '</script><img src=x onerror="alert(1)"> xxxxxxxxx…'
    assert words.plain("a\x00b\u200bc\nd") == "abc d"
    table = frame(coded(2, 1.0, label=HOSTILE, spec=HOSTILE, encode_throughput=1.0))
    for chart in (signature(table), sources(table), throughput(table)):
        check(chart)
        assert len(json.dumps(chart.spec)) < 60_000
        assert "\u2028" not in json.dumps(chart.spec, ensure_ascii=False) + chart.alt
        assert "\u202e" not in chart.alt


def test_numbers_that_are_not_finite_are_null() -> None:
    rows = words.rounded([{"a": math.nan, "b": math.inf, "c": 1.23456, "d": 7, "e": "x", "f": None}])
    assert rows == [{"a": None, "b": None, "c": 1.235, "d": 7, "e": "x", "f": None}]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_both_papers_draw_text_in_ink(mode: theme.Mode) -> None:
    ink = theme.config(mode)["style"]["ink"]["color"]
    spec = linked(
        heat(frame({"gain": 0.1, "model": "mlp"}), [board()], {}).spec, [{"gain": 0.1, "bits": 2.0}]
    )
    cells = [mark for mark in drawn(spec, mode=mode) if mark["marktype"] == "text"]
    assert any(
        item.get("fill") == ink and item.get("text") == "7 %" for mark in cells for item in mark["items"]
    )


def test_families_have_colours_and_shapes_of_their_own() -> None:
    looks = list(theme.FAMILIES.values())
    assert len({look.colour for look in looks}) == len({look.shape for look in looks}) == len(looks)
    assert theme.FAMILIES["scalar"].colour == "#0072B2"
    assert theme.present(["lattice", "scalar", "martian"]) == ["scalar", "lattice", "other"]


@pytest.mark.parametrize(("width", "columns", "inner"), [(390, 1, 348), (700, 2, 315), (960, 3, 287)])
def test_panels_fill_the_width(width: int, columns: int, inner: int) -> None:
    spec = {"usermeta": {"panels": {"narrowest": 240, "most": 3, "beside": 42, "gap": 28}}, "spec": {}}
    found = theme.laid_out(spec, width)
    assert (found["columns"], found["spec"]["width"]) == (columns, inner)
    assert 42 + columns * inner + (columns - 1) * 28 <= width


def test_a_method_that_is_best_everywhere_is_the_title() -> None:
    names = ("one", "other")
    table = frame(*({"board": key, "method": name, "core": name} for key in "ab" for name in names))
    boards = [board("a", title="first (ptq)"), board("b", title="second (qat)")]
    gains = {"a": (0.5, 0.2), "b": (0.3, 0.1)}
    ranks = {key: [standing(*pair) for pair in zip(names, own, strict=True)] for key, own in gains.items()}
    assert profile(table, boards, ranks).title == "one is best of these wherever it was measured"
    ranks["b"] = [standing("one", 0.0), standing("other", 0.1)]
    assert profile(table, boards, ranks).title == "No method is best everywhere"


@pytest.mark.parametrize(("letters", "lines"), [(80, 1), (40, 2), (30, 2)])
def test_names_of_rows_are_whole_in_two_lines(letters: int, lines: int) -> None:
    """Two that differ at their ends only stay apart."""
    labels = [f"entropy-coded (uniform (per channel, {name} range, midrise))" for name in ("mse", "minmax")]
    rows = [{"label": label, "method": label, "gain": 0.1, "bits": 2.0} for label in labels]
    spec = linked(heat(frame({"gain": 0.1, "model": "mlp"}), [board()], {}).spec, rows)
    spec["params"] = [{"name": "room", "value": math.ceil(8 + letters * 0.55 * (11 if letters < 34 else 12))}]
    found = [item for mark in drawn(spec) if mark["marktype"] == "text" for item in mark["items"]]
    names = [item["text"] for item in found if "entropy" in str(item["text"])]
    whole = [" ".join(name) if isinstance(name, list) else name for name in names]
    assert sorted(whole) == sorted(labels)
    assert {len(name) if isinstance(name, list) else 1 for name in names} == {lines}


@pytest.mark.parametrize(
    ("power", "said"), [(-3, "10⁻³"), (-12, "10⁻¹²"), (-2, "0.01"), (0, "1"), (2, "100"), (3, "10³")]
)
def test_powers_of_ten_as_people_write_them(power: int, said: str) -> None:
    chart = alt.Chart(alt.InlineData(values=[{"x": 10.0**power}])).mark_text()
    spec = chart.transform_calculate(words=theme.powers("datum.x")).encode(text="words:N").to_dict()
    assert said in texts(spec)


def test_lines_that_leave_side_by_side_have_names_on_both_sides() -> None:
    codes = [(2, 1.0, "float"), (5, 12.0, "float"), (2, 1.5, "stochastic"), (5.5, 12.0, "stochastic")]
    chart = signature(frame(*(coded(rate, gap, family=family, label=family) for rate, gap, family in codes)))
    ends = {row["family"]: row["left"] for row in chart.spec["datasets"]["ends"]}
    assert ends == {"float": True, "stochastic": False}
