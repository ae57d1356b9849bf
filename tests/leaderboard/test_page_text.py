"""The page as text: what a reader without scripts sees, and that no result can write markup into it."""

import base64
import hashlib
import html.parser
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qbench.leaderboard import build as building
from qbench.leaderboard import bundle, drawing, payload
from qbench.leaderboard.standings import standings
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from synthetic import CATALOG, add

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\u2028\u2029\u202e right to left \U0001f4a9",
    '" onmouseover="alert(2)',
    "x" * 10_000,
)


class Elements(html.parser.HTMLParser):
    """Tags with their attributes, in order, and the text inside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(path: Path, catalog: dict[str, dict[str, str]]) -> str:
    folder = building.build(Registry(path), path.parent / "board", catalog).folder
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of three quantizers on four units, gains 0, half a bit and minus half a bit at about 4 bits."""
    path = tmp_path_factory.mktemp("text") / "registry.duckdb"
    add(path, quantizers=3, bits=(2, 3, 4, 5, 8), gains=(0, 0.5, -0.5), seeds=2)
    return page_of(path, CATALOG)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("hostile") / "registry.duckdb"
    add(path, quantizers=3, models=2, datasets=2, hostile=HOSTILE)
    add(path, quantizers=2, bits=(5,), models=1, status="error", error=HOSTILE[0], hostile=HOSTILE)
    return page_of(path, {name: {**one, "reference": HOSTILE[0]} for name, one in CATALOG.items()})


def content(text: str) -> dict[str, Any]:
    sent = json.loads(Elements(text).scripts[0])
    packed = sent.pop("packed", None)
    return sent | (json.loads(zlib.decompress(base64.b64decode(packed))) if packed else {})


def test_nothing_is_fetched(text: str) -> None:
    """No address outside the page in an attribute that fetches, and a policy that would refuse it."""
    found = Elements(text)
    fetched = [one.get("src") for _, one in found.tags if "src" in one]
    links = [one.get("href") for one in found.named("link")]
    assert (fetched, links) == ([], ["data:,"])
    assert [
        one for _, one in found.tags if any(name.startswith("on") or name == "style" for name in one)
    ] == []


def test_the_policy_names_exactly_the_scripts_and_the_style(text: str) -> None:
    found = Elements(text)
    rules = dict(
        rule.strip().split(" ", 1)
        for rule in next(one["content"] or "" for one in found.named("meta") if "http-equiv" in one).split(
            ";"
        )
    )
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None

    def hashes(*texts: str) -> str:
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in texts
        )

    assert found.named("script")[0]["type"] == "application/json"
    assert rules["script-src"] == hashes(*found.scripts[1:])
    assert rules["style-src"] == hashes(style[1])
    assert (rules["default-src"], rules["connect-src"]) == ("'none'", "'none'")
    assert "unsafe" not in str(rules)


def test_the_table_is_there_without_scripts(text: str) -> None:
    """Best first, half a bit at the widths inside the anchor's range; heads with a scope."""
    body = text.partition('<tbody id="rows">')[2].partition("</tbody>")[0]
    names = re.findall(r"<button type=\"button\"><bdi>(.*?)</bdi>", body)
    assert names == ["method-1", "uniform", "method-2"]
    assert re.findall(r'<td class="rank c-rank">(.*?)</td>', body) == ["1", "2", "3"]
    assert '<span class="badge"><bdi>stranger</bdi>' in body
    found = Elements(text)
    heads = [one for one in found.named("th") if "data-column" in one]
    assert [one["aria-sort"] for one in heads] == ["ascending"] + ["none"] * 8
    assert {one["scope"] for one in heads} == {"col"}


def test_three_figures_in_words(text: str) -> None:
    """The one that saves half a bit is best at 2 and at 4."""
    words = text.partition('id="best">')[2].partition("</div></div>")[0]
    assert re.findall(r"<dt>at (\d) bits</dt>", text) == ["2", "4", "8"]
    assert "method-1" in words


