"""Tables as LaTeX and Markdown: whatever the names, they are read back."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbench.cli import papers, sheets
from qbench.cli.matrix import Figure, Line, Matrix
from qbench.typesetting import latex, plain

with pytest.MonkeyPatch.context() as patch:
    for folder in Path(__file__).parents[:2]:
        patch.syspath_prepend(str(folder))
    from tabling import HEADLINE, tables


word = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\{}$&#^_~%|`<>[]*-'\"\n\u2028\u202e"),
    min_size=1,
    max_size=12,
)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Figures with holes, of lines and places with any names."""
    lines = [
        Line(name, c)
        for name, c in draw(
            st.lists(
                st.tuples(word, st.sampled_from(["fixed", "coded"])), min_size=1, max_size=3, unique=True
            )
        )
    ]
    places = [
        (("model", m), ("dataset", d))
        for m, d in draw(st.lists(st.tuples(word, word), min_size=1, max_size=4, unique=True))
    ]
    keys = draw(st.lists(st.sampled_from(list(itertools.product(lines, places))), min_size=1, unique=True))
    figures = {
        key: Figure(
            draw(st.floats(-1e6, 1e6)),
            draw(st.none() | st.floats(0, 9)),
            draw(st.integers(1, 3)),
            (draw(st.floats(0.1, 9)),),
            draw(st.booleans()),
        )
        for key in keys
    }
    return Matrix(HEADLINE, lines, places, figures, frozenset(), True)


@st.composite
def printed(draw: st.DrawFn) -> papers.Printed:
    row = draw(st.sampled_from(["quantizer", "model", "dataset"]))
    columns = draw(st.sampled_from([(), ("dataset", "model"), ("quantizer",)]))
    sheet = draw(
        st.sampled_from(sheets.sheets(draw(matrices()), row, [side for side in columns if side != row]))
    )
    return papers.Printed(
        sheet, draw(word), (f"Suite {draw(word)}",), f"qbench table {shlex.quote(draw(word))}"
    )


def split(row: str) -> list[str]:
    """Cells of a row of LaTeX: what unescaped ampersands outside braces part."""
    cells, depth, escaped = [""], 0, False
    for mark in row:
        depth += 0 if escaped else (mark == "{") - (mark == "}")
        assert depth >= 0
        if mark == "&" and not escaped:
            assert depth == 0
            cells.append("")
        else:
            cells[-1] += mark
        escaped = mark == "\\" and not escaped
    assert depth == 0
    return [cell.strip() for cell in cells]


def width(cell: str) -> int:
    spanning = re.match(r"\\multicolumn\{(\d+)\}", cell)
    return int(spanning[1]) if spanning else 1


@settings(max_examples=40, deadline=None)
@given(printed())
def test_latex_is_well_formed_whatever_the_names(one: papers.Printed) -> None:
    out = papers.to_latex(one)
    comment, *lines = out.splitlines()
    assert comment.startswith("% qbench table ")
    assert all(
        out.count(f"\\begin{{{name}}}") == out.count(f"\\end{{{name}}}") == 1 for name in ("table", "tabular")
    )
    (spec,) = re.findall(r"\\begin\{tabular\}\{(l?r*)\}", out)
    start, end = lines.index("\\toprule"), lines.index("\\bottomrule")
    rows = [line for line in lines[start + 1 : end] if not line.startswith(("\\midrule", "\\cmidrule"))]
    assert lines[start + 1 : end].count("\\midrule") == 1
    for row in rows:
        assert row.endswith(" \\\\")
        assert sum(map(width, split(row.removesuffix(" \\\\")))) == len(spec)
        assert not row.startswith(("[", "*"))
    assert "%" not in re.sub(r"\\%", "", "\n".join(lines))
    for text in (one.title, *one.notes, one.command):
        assert latex(text) in out
    drawn = papers.grid(one.sheet)
    for row in drawn.body:
        assert f"{latex(row.texts[0])} &" in out or f"\\emph{{{latex(row.texts[0])}}}" in out


@settings(max_examples=40, deadline=None)
@given(printed())
def test_markdown_is_read_back_whatever_the_names(one: papers.Printed) -> None:
    (rows,) = tables(papers.to_markdown(one))
    drawn = papers.grid(one.sheet)
    wide = len(drawn.stub) + len(one.sheet.columns)
    assert {len(row) for row in rows} == {wide}
    for shown, row in zip(rows[1:], drawn.body, strict=True):
        assert shown[0].strip() == plain(row.texts[0]).strip()
        for text, cell in zip(shown[-len(row.cells) :], row.cells, strict=False):
            value = f"**{cell.value}**" if cell.best else cell.value
            assert text == (f"{value} ± {cell.error}" if cell.error else value)


@settings(max_examples=40, deadline=None)
@given(matrices())
def test_every_figure_stands_in_one_place_whatever_the_sides(found: Matrix) -> None:
    sides = ("quantizer", "model", "dataset")
    for row in sides:
        for columns in ([], *([side] for side in sides if side != row)):
            made = sheets.sheets(found, row, columns)
            values = sorted(figure.value for sheet in made for figure in sheet.figures.values())
            assert values == sorted(figure.value for figure in found.figures.values())
            assert all(
                set(sheet.figures) <= set(itertools.product(sheet.rows, sheet.columns)) for sheet in made
            )


def test_equal_headers_beside_each_other_become_one() -> None:
    places = [(("model", m), ("dataset", d)) for m, d in itertools.product(("mlp", "cnn"), ("a", "b"))]
    line = Line("q", "fixed")
    figures = {(line, place): Figure(float(n), None, 1, (4.0,)) for n, place in enumerate(places)}
    (sheet,) = sheets.sheets(Matrix(HEADLINE, [line], places, figures, frozenset(), True), "quantizer", [])
    lines = papers.to_latex(papers.Printed(sheet, "t", (), "c")).splitlines()
    start = lines.index("\\toprule")
    assert lines[start + 1 : start + 6] == [
        r" &  & \multicolumn{2}{c}{mlp} & \multicolumn{2}{c}{cnn} \\",
        r"\cmidrule(lr){3-4}\cmidrule(lr){5-6}",
        r"quantizer & bits/elem & a & b & a & b \\",
        r"\midrule",
        r"q & 4.00 & 0.00 & 1.00 & 2.00 & 3.00 \\",
    ]
