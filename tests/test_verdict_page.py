"""``qbench verdicts``: the table, the lines of JSON, and the page, read back."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from qbench import cli, plugins, suite
from qbench.cli.verdict_page import text
from qbench.cli.verdicts import percent
from qbench.registry import Registry
from qbench.schema import Cell, Measurement, Result

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_results import result_of, write_run

MODELS = ["mlp", "cnn", "alexnet", "resnet18", "densenet121", "googlenet"]
OPTIMIZERS = ["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw"]
HOSTILE = "ValueError: <script>alert(1)</script> | `rm` *bold* [x](y)"
HYPOTHESES = [
    ("HOLDS", 'all = [{ figure = "small", at_most = 1.0 }]\nreport = ["big"]'),
    ("FAILS", 'all = [{ figure = "big", at_most = 1.0 }]'),
    ("DEPENDS", 'all = [{ figure = "mixed", at_most = 1.0 }]'),
]


def suite_text() -> str:
    grid = f"""
name = "mine"
version = 1
description = "Figures of <nobody>."
[[grid]]
track = "float"
target = "weight"
model = {MODELS}
dataset = "digits"
optimizer = {OPTIMIZERS}
"""
    tables = [
        f'[[hypothesis]]\nid = "{name}"\nclaim = "what | {name}"\ntrack = "float"\nexact = true\n{rest}\n'
        for name, rest in HYPOTHESES
    ]
    return grid.replace("'", '"') + "".join(tables)


def measurements(cell: Cell) -> dict[str, Measurement]:
    """``small`` .5 and ``big`` 2 everywhere; ``mixed`` is the number of the optimizer over 3."""
    assert cell.optimizer is not None
    found = {"small": 0.5, "big": 2.0, "mixed": OPTIMIZERS.index(cell.optimizer.name) / 3}
    if cell.optimizer.name == "rmsprop":
        found["mixed.left_out"] = 3.0
    return {name: Measurement(value=value, unit="1") for name, value in found.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 planned cells: googlenet was never run, densenet121 with adamw failed, 29 were measured."""
    folder = tmp_path_factory.mktemp("verdicts")
    (folder / "mine.toml").write_text(suite_text())
    planned = suite.expand(suite.parse(folder / "mine.toml"), plugins.load(["all"]))
    run = [one for one in planned if one.cell.model and one.cell.model.name != "googlenet"]
    registry = Registry(folder / "results.duckdb")
    write_run(registry, [result(one.cell) for one in run], [one.digest for one in run])
    return folder


def result(cell: Cell) -> Result:
    assert cell.model is not None
    assert cell.optimizer is not None
    if (cell.model.name, cell.optimizer.name) == ("densenet121", "adamw"):
        return result_of(cell, status="error", error=HOSTILE)
    return result_of(cell, measurements=measurements(cell))


def verdicts(place: Path, *words: str) -> tuple[int, str, str]:
    command = ["verdicts", "--registry", str(place / "results.duckdb"), "--suite", str(place / "mine.toml")]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.command_line.main([*command, *words], prog_name="qbench")
    return ended.value.code, out.getvalue(), err.getvalue()


def tables(page: str) -> list[list[dict[str, str]]]:
    """The tables of a page, each a list of rows by header."""
    found, lines = [], page.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("| ---"):
            rows = []
            for row in lines[number + 1 :]:
                if not row.startswith("|"):
                    break
                rows.append(dict(zip(split(lines[number - 1]), split(row), strict=True)))
            found.append(rows)
    return found