def test_the_anchor_is_not_said_to_beat_itself(tmp_path: Path) -> None:
    """Alone it is said to be alone; beside one that loses, nothing beats it."""
    for quantizers, big, fine in (
        (1, "only the anchor is ranked", "n = 4"),
        (2, "nothing beats the anchor", "of 1"),
    ):
        (tmp_path / str(quantizers)).mkdir()
        path = tmp_path / str(quantizers) / "registry.duckdb"
        add(path, quantizers=quantizers, bits=(2, 3, 4, 5), gains=(0, -0.5))
        words = page_of(path, CATALOG).partition('id="best">')[2].partition("</dl>")[0]
        assert re.findall(r'<dd class="big">(.*?)</dd>', words)[1] == big
        assert re.findall(r'<dd class="fine quiet">(.*?)</dd>', words)[1].startswith(fine)


def test_ten_rules(text: str) -> None:
    assert text.partition('id="rules"')[2].partition("</section>")[0].count("<li>") == 10


def test_the_board_says_which_units_count(tmp_path: Path) -> None:
    """Of three models all methods have two, and the anchor alone the third."""
    add(tmp_path / "registry.duckdb", quantizers=4, models=2, datasets=1)
    add(tmp_path / "registry.duckdb", quantizers=1, models=3, datasets=1, device_kind="cuda")
    found = re.findall(r'id="board">(.*?)</p>', page_of(tmp_path / "registry.duckdb", CATALOG))
    counted = "2 of 3 units (model and data set pairs) count: those that at least half of the methods have."
    assert len(found) == 1
    assert found[0].endswith(f". {counted}")


def test_verdicts_have_their_figures_in_words(tmp_path: Path) -> None:
    """What no words are known of stays as it is, whatever it is."""
    add(tmp_path / "registry.duckdb", quantizers=1, models=1, datasets=1)
    common = {"suite": "gradients", "verdict": "fails", "cells": "78"}
    figures = ("zero_share 0.112", "run.lipschitz_kept 1", f"{HOSTILE[0]} 1", "shape -")
    given = [{"claim": str(place), "deciding": one, **common} for place, one in enumerate(figures)]
    building.build(Registry(tmp_path / "registry.duckdb"), tmp_path / "board", CATALOG, given)
    text = (tmp_path / "board" / "index.html").read_text(encoding="utf-8")
    cells = re.findall(r'<td class="v-deciding" title="(.*?)">(.*?)</td>', text)
    assert cells[:2] == [
        ("zero_share 0.112", "11.2 % of the coordinates are exactly 0"),
        ("run.lipschitz_kept 1", "100 % of later steps keep to the first half&#x27;s bound"),
    ]
    assert cells[3] == ("shape -", "shape -")
    assert "Of 4: 4 fail." in text
    assert Elements(text).named("img") == []


def test_charts_have_words(text: str) -> None:
    plots = [one for one in Elements(text).named("div") if one.get("class") == "plot"]
    assert len(plots) >= 3
    assert all(one["role"] == "img" and one["aria-label"] for one in plots)


def test_hostile_text_is_text(hostile: str) -> None:
    """No element of theirs, no end of the data, no letter that JavaScript takes for the end of a line."""
    found = Elements(hostile)
    assert found.named("img") == []
    assert len(found.named("script")) == 3
    assert not any("onmouseover" in one or "onerror" in one for _, one in found.tags)
    assert not set("\u2028\u2029<>&") & set(found.scripts[0])
    assert content(hostile)["boards"]


def test_long_names_are_shortened_where_they_are_read(hostile: str) -> None:
    before = hostile.partition('<script type="application/json"')[0]
    assert max(map(len, re.findall(r"x{100,}", before)), default=0) <= 1000


def test_points_on_the_page_are_those_of_the_standings(text: str) -> None:
    """Columns of equal length, codes within their dictionaries, dictionaries in order."""
    sent = content(text)
    columns, names = sent["points"], sent["names"]
    assert {len(values) for values in columns.values()} == {3 * 5 * 4}
    assert all(names[name] == sorted(names[name]) for name in names)
    assert all(0 <= code < len(names[name]) for name in names for code in columns[name])
    labels = {names["quantizer"][code] for code in columns["quantizer"]}
    assert labels == {"uniform", "method-1", "method-2"}
    gains = [gain for gain in columns["gain"] if gain is not None]
    assert gains == [round(gain, 6) for gain in gains]


