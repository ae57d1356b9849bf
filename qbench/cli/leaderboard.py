"""``qbench leaderboard``: build the page, show it, publish it, fetch what others published."""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, final

import click

from .. import api
from ..quantities import size_text
from ..registry import Registry
from .options import registry_option
from .rendering import QUIET, Screen

if TYPE_CHECKING:
    from ..leaderboard.build import Built
    from ..plugins import Catalog
    from ..suite import Suite

PORT = 8765
# Verdicts are about suites that fit into memory.
MOST_DECIDED = 20_000

# Commands of this module, and of others that are imported when they are invoked: module, first line of the help.
ELSEWHERE = {
    "push": ("publishing", "Publish the page and the results on the Hub."),
    "pull": ("publishing", "Fetch published results and merge what is new."),
}


@final
class Leaderboard(click.Group):
    """Commands of this module, then those of :data:`ELSEWHERE`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in ELSEWHERE:
            return self.commands.get(cmd_name)
        module = importlib.import_module(f".{ELSEWHERE[cmd_name][0]}", __package__)
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, *((name, text) for name, (_, text) in ELSEWHERE.items())])


@click.group("leaderboard", cls=Leaderboard)
def leaderboard_command() -> None:
    """Build, show, publish and fetch the leaderboard.

    \b
    qbench leaderboard build --out board    board/index.html and the files beside it
    qbench leaderboard serve board          the same at http://127.0.0.1:8765/
    """


@leaderboard_command.command("build")
@registry_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="leaderboard",
    show_default=True,
    help="Folder, made where there is none; other files in it stay.",
)
def build_command(registry: Path | None, out: Path) -> None:
    """Write the page, Parquet, CSV and the card of a Space.

    The page is one file: it works from disk, without a network. The same registry makes the same bytes.
    """
    built = _build(api.open_registry(registry), out)
    screen = Screen()
    screen.say(f"the leaderboard of {built.results:,} results is in {built.folder}")
    for name, size in built.sizes.items():
        screen.entry(name, size_text(size), width=16)
    if built.methods_left_out:
        screen.say(
            f"{built.methods_left_out:,} methods stand in results.csv only; the page would be too large",
            QUIET,
        )


@leaderboard_command.command("serve")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False))
@registry_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one."
)
def serve_command(folder: Path | None, registry: Path | None, port: int) -> None:
    """Show the page of DIR, or of a registry, on this machine.

    Without DIR the page is built anew and thrown away at the end. Ctrl-C ends.
    """
    if folder is not None and registry is not None:
        raise click.UsageError("name DIR or --registry, not both.")
    with contextlib.ExitStack() as stack:
        place = folder or stack.enter_context(_built(registry))
        _serve(place, port)


@contextlib.contextmanager
def _built(registry: Path | None) -> Iterator[Path]:
    """A page that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="qbench-leaderboard-") as folder:
        _build(api.open_registry(registry), Path(folder))
        yield Path(folder)


def _serve(folder: Path, port: int) -> None:
    from ..leaderboard.serve import address, server

    with server(folder, port) as listening, contextlib.suppress(KeyboardInterrupt):
        click.echo(address(listening))
        Screen().say("Ctrl-C ends", QUIET)
        listening.serve_forever()


def _build(registry: Registry, out: Path) -> "Built":
    from ..leaderboard.build import build

    return build(registry, out, installed(), decided(registry))


def installed() -> dict[str, dict[str, str]]:
    """Of each installed quantizer what the leaderboard tells about it; without third parties where they fail."""
    from .. import plugins

    found = plugins.load((), strict=False)
    entries = (entry for (kind, _), entry in found.entries.items() if kind == "quantizer")
    return {
        entry.name: {
            "family": entry.component.family or "",
            "reference": entry.component.reference,
            "distribution": entry.origin.distribution,
            "kind": entry.component.kind,
        }
        for entry in entries
    }


def decided(registry: Registry) -> list[dict[str, str]]:
    """The verdicts of every installed suite that states hypotheses and of which something was measured."""
    from .. import plugins, suite

    catalog = plugins.load((), strict=False)
    counts = dict(registry.sql("SELECT track, count(*) FROM results GROUP BY track").fetchall())
    rows: list[dict[str, str]] = []
    for name in catalog.names("suite"):
        loaded = suite.load(name, catalog)
        count = sum(counts.get(track, 0) for track in {one.track for one in loaded.hypothesis})
        if 0 < count <= MOST_DECIDED:
            rows += _verdicts(loaded, catalog, registry)
    return rows


def _verdicts(loaded: "Suite", catalog: "Catalog", registry: Registry) -> list[dict[str, str]]:
    from ..evidence import gather
    from .verdict_page import number

    return [
        {
            "suite": loaded.name,
            "id": verdict.hypothesis.id,
            "claim": verdict.hypothesis.claim,
            "region": verdict.hypothesis.region_text(),
            "verdict": verdict.outcome,
            "cells": f"{verdict.tally.cells:,}",
            "deciding": f"{verdict.deciding} {number(verdict.median(verdict.deciding))}",
        }
        for verdict in gather(loaded, catalog, registry).verdicts()
        if verdict.tally.cells
    ]