def split(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_lines_of_json_hold_what_was_decided(place: Path) -> None:
    code, out, _ = verdicts(place, "--json")
    lines = {line["id"]: line for line in map(json.loads, out.splitlines())}
    assert code == 0
    assert {name: line["verdict"] for name, line in lines.items()} == {
        "HOLDS": "holds",
        "FAILS": "fails",
        "DEPENDS": "depends",
    }
    one = lines["DEPENDS"]
    assert (one["planned"], one["cells"], one["failed"], one["missing"]) == (36, 29, 1, 6)
    assert (one["supports"], one["contradicts"], one["undecided"]) == (20, 9, 0)
    assert one["by"]["optimizer"]["adamw"] == {"supports": 0, "contradicts": 4, "undecided": 0}
    assert one["figures"]["mixed"]["median"] == pytest.approx(2 / 3)
    assert one["figures"]["mixed"]["layers_left_out"] == 15
    assert next(iter(one["components"])) == "optimizer"
    assert one["components"]["optimizer"] == pytest.approx(1.0)
    assert lines["HOLDS"]["figures"]["big"]["median"] == 2


def test_the_table_says_what_is_missing(place: Path) -> None:
    code, out, _ = verdicts(place)
    assert code == 0
    said = " ".join(out.split())
    for words in (
        "HOLDS holds",
        "FAILS fails",
        "69 % of 29 cells support",
        "optimizer (100 %)",
        "29 of 36 planned",
    ):
        assert words in said
    assert "6: never run here" in out
    assert "1: the verdicts are without them" in out


def test_the_page_read_back_says_the_same(place: Path) -> None:
    code, _, _ = verdicts(place, "--markdown", str(place / "page.md"))
    page = (place / "page.md").read_text()
    first, coverage, failures, *rest = tables(page)
    assert code == 0
    assert [(row[""], row["verdict"], row["cells"]) for row in first] == [
        ("HOLDS", "**holds**", "29"),
        ("FAILS", "**fails**", "29"),
        ("DEPENDS", "**depends**", "29"),
    ]
    assert first[2]["support"] == f"{100 * 20 / 29:.1f} %"
    assert first[2]["contradict"] == f"{100 * 9 / 29:.1f} %"
    assert first[2]["region"] == "`mixed <= 1`"
    assert first[2]["deciding figure, median"] == "`mixed` 0.667"
    assert first[2]["largest component"] == "optimizer, 100 %"
    assert {row["measured"]: row["digits"] for row in coverage} == {
        **dict.fromkeys(MODELS[:4], "6 of 6"),
        "densenet121": "5 of 6",
        "googlenet": "0 of 6",
    }
    assert [row["status"] for row in failures] == ["error"]
    assert "29 of 36 planned cells were measured, 1 failed, 6 are missing" in page
    assert "Of 3 claims: holds 1, fails 1, depends 1." in page
    assert "of float 29 of 36 cells, 5 of 6 architectures, 6 of 6 optimizers." in page
    said = (
        "Layers that a figure is not defined for, and that are left out of it: `mixed` 15 in 5 of 29 cells."
    )
    assert page.count("left out of it") == page.count(said) == 1
    matrix = rest[-1]
    assert {row[""] for row in matrix} == set(MODELS[:5])
    assert {row["adamw"] for row in matrix} == {"1.67 (0/1)", "-"}
    assert {row["sgd"] for row in matrix} == {"0 (1/1)"}


def test_nothing_from_a_result_is_markup(place: Path) -> None:
    verdicts(place, "--markdown", str(place / "page.md"))
    page = (place / "page.md").read_text()
    assert "<" not in re.sub(r"`[^`]*`", "", page)
    assert "&lt;script&gt;" in page
    assert "Figures of &lt;nobody&gt;." in page
    assert text("a|b\n`c` <d> \x1b[0m") == r"a\|b \`c\` &lt;d&gt; \\x1b\[0m"


def test_a_suite_without_hypotheses_is_bad_input(place: Path) -> None:
    bare = place / "bare.toml"
    bare.write_text(suite_text().split("[[hypothesis]]")[0])
    code, _, err = verdicts(place, "--suite", str(bare))
    assert (code, err.strip()) == (
        2,
        "qbench: suite 'mine' states no hypothesis: give one with [[hypothesis]] tables",
    )


def test_shares_read_nothing_or_all_only_where_they_are() -> None:
    assert [percent(0, 1000), percent(1, 1000), percent(999, 1000), percent(1000, 1000), percent(0, 0)] == [
        "0 %",
        "1 %",
        "99 %",
        "100 %",
        "-",
    ]
