"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def json_option(what: str) -> Decorator:
    return click.option("--json", "json_output", is_flag=True, help=f"JSON Lines on stdout: {what}.")


def registry_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--registry",
        type=click.Path(path_type=Path),
        help="File of results.  [default: $QBENCH_REGISTRY, else ./qbench.duckdb]",
    )(function)


def where_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--where",
        multiple=True,
        metavar="TERMS",
        help='Terms that all hold, such as "track=ptq quantizer=uniform,binary seed=0".',
    )(function)


def no_plugin_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--no-plugin",
        "disabled",
        multiple=True,
        metavar="NAME",
        help="Leave out a distribution or entry point; `all` leaves out every third party.",
    )(function)


_SELECTION: tuple[Decorator, ...] = (
    click.option(
        "--suite",
        default="standard",
        show_default=True,
        metavar="NAME|FILE",
        help="Installed suite, or a TOML file.",
    ),
    registry_option,
    click.option(
        "--select",
        multiple=True,
        metavar="TERMS",
        help='Cells that meet every term, such as "track=ptq quantizer=uniform,binary".',
    ),
    click.option(
        "--quantizer",
        "quantizers",
        multiple=True,
        metavar="NAME:K=V,...",
        help="Add a point to every grid it fits, such as uniform:bits=4.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="auto: a GPU, else the CPU.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Processes. On a GPU they share it, each with an equal part of its memory, and timings are of a shared "
        "device: 1 for cells that need all of it.  [default: one per core on the CPU; on a GPU one per 10 GiB of its "
        "memory, 1 to 4]",
    ),
    click.option(
        "--time-budget", metavar="10m", help="Breadth first and cheap cells first; the rest is left pending."
    ),
    click.option("--offline", is_flag=True, help="Fetch nothing."),
    click.option("--force", is_flag=True, help="Run everything anew."),
    click.option("--retry-failed", is_flag=True, help="Run what failed before anew."),
    no_plugin_option,
    click.option("--timeout", metavar="10m", help="A cell's limit once its data is loaded.  [default: 10m]"),
    click.option(
        "--memory", metavar="4GiB", help="A worker's limit.  [default: 80 % of the machine, shared evenly]"
    ),
)


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that says what to run and how; `run` and `plan` take the same."""
    for option in reversed(_SELECTION):
        function = option(function)
    return function
