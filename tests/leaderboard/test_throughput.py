"""The chart of throughput: its line is what copying allows, and no code is held against another machine's."""

import math
from pathlib import Path
from typing import Any

import pytest

from qbench.leaderboard.charts.chart import Chart
from qbench.leaderboard.charts.throughput import moved, throughput

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from charting import check, drawn, frame, texts


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
