"""Tables, lists and progress. Every word is plain text: nothing from a result or plugin is read as markup."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, final

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ..quantities import duration_text
from ..reporting import WIDTH, Lines, Report, counts, cut
from . import printable

if TYPE_CHECKING:
    from ..reporting import Progress

_BAR = 20
_BESIDES = _BAR + 50  # counts, times and blanks, so that what is going on stays in the line
GOOD, DOUBTFUL, BAD, QUIET = "green", "yellow", "red", "dim"


@final
class Screen:
    """Where people read: stdout, or stderr where stdout carries JSON."""

    def __init__(self, *, json_output: bool = False) -> None:
        self.stream = sys.stderr if json_output else sys.stdout
        self.console = console(self.stream)

    def show(self, *renderables: RenderableType) -> None:
        """Print and let a closed pipe be an ordinary BrokenPipeError."""
        with self.console.capture() as captured:
            for renderable in renderables:
                self.console.print(renderable)
        self.stream.write("\n".join(line.rstrip() for line in captured.get().split("\n")))
        self.stream.flush()

    def say(self, line: str = "", style: str = "") -> None:
        self.show(text(line, style))

    def heading(self, title: str, aside: str = "") -> None:
        self.show(Text(""), Text.assemble(text(title, "bold"), "  " if aside else "", text(aside, QUIET)))

    def entry(self, label: str, value: str, style: str = "", width: int = 12) -> None:
        """A label and a value that wraps beside it."""
        self.show(grid((width,), (text(label, QUIET), text(value, style))))

    def verbatim(self, line: str) -> None:
        """A line to be copied: never wrapped."""
        self.stream.write(f"{printable(line)}\n")
        self.stream.flush()

    def bullet(self, line: str, style: str = "", indent: int = 2) -> None:
        self.show(Padding(text(line, style), (0, 0, 0, indent)))


def console(stream: Any) -> Console:
    """A console that reads no markup; 100 columns where nobody watches."""
    width = None if stream.isatty() else WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def text(value: Any, style: str = "") -> Text:
    """Plain text in a style, harmless to terminals."""
    return Text(printable(str(value)), style=style, overflow="fold")


def grid(widths: Sequence[int], cells: Sequence[Text]) -> Table:
    """One line: cells of fixed widths, and a last one that wraps in what room is left."""
    drawn = Table.grid(padding=(0, 2))
    for width in widths:
        drawn.add_column(width=width, no_wrap=True)
    drawn.add_column(overflow="fold")
    drawn.add_row(*cells)
    return drawn


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Any]]) -> Table:
    """Columns are (header, ``left``, ``right`` or ``whole``); a cell is a string, a Text, or None.

    Left columns wrap where room is short, right and whole ones do not.
    """
    drawn = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        header_style=Style(bold=True),
    )
    for header, side in columns:
        justify: Literal["right", "left"] = "right" if side == "right" else "left"
        drawn.add_column(text(header), justify=justify, no_wrap=side != "left", overflow="fold")
    for row in rows:
        drawn.add_row(
            *(cell if isinstance(cell, Text) else text("" if cell is None else cell) for cell in row)
        )
    return drawn


def spec_text(spec: object) -> str:
    """A specification with a blank after each comma, so that it wraps between parameters.

    >>> spec_text("uniform(bits=4,range=mse)")
    'uniform(bits=4, range=mse)'
    """
    return re.sub(r'("(?:[^"\\]|\\.)*")|,', lambda match: match[1] or ", ", str(spec))


def number(value: float | None, decimals: int = 2) -> str:
    """Fixed decimals, so that columns of numbers line up; a dash for what is not there.

    >>> number(-0.0004, 3)
    '0.000'
    """
    return "-" if value is None else f"{value:z.{decimals}f}"


def significant(value: float | None) -> str:
    """Six significant digits."""
    return "-" if value is None else f"{value:.6g}"


def json_lines(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line on stdout."""
    for row in rows:
        sys.stdout.write(json.dumps(row, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def progress() -> Iterator[Report]:
    """Reports on stderr: a bar on a terminal, else a line every few seconds."""
    if not sys.stderr.isatty():
        yield Lines(sys.stderr)
        return
    columns = (
        BarColumn(bar_width=_BAR),
        TextColumn("{task.fields[count]}", justify="right", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        TextColumn("{task.fields[what]}", markup=False, style=QUIET),
    )
    with Bar(*columns, console=console(sys.stderr), transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("", total=None, count="", left="", what="")

        room = max(10, bar.console.width - _BESIDES)

        def report(progress: "Progress") -> None:
            left = "" if progress.left is None else f"about {duration_text(progress.left)} left"
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                count=counts(progress),
                left=left,
                what=cut(printable(progress.what), room),
            )

        yield report
