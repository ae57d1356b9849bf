"""``qbench plugins``: what is installed, from where, and what is broken."""

import os

import click

from .. import plugins
from . import rendering
from .options import json_option
from .rendering import BAD, Screen


@click.command("plugins")
@json_option("a line per component and one per broken plugin")
def plugins_command(json_output: bool) -> int:
    """List what is installed and what is broken.

    A broken plugin is shown with its error and does not change the exit code, which is 0.
    """
    disabled = os.environ.get(plugins.DISABLE_VARIABLE, "")
    found = plugins.load(filter(None, disabled.split(",")), strict=False)
    rows = list(plugins.rows(found))
    if json_output:
        rendering.json_lines(rows)
        return 0
    screen = Screen()
    columns = [(name, "whole") for name in ("kind", "name", "distribution", "version", "entry point")]
    keys = ("kind", "name", "distribution", "version", "entry_point")
    screen.show(rendering.table(columns, ([row[key] for key in keys] for row in rows if not row["error"])))
    broken = [row for row in rows if row["error"]]
    if broken:
        screen.heading("broken")
    for row in broken:
        what = (
            " ".join(str(row[key]) for key in ("kind", "name") if row[key])
            or f"entry point {row['entry_point']}"
        )
        screen.bullet(f"{what} of {row['distribution']} {row['version']}: {row['error']}", BAD)
    if disabled:
        screen.say()
        screen.say(f"left out by {plugins.DISABLE_VARIABLE}={disabled}", rendering.DOUBTFUL)
    return 0
