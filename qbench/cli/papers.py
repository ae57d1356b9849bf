"""A sheet of results as text: Markdown, LaTeX with booktabs, CSV. Everything from a result is escaped."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..typesetting import code, latex, markdown, plain
from .matrix import PLACES, Figure, Line, Matrix, Place, shown
from .sheets import Key, Sheet

COLUMNS = (
    *("quantizer", "rate_class", *PLACES, "metric", "value", "standard_error", "seeds"),
    *("weight_bits", "bits", "best"),
)
CLASSES = {"fixed": "fixed length", "coded": "entropy-coded"}
NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """A number, what stands behind its plus-minus sign, and whether it is the best of its class."""

    value: str
    error: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a table: texts, then numbers; a heading has one text alone."""

    texts: tuple[str, ...]
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A table in words. ``heads`` are rows of column headers, by side; ``asides`` those of bits and seeds, by name."""

    stub: tuple[str, ...]
    heads: Sequence[tuple[str, ...]]
    asides: Sequence[tuple[str, tuple[str, ...]]]
    body: Sequence[Row]


@dataclass(frozen=True)
class Printed:
    """A table with what is said of it; ``command`` makes it again."""

    sheet: Sheet
    title: str
    notes: tuple[str, ...]
    command: str


def grid(sheet: Sheet) -> Grid:
    """Headers, rows with headings between rate classes, and true bits: beside rows, or above columns of quantizers."""
    several = len(sheet.matrix.classes) > 1
    over = "quantizer" in sheet.column_sides
    names = () if over else tuple(name for name, _ in sheet.matrix.chosen.rates)
    body, before = [], ""
    for key in sheet.rows:
        rate_class = key[0].rate_class if isinstance(key[0], Line) else ""
        if several and rate_class not in ("", before):
            body.append(Row((CLASSES.get(rate_class, rate_class),)))
            before = rate_class
        body.append(_row(sheet, key, names))
    heads = [tuple(_text(key[n], several) for key in sheet.columns) for n in range(len(sheet.column_sides))]
    said = [head for head in heads if any(head)] or heads[:1]
    return Grid((sheet.row_name, *names), said, _asides(sheet, over), body)


def _row(sheet: Sheet, key: Key, names: Sequence[str]) -> Row:
    own = [figure for (row, _), figure in sheet.figures.items() if row == key]
    of_float = isinstance(key[0], Line) and not key[0].rate_class
    bits = [sheet.matrix.chosen.float_bits if of_float else _bits(own, n) for n in range(len(names))]
    cells = (_cell(sheet.figures.get((key, column)), sheet) for column in sheet.columns)
    return Row((_text(key[0], False), *bits), tuple(cells))


def part_text(part: Line | str) -> str:
    """What a part of a key is called where rate classes have no headings."""
    return _text(part, True)


def _text(part: Line | str, several: bool) -> str:
    if isinstance(part, str):
        return part
    more = f", {CLASSES.get(part.rate_class, part.rate_class)}" if several and part.rate_class else ""
    return f"{part.label}{more}"


def _cell(figure: Figure | None, sheet: Sheet) -> Cell:
    if figure is None:
        return Cell(NOTHING)
    decimals = sheet.matrix.chosen.decimals
    error = "" if figure.error is None else shown(figure.error, decimals)
    return Cell(shown(figure.value, decimals), error, figure.best)


def _bits(figures: Sequence[Figure], number: int) -> str:
    rates = [figure.rates[number] for figure in figures if number < len(figure.rates)]
    low, high = (f"{rate:.2f}" for rate in (min(rates), max(rates))) if rates else (NOTHING, NOTHING)
    return low if low == high else f"{low} to {high}"


def _asides(sheet: Sheet, over: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Rows below the headers: bits of quantizers that are columns, and seeds where not all have as many."""
    columns = [[figure for (_, at), figure in sheet.figures.items() if at == key] for key in sheet.columns]
    named = enumerate(sheet.matrix.chosen.rates if over else ())
    rows = [
        (name, tuple(_column_bits(sheet, key, own, n) for key, own in zip(sheet.columns, columns)))
        for n, (name, _) in named
    ]
    if len(seeds(sheet)) > 1:
        counts = [sorted({figure.seeds for figure in own}) for own in columns]
        rows.append(("n", tuple(" to ".join(str(n) for n in dict.fromkeys((c[0], c[-1]))) for c in counts)))
    return rows


def _column_bits(sheet: Sheet, key: Key, own: Sequence[Figure], number: int) -> str:
    of_float = any(isinstance(part, Line) and not part.rate_class for part in key)
    return sheet.matrix.chosen.float_bits if of_float else _bits(own, number)


def seeds(sheet: Sheet) -> list[int]:
    """Every number of seeds that a figure is a mean of."""
    return sorted({figure.seeds for figure in sheet.figures.values()})


