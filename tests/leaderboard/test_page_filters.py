"""Sorting, search, chips, links and downloads of the page: they do what they say, checked against Python."""

import csv
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from qbench.leaderboard.standings import BITS, Standing, standings

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from browsing import chips, drawn, go, press, rows, until


def of_board(site: Any, rate_class: str = "fixed") -> tuple[pd.DataFrame, list[Standing]]:
    """Points and standings of the board that opens the page, in a rate class."""
    board = site.boards[0]
    points = site.points[(site.points["board"] == board.key) & (site.points["rate_class"] == rate_class)]
    return points, standings(points, better=board.better)


def curve_top(points: pd.DataFrame, method: str) -> float:
    """The most bits saved at one rate, mean over units."""
    return float(points[points["method"] == method].groupby("rate")["gain"].mean().max())


# Column, whether the first click sorts upwards, and what by.
SORTS: dict[str, tuple[bool, Callable[[Standing, pd.DataFrame], float | str | None]]] = {
    "rank": (True, lambda one, points: one.rank),
    "name": (True, lambda one, points: one.label),
    "saved": (False, lambda one, points: one.gain),
    "rate": (True, lambda one, points: one.bits_low),
    "quality": (False, lambda one, points: one.quality),
    "spark": (False, lambda one, points: curve_top(points, one.method)),
    "coverage": (False, lambda one, points: one.coverage),
    "n": (False, lambda one, points: float(one.n)),
    "trust": (False, lambda one, points: float(one.reproduced)),
}


def in_order(
    found: list[Standing], points: pd.DataFrame, key: Callable[..., Any], upwards: bool
) -> list[str]:
    """Labels sorted by the key, those without one last, equal ones as they stood."""
    keyed = [(key(one, points), one.label) for one in found]
    absent = [label for value, label in keyed if value is None or value != value]
    known = [pair for pair in keyed if pair[0] is not None and pair[0] == pair[0]]
    ordered = sorted(known, key=lambda pair: pair[0]) if upwards else _downwards(known)
    return [label for _, label in ordered] + absent


def _downwards(known: list[tuple[Any, str]]) -> list[tuple[Any, str]]:
    return sorted(known, key=lambda pair: pair[0], reverse=True)


@pytest.mark.parametrize("column", SORTS)
def test_sorting(page: Any, site: Any, column: str) -> None:
    upwards, key = SORTS[column]
    points, found = of_board(site)
    assert rows(page) == [one.label for one in found]
    head = page.locator(f"#table thead th[data-column={column}]")
    for way in (upwards, not upwards):
        head.get_by_role("button").click()
        until(page, f"document.querySelector('[data-column={column}]').ariaSort !== 'none'")
        wanted = "ascending" if way else "descending"
        until(page, f"document.querySelector('[data-column={column}]').ariaSort === '{wanted}'")
        assert rows(page) == in_order(found, points, key, way)
        sorts = page.locator("#table thead th").evaluate_all("(all) => all.map((one) => one.ariaSort)")
        assert sorted(sorts) == sorted([wanted, *["none"] * 8])


def test_one_method_lacks_units_and_has_no_rank(page: Any, site: Any) -> None:
    row = page.locator("#rows > tr.row", has_text="method-4")
    assert row.locator("td.rank").text_content() == "–"
    assert rows(page)[-1] == "method-4"
    row.get_by_role("button").click()
    assert "not measured on 3 of 12 units" in page.locator("#detail").text_content()


def test_search_narrows_to_names(page: Any) -> None:
    drawn(page, "pareto")
    page.locator("#search").fill("METHOD")
    until(page, "location.hash === '#q=METHOD'")
    assert sorted(rows(page)) == ["method-1", "method-2", "method-3", "method-4"]
    page.locator("#search").fill("stranger")
    until(page, "document.querySelectorAll('#rows > tr.row').length === 1")
    assert rows(page) == ["method-1"]
    page.locator("#search").fill("lattice method")
    until(page, "location.hash === '#q=lattice%20method'")
    assert rows(page) == ["method-1"]
    page.locator("#search").fill("no such thing")
    until(page, "document.querySelectorAll('#rows > tr.row').length === 0")
    assert "None of 5 methods is called so." in page.locator("#note").text_content()


def test_chips_of_a_board_are_what_was_measured(page: Any) -> None:
    assert chips(page, "bits").all_text_contents() == ["all", *BITS]
    assert chips(page, "rate").all_text_contents() == ["fixed", "coded"]
    assert chips(page, "model").all_text_contents() == ["all", *(f"model-{n}" for n in range(4))]
    assert chips(page, "data set").all_text_contents() == ["all", "data-0", "data-1", "data-2"]
    assert chips(page, "device").all_text_contents() == ["all", "cpu", "cuda"]


