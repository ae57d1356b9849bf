"""The page computes standings itself, of any selection: the same numbers as Python, to the last digits."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qbench.leaderboard import bundle, drawing
from qbench.leaderboard.resampling import holm, intervals, sign_flip
from qbench.leaderboard.standings import BITS, Standing, saved_percent, standings

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from browsing import go, rows

SELECTIONS: list[dict[str, Any]] = [
    {},
    {"bits": "3"},
    {"bits": "8", "class": "coded"},
    {"class": "coded"},
    {"device": ["cpu"]},
    {"device": ["cuda"], "bits": "2"},
    {"model": ["model-3"]},
    {"model": ["model-0", "model-2"], "data": ["data-1", "data-2"], "bits": "4"},
    {"data": ["data-0"], "class": "coded"},
    {"board": ("qat", "weight")},
    {"board": ("ptq", "activation")},
    {"board": ("rate-distortion", "source"), "class": "coded"},
]
NUMBERS = ("gain", "low", "high", "bits_low", "bits_high", "quality", "coverage")
PLAIN = (
    *("method", "label", "family", "rate_class", "rank", "tied", "provisional", "n", "units", "seeds"),
    *("points", "single", "censored", "failed", "reproduced", "why_unranked"),
)


def fragment(selection: dict[str, Any], site: Any) -> str:
    parts = {name: ",".join(value) if isinstance(value, list) else value for name, value in selection.items()}
    if "board" in parts:
        parts["board"] = site.board(*selection["board"]).key
    return "&".join(f"{name}={value}" for name, value in parts.items())


def expected(selection: dict[str, Any], site: Any) -> list[Standing]:
    """What Python says of the same selection."""
    board = site.board(*selection["board"]) if "board" in selection else site.boards[0]
    points = site.points[site.points["board"] == board.key]
    for name, column in (("model", "model"), ("data", "dataset"), ("device", "device")):
        if name in selection:
            points = points[points[column].isin(selection[name])]
    bits = BITS[selection["bits"]] if "bits" in selection else None
    found = standings(points, bits=bits, better=board.better)
    return [one for one in found if one.rate_class == selection.get("class", "fixed")]


def number(value: Any) -> float:
    return math.nan if value is None else float(value)


def share(gain: float) -> str:
    """Of the anchor's bits what is saved, in percent."""
    whole = math.floor(saved_percent(gain) + 0.5)
    return f"{'−' if whole < 0 else ''}{abs(whole)} %"


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda selection: "-".join(selection) or "all")
def test_standings_are_those_of_python(page: Any, site: Any, selection: dict[str, Any]) -> None:
    go(page, fragment(selection, site))
    given = page.evaluate("() => window.qbench.rowsOf().map(({own, curve, ...rest}) => rest)")
    wanted = expected(selection, site)
    assert [row["label"] for row in given] == [one.label for one in wanted]
    assert wanted
    for row, one in zip(given, wanted, strict=True):
        said = asdict(one)
        assert {name: row[name] for name in PLAIN} == {name: said[name] for name in PLAIN}
        for name in NUMBERS:
            assert number(row[name]) == pytest.approx(said[name], abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("selection", SELECTIONS[:4], ids=lambda selection: "-".join(selection) or "all")
def test_the_table_shows_these_numbers(page: Any, site: Any, selection: dict[str, Any]) -> None:
    go(page, fragment(selection, site))
    wanted = expected(selection, site)
    assert rows(page) == [one.label for one in wanted]
    for place, one in enumerate(wanted):
        row = page.locator("#rows > tr.row").nth(place)
        assert row.locator("td.rank").text_content() == ("–" if one.rank is None else str(one.rank))
        assert ("tied" in row.get_attribute("class").split()) == bool(one.tied)
        if one.n:
            interval = f"95 % interval {drawing.saved(one.low)} to {drawing.saved(one.high)}"
            assert row.locator(".saved .figure").text_content() == drawing.saved(one.gain)
            assert row.locator(".saved svg").get_attribute("aria-label") == interval
        assert row.locator("td.c-rate").text_content() == drawing.span(one.bits_low, one.bits_high)
        assert row.locator("td.c-quality").text_content() == drawing.figure(one.quality)
        assert row.locator("td.c-n").text_content() == str(one.n)


def test_the_best_at_2_4_and_8_bits(page: Any, site: Any) -> None:
    """Nothing beats the anchor at 8 bits: what is better lies beyond its range."""
    for place, bits in enumerate(("2", "4", "8")):
        best = expected({"bits": bits}, site)[0]
        shown = page.locator("#best dl > div").nth(place)
        assert shown.locator("dt").text_content() == f"at {bits} bits"
        said = f"{drawing.saved(best.gain)} fewer bits" if bits != "8" else "nothing beats the anchor"
        assert shown.locator(".big").text_content() == said
        assert shown.locator(".who").text_content().strip() == best.label


def test_known_gains(page: Any, site: Any) -> None:
    """Without noise: half a bit saved at 2, 3 and 4 bits in a curve that is straight between 2, 3, 4 and 8 bits."""
    go(page, f"board={site.board('qat').key}")
    found = {row["label"]: row for row in page.evaluate("() => window.qbench.rowsOf()")}
    halves = [math.log2(3 / 2) / 2, math.log2(4 / 3) / 2, math.log2(8 / 4) / 8]
    for name in ("method-1", "method-2"):
        assert found[name]["gain"] == pytest.approx(sum(halves) / 3, abs=1e-3)
        assert (found[name]["rank"], found[name]["tied"], found[name]["n"]) == (1, True, 8)
        assert found[name]["censored"] == 8
    assert (found["uniform"]["rank"], found["uniform"]["gain"], found["uniform"]["tied"]) == (3, 0, False)
    assert (found["method-3"]["rank"], found["method-3"]["tied"]) == (4, False)


def test_families_have_marks_of_their_own(page: Any) -> None:
    marks = page.locator("#rows > tr.row > th.name > svg")
    found = dict(zip(rows(page), marks.evaluate_all("(all) => all.map((one) => one.ariaLabel)"), strict=True))
    assert found == {
        "uniform": "scalar",
        "method-1": "lattice",
        "method-2": "vector",
        "method-3": "float",
        "method-4": "stochastic",
    }
    shapes = marks.locator("path").evaluate_all("(all) => all.map((one) => one.getAttribute('d'))")
    colours = marks.evaluate_all("(all) => all.map((one) => getComputedStyle(one).fill)")
    assert len({*shapes}) == len({*colours}) == 5


@pytest.fixture(scope="module")
def functions(browser: Any) -> Any:
    """An empty page in which the functions of ``resampling.js`` can be called."""
    page = browser.new_page()
    code = "\n".join(map(bundle.asset, ("hashing.js", "resampling.js")))
    page.add_script_tag(
        content=f"{code}\nObject.assign(window, {{signFlip, holm, intervals, hash, normal}});"
    )
    yield page
    page.close()


@pytest.mark.parametrize("units", [3, 8, 12, 13, 40])
def test_p_values_and_intervals_are_those_of_python(functions: Any, units: int) -> None:
    """Exact up to 12 units, of hashed flips beyond."""
    rng = np.random.default_rng(units)
    gains = rng.normal(0.3, 1, (6, units)).round(3)
    gains[1, 0] = math.nan
    errors = rng.uniform(0, 0.2, gains.shape).round(4)
    datasets = [f"data-{place % 3}" for place in range(units)]
    differences = gains[2:3] - gains[3:]
    p = functions.evaluate("(rows) => signFlip(rows)", differences.tolist())
    assert p == pytest.approx(sign_flip(differences).tolist(), abs=1e-12)
    adjusted = functions.evaluate("(p) => holm(p)", p)
    assert adjusted == pytest.approx(holm(np.array(p)).tolist(), abs=1e-12)
    given = [gains.tolist(), errors.tolist(), [int(name[-1]) for name in datasets]]
    bounds = functions.evaluate("([gains, errors, sets]) => intervals(gains, errors, sets)", given)
    wanted = intervals(gains, errors, datasets)
    assert np.asarray(bounds, dtype=float) == pytest.approx(wanted, abs=1e-9, nan_ok=True)