def frame(methods: int, points: int) -> pd.DataFrame:
    """So many methods with so many points each; the first is the anchor, the others save less and less."""
    return pd.DataFrame(
        [
            {
                "board": "b",
                "rate_class": "fixed",
                "method": f"m{method:03d}",
                "gain": -0.01 * method,
                "rate": 2.0,
            }
            | {"quality": 1.23456789, "anchor": method == 0, "gain_se": 0.0}
            for method in range(methods)
            for _ in range(points)
        ]
    )


def test_whole_methods_are_left_out_the_worst_first() -> None:
    few = payload.kept(frame(10, 5), most=24)
    assert sorted(set(few.points["method"])) == ["m000", "m001", "m002", "m003"]
    assert (few.methods_left_out, few.points_left_out) == (6, 30)


def test_the_anchor_stays_though_it_were_worst() -> None:
    given = frame(10, 5).assign(anchor=lambda table: table["method"] == "m009")
    assert sorted(set(payload.kept(given, most=10).points["method"])) == ["m000", "m009"]


def test_all_are_kept_where_they_fit() -> None:
    few = payload.kept(frame(3, 2), most=6)
    assert (len(few.points), few.methods_left_out) == (6, 0)
    assert set(few.points["quality"]) == {1.234568}


def test_numbers_that_json_cannot_say() -> None:
    assert payload._numbers(pd.Series([1.0, np.nan, np.inf, 0.5, -0.0])) == [1, None, None, 0.5, 0]
    with pytest.raises(ValueError, match="JSON"):
        bundle.json_text({"value": float("nan")})


def test_json_for_a_script_element() -> None:
    given = {"text": "".join(HOSTILE) + "\ud800"}
    text = bundle.json_text(given)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["text"] == "".join(HOSTILE) + "?"


def test_a_template_is_filled_once() -> None:
    assert bundle.filled("{{a}} {{b}}", {"a": "{{b}}", "b": "<"}) == "{{b}} <"


def test_code_of_a_library_cannot_end_its_element() -> None:
    assert bundle._inline('a = "</script><!--";\r\n') == 'a = "<\\/script><\\!--";\n'


def test_every_script_is_in_the_bundle() -> None:
    folder = Path(bundle.__file__).parent / "assets"
    assert sorted(bundle.SCRIPTS) == sorted(path.name for path in folder.glob("*.js"))


def test_names_have_their_direction_to_themselves() -> None:
    assert drawing.name("a<b") == "<bdi>a&lt;b</bdi>"
    assert drawing.name("y" * 200) == f"<bdi>{'y' * drawing.LONGEST}…</bdi>"
    assert drawing.escape("\0\ud800") == "\ufffd?"


def test_marks_of_families_are_those_of_the_scripts() -> None:
    """The two languages draw one picture."""
    shapes = dict(re.findall(r'^  (\w+): "(M[^"]+)",$', bundle.asset("nodes.js"), re.MULTILINE))
    assert shapes == drawing.SHAPES


def test_standings_of_the_page_are_of_rounded_points(tmp_path: Path) -> None:
    """Rounding to six decimals moves a mean by half of the last at most, far below what is shown."""
    add(tmp_path / "registry.duckdb", quantizers=3, bits=(2, 3, 4, 5), gains=(0, 0.5, -0.5), noise=0.1)
    _, points = building.points_of(Registry(tmp_path / "registry.duckdb"), CATALOG)
    exact, rounded = standings(points), standings(payload.rounded(points))
    assert [one.method for one in exact] == [one.method for one in rounded]
    for one, other in zip(exact, rounded, strict=True):
        assert other.gain == pytest.approx(one.gain, abs=5.1e-7)