def test_a_click_on_a_chip_ranks_anew(page: Any, site: Any) -> None:
    """At 8 bits what is better than the anchor is beyond its range: only the anchor and who is worse have a gain."""
    press(page, "bits", "8")
    until(page, "location.hash === '#bits=8'")
    assert chips(page, "bits").evaluate_all("(all) => all.map((one) => one.ariaPressed)")[-1] == "true"
    ranks = page.locator("#rows td.rank").all_text_contents()
    assert rows(page)[:2] == ["uniform", "method-3"]
    assert ranks == ["1", "2", "–", "–", "–"]
    press(page, "bits", "3")
    until(page, "location.hash === '#bits=3'")
    assert rows(page)[-2:] == ["method-3", "method-4"]
    press(page, "bits", "1")
    until(page, "location.hash === '#bits=1'")
    assert rows(page) == []
    assert "Nothing was measured" in page.locator("#note").text_content()


def test_several_models_may_be_chosen(page: Any) -> None:
    press(page, "model", "model-1")
    press(page, "model", "model-2")
    press(page, "data set", "data-0")
    until(page, "location.hash.includes('data=data-0')")
    assert page.locator("#rows td.c-n").all_text_contents() == ["2"] * 5
    assert "over 2 units (model and data set pairs)." in page.locator("#board").text_content()
    assert page.locator("#note").text_content().startswith("Provisional: n = 2 units, fewer than 8,")
    press(page, "model", "model-1")
    until(page, "location.hash === '#model=model-2&data=data-0'")
    press(page, "model", "all")
    until(page, "location.hash === '#data=data-0'")


def test_the_state_is_a_permanent_link(opened: Callable[..., Any], site: Any) -> None:
    fragment = "#bits=3&class=coded&model=model-1,model-2&sort=-rate&q=method"
    with opened(fragment) as page:
        before = rows(page)
        assert sorted(before) == ["method-5", "method-6"]
        assert page.locator("[data-column=rate]").get_attribute("aria-sort") == "descending"
        assert page.locator("#search").input_value() == "method"
        page.reload()
        until(page, "document.documentElement.dataset.ready")
        assert rows(page) == before
        pressed = page.locator("#filters [aria-pressed=true]").all_text_contents()
        assert pressed == ["weights after training", "3", "coded", "model-1", "model-2", "all", "all"]


def test_back_and_forward(opened: Callable[..., Any]) -> None:
    with opened() as page:
        first = rows(page)
        press(page, "bits", "8")
        until(page, "location.hash === '#bits=8'")
        press(page, "rate", "coded")
        until(page, "location.hash === '#bits=8&class=coded'")
        coded = rows(page)
        page.go_back()
        until(page, "location.hash === '#bits=8'")
        until(page, "document.querySelector('#rows').textContent.includes('uniform')")
        page.go_back()
        until(page, "location.hash === ''")
        until(page, "document.querySelector('#rows td.rank').textContent === '1'")
        assert rows(page) == first
        page.go_forward()
        page.go_forward()
        until(page, "location.hash === '#bits=8&class=coded'")
        until(page, "!document.querySelector('#rows').textContent.includes('uniform')")
        assert rows(page) == coded


def test_a_row_opens_in_place(page: Any, site: Any) -> None:
    press(page, "bits", "3")
    button = page.locator("#rows > tr.row", has_text="method-2").get_by_role("button")
    button.click()
    until(page, "document.querySelector('#detail')")
    assert page.locator("#rows button[aria-expanded=true]").text_content() == "method-2"
    detail = page.locator("#detail")
    words = detail.text_content()
    assert "reproduced ×" in words
    assert detail.locator("dt", has_text="style").count() == 1
    assert "Abacus" not in words
    assert detail.locator(".scroll tbody tr").count() == 14
    points = site.points[(site.points["quantizer"] == "method-2") & (site.points["rate"] == 3)]
    command = detail.locator(".command code").text_content()
    assert command.startswith("qbench run --suite synthetic --select cell_id=")
    assert points["spec"].iloc[0] in command
    reproduced = re.search(r"qbench reproduce ([0-9a-f]{8,16})", words)[1]
    assert [one for one in points["result_id"] if one.startswith(reproduced)] != []
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail')")


def test_failures_are_told(page: Any) -> None:
    page.locator("#rows > tr.row", has_text="uniform").get_by_role("button").click()
    words = page.locator("#detail").text_content()
    assert "timeout ×1" in words
    assert "took longer than 60 s" in words


def test_the_csv_of_a_selection_has_its_rows(page: Any, site: Any) -> None:
    go(page, "bits=3&model=model-1&q=method")
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == f"qbench-{site.boards[0].key}.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    points, _ = of_board(site)
    wanted = points[
        (points["rate"] == 3) & (points["model"] == "model-1") & points["label"].str.startswith("method")
    ]
    assert len(found) == len(wanted) > 0
    assert {row["label"] for row in found} == set(rows(page))
    by_name = {(row["label"], row["unit"], row["device"]): row for row in found}
    for one in wanted.to_dict("records"):
        row = by_name[one["label"], one["unit"], one["device"]]
        assert float(row["quality"]) == one["quality"]
        assert (float(row["gain"]) if row["gain"] else math.nan) == pytest.approx(one["gain"], nan_ok=True)
