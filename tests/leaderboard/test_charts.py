"""Charts from tables: envelopes, fronts, cells, words, and specifications that Vega-Lite 6.1 accepts."""

import json
import math
from dataclasses import replace
from pathlib import Path

import altair as alt
import numpy as np
import pytest

from qbench.leaderboard.charts import theme, words
from qbench.leaderboard.charts.envelope import envelopes
from qbench.leaderboard.charts.heat import heat
from qbench.leaderboard.charts.pareto import pareto
from qbench.leaderboard.charts.profile import profile
from qbench.leaderboard.charts.signature import signature, spread
from qbench.leaderboard.charts.sources import sources
from qbench.leaderboard.charts.throughput import throughput
from qbench.leaderboard.standings import Standing

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from charting import HOSTILE, board, check, coded, drawn, frame, linked, texts


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
