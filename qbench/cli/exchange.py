"""``qbench export`` and ``qbench merge``: results out to a Parquet file and in from others."""

from collections.abc import Sequence
from pathlib import Path

import click

from .. import api
from ..places import registry_path
from ..quantities import size_text
from ..registry import Registry
from . import rendering
from .options import json_option, registry_option
from .rendering import DOUBTFUL, Screen


@click.command("export")
@click.argument("path", metavar="OUT.parquet", type=click.Path(path_type=Path))
@registry_option
def export_command(path: Path, registry: Path | None) -> None:
    """Write a registry's results to a Parquet file.

    Everything is in it: every attempt, raw samples, environments, runs. `qbench merge` takes it in again. A Parquet
    file of that name is replaced, no other is.
    """
    replaced = ", which was replaced" if path.exists() else ""
    count = api.open_registry(registry).export(path)
    Screen().say(f"{count:,} results written to {path} ({size_text(path.stat().st_size)}){replaced}")


@click.command("merge")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@registry_option
@json_option("one line: added, present, rejected, reason")
def merge_command(paths: Sequence[Path], registry: Path | None, json_output: bool) -> None:
    """Take results over from other files.

    FILEs are Parquet files of `qbench export` or registries. What is known already stays as it is; doing it
    twice changes nothing. Rows that contradict themselves are rejected.
    """
    target = Registry(registry_path() if registry is None else registry)
    merged = target.merge(paths)
    if json_output:
        rendering.json_lines([vars(merged)])
        return
    screen = Screen()
    screen.say(
        f"{merged.added:,} new, {merged.present:,} known, {merged.rejected:,} rejected; now in {target.path}"
    )
    if merged.reason:
        screen.say(f"the first rejected: {merged.reason}", DOUBTFUL)
