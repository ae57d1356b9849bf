"""``qbench table``: any selection of results as a table for a paper."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .. import __version__, api, citation
from ..errors import ParameterError
from . import comparable, papers, sheets
from .comparable import Group
from .matrix import PLACES, SIDES, Matrix, matrix
from .options import Decorator, registry_option, where_option
from .papers import Printed
from .sheets import Sheet

FORMATS = ("markdown", "latex", "csv")
DEFAULTS = {"format": "markdown", "rows": "quantizer"}


def _choice(name: str, argument: str, among: Sequence[str], says: str) -> Decorator:
    kind, default = click.Choice(among), DEFAULTS[name]
    return click.option(f"--{name}", argument, type=kind, default=default, show_default=True, help=says)


@click.command("table")
@where_option
@_choice("format", "form", FORMATS, "Of the table.")
@_choice("rows", "row", SIDES, "What the rows are.")
@click.option(
    "--columns",
    metavar="SIDE,...",
    help=f"What the columns are, of {', '.join(SIDES)}; what differs and is in neither parts tables.  "
    "[default: all that differs]",
)
@click.option(
    "--metric", metavar="NAME", help="Another quantity than the track's own, such as kl or stored_bytes."
)
@registry_option
def table_command(
    where: Sequence[str], form: str, row: str, columns: str | None, metric: str | None, registry: Path | None
) -> None:
    """Write a selection as a LaTeX, Markdown or CSV table.

    Of the attempts that the leaderboard counts: means over the seeds that all rows of a column have, with their
    standard error, true bits, and in bold the best of its class in each column. Digests, kinds of device and settings
    are never mixed: each has a table of its own. LaTeX needs the package booktabs. CSV has one line per figure,
    whatever --rows and --columns say.
    """
    given = {
        "where": where,
        "format": form,
        "rows": row,
        "columns": columns,
        "metric": metric,
        "registry": registry,
    }
    across = _sides(columns, row)
    found = comparable.select(api.open_registry(registry), where)
    label = comparable.labels(found)
    groups = comparable.groups(found, metric, label)
    made = [(group, matrix([each.one for each in group.found], group.chosen, label)) for group in groups]
    if form == "csv":
        sys.stdout.write(papers.to_csv([(_facts(group), figures) for group, figures in made]))
        return
    command = _command(given)
    printed = [each for group, figures in made for each in _printed(group, figures, row, across, command)]
    write = papers.to_latex if form == "latex" else papers.to_markdown
    sys.stdout.write("\n".join(write(each, number) for number, each in enumerate(printed, 1)))


def _sides(columns: str | None, row: str) -> list[str]:
    sides = [side.strip() for side in columns.split(",")] if columns else []
    for side in sides:
        if side not in SIDES:
            raise ParameterError(f"--columns {side!r} is not one of {', '.join(SIDES)}")
        if side == row or sides.count(side) > 1:
            raise ParameterError(f"{side!r} can be in one place only, of --rows and --columns; leave one out")
    return sides


def _printed(group: Group, found: Matrix, row: str, across: Sequence[str], command: str) -> Iterator[Printed]:
    """Each table with its title and notes."""
    track, target, suite, digest, _ = group.protocol
    source = (
        f"Suite {suite or 'unknown'}, digest {digest[: citation.DIGITS] or 'unknown'}, on {group.devices}."
    )
    for sheet in sheets.sheets(found, row, across):
        place = dict(found.places[0])
        same = [place[kind] for kind in PLACES if kind in place and kind not in sheet.told]
        parts = [papers.part_text(part) for part in sheet.parts]
        title = ", ".join([f"{track}, {target}: {group.chosen.says}", *parts, *same, *group.setting])
        yield Printed(sheet, title, (source, *_notes(sheet), f"qbench {__version__}."), command)


def _notes(sheet: Sheet) -> Iterator[str]:
    counts = papers.seeds(sheet)
    if counts == [1]:
        yield "One seed."
    else:
        equal = f" = {counts[0]}" if len(counts) == 1 else ""
        where = " where n > 1" if counts[0] == 1 else ""
        yield f"Means over n{equal} seeds ± standard error{where}."
    if sheet.left_out:
        yield "Only the seeds that all quantizers of a column have."
    if any(figure.best for figure in sheet.figures.values()):
        several = " of fixed length and of entropy-coded" if len(sheet.matrix.classes) > 1 else ""
        yield f"Bold: the best{several} {_contest(sheet)}."
    elif sheet.matrix.chosen.rates and not sheet.matrix.chosen.sign:
        yield f"Nothing is in bold: whether more of {sheet.matrix.chosen.metric} is better is not known."


def _contest(sheet: Sheet) -> str:
    if sheet.row == "quantizer":
        return "in each column"
    return "in each row" if sheet.column_sides == ("quantizer",) else "on each model and data set"


def _facts(group: Group) -> dict[str, object]:
    track, target, suite, digest, device_kind = group.protocol
    named = {"track": track, "target": target, "suite": suite, "digest": digest, "device_kind": device_kind}
    return {**named, "device": group.devices, "setting": ", ".join(group.setting)}


def _command(given: Mapping[str, Any]) -> str:
    """What was given and is not the default, as a command to be copied."""
    words = ["qbench", "table"]
    for name, value in given.items():
        for each in value if isinstance(value, tuple) else [value]:
            words += [f"--{name}", str(each)] if each not in (None, DEFAULTS.get(name)) else []
    return shlex.join(words)