def to_markdown(printed: Printed, number: int = 1) -> str:
    """A table of GitHub's Markdown below its title; notes and the command follow. Tables have no numbers."""
    drawn = grid(printed.sheet)
    numbers = len(printed.sheet.columns)
    heads = [", ".join(_markdown_head(drawn, column)) for column in range(numbers)]
    lines = [_markdown_row([*map(markdown, drawn.stub), *heads])]
    sides = ["---", *["---:"] * (len(drawn.stub) - 1 + numbers)]
    lines.append(_markdown_row(sides))
    for row in drawn.body:
        texts = [f"*{markdown(row.texts[0])}*"] if not row.cells else [markdown(text) for text in row.texts]
        cells = [_markdown_cell(cell) for cell in row.cells] or [""] * (numbers + len(drawn.stub) - 1)
        lines.append(_markdown_row([*texts, *cells]))
    notes = " ".join([*map(markdown, printed.notes), f"Made by {code(printed.command)}."])
    table = "\n".join(lines)
    return f"**{markdown(printed.title)}**\n\n{table}\n\n{notes}\n"


def _markdown_head(drawn: Grid, column: int) -> list[str]:
    texts = [markdown(head[column]) for head in drawn.heads if head[column]]
    asides = [
        f"n = {values[column]}" if name == "n" else f"{values[column]} {name}"
        for name, values in drawn.asides
    ]
    return [*texts, *map(markdown, asides)]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    value = f"**{markdown(cell.value)}**" if cell.best else markdown(cell.value)
    return f"{value} ± {markdown(cell.error)}" if cell.error else value


def to_latex(printed: Printed, number: int = 1) -> str:
    """A float of LaTeX; it needs ``\\usepackage{booktabs}`` and nothing else."""
    drawn = grid(printed.sheet)
    numbers = len(printed.sheet.columns)
    rows = [
        *_latex_heads(drawn),
        "\\midrule",
        *(_latex_row(row, len(drawn.stub) + numbers) for row in drawn.body),
    ]
    caption = " ".join([latex(f"{printed.title}."), *map(latex, printed.notes)])
    made = f"Made by \\texttt{{{latex(printed.command)}}}."
    lines = [
        f"% {plain(printed.command)}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{caption} {made}}}",
        f"\\label{{tab:qbench-{number}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(drawn.stub) - 1 + numbers)}}}",
        "\\toprule",
        *rows,
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _latex_heads(drawn: Grid) -> list[str]:
    """Equal headers beside each other become one, with a rule below; the last row names the rows as well."""
    lines, blank = [], ["" for _ in drawn.stub]
    for level, head in enumerate(drawn.heads, 1):
        last = level == len(drawn.heads)
        stub = [latex(name) for name in drawn.stub] if last else blank
        runs = (
            [(text, len(list(run))) for text, run in groupby(head)]
            if not last
            else [(text, 1) for text in head]
        )
        lines.append(_latex_line([*stub, *(_spanning(text, width) for text, width in runs)]))
        lines += [] if last else _rules(runs, len(drawn.stub))
    lines += [_latex_line([latex(name), *blank[1:], *map(latex, values)]) for name, values in drawn.asides]
    return lines


def _spanning(text: str, width: int) -> str:
    return latex(text) if width == 1 else f"\\multicolumn{{{width}}}{{c}}{{{latex(text)}}}"


def _rules(runs: Sequence[tuple[str, int]], before: int) -> list[str]:
    rules, at = [], before
    for text, width in runs:
        if width > 1 and text:
            rules.append(f"\\cmidrule(lr){{{at + 1}-{at + width}}}")
        at += width
    return ["".join(rules)] if rules else []


def _latex_row(row: Row, width: int) -> str:
    if not row.cells:
        return _latex_line([f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{latex(row.texts[0])}}}}}"])
    return _latex_line([*map(latex, row.texts), *map(_latex_cell, row.cells)])


def _latex_line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _latex_cell(cell: Cell) -> str:
    if cell.value == NOTHING:
        return "--"
    value, error = (latex(text).replace("-", "\\(-\\)") for text in (cell.value, cell.error))
    value = f"\\textbf{{{value}}}" if cell.best else value
    return f"{value} \\(\\pm\\) {error}" if error else value


def to_csv(tables: Sequence[tuple[Mapping[str, object], Matrix]]) -> str:
    """One line per figure, unrounded, of all tables under one header; the first of each pair is in all its lines."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    for number, (facts, found) in enumerate(tables):
        if not number:
            writer.writerow([*facts, *COLUMNS])
        for (line, place), figure in found.figures.items():
            texts = [*facts.values(), line.label, line.rate_class, *_side_by_side(place), found.chosen.metric]
            writer.writerow([*(_no_formula(str(text)) for text in texts), *_unrounded(figure)])
    return written.getvalue()


def _no_formula(text: str) -> str:
    """Text that a spreadsheet would take for a formula begins with an apostrophe."""
    shown = plain(text)
    return f"'{shown}" if shown.lstrip()[:1] in ("=", "+", "-", "@") else shown


def _side_by_side(place: Place) -> list[str]:
    return [dict(place).get(str(kind), "") for kind in PLACES]


def _unrounded(figure: Figure) -> list[object]:
    """Bits of weights stand apart where elements have bits of their own."""
    *weights, bits = ["", *figure.rates[-2:]] if figure.rates else ["", ""]
    error = "" if figure.error is None else figure.error
    return [figure.value, error, figure.seeds, weights[-1], bits, int(figure.best)]
