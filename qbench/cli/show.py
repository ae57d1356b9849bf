"""``qbench show``: everything about one result. No torch here."""

import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import api
from ..quantities import duration_text
from ..registry import Registry
from ..schema import Cell, Measurement, Result
from . import rendering
from .options import json_option, registry_option
from .rendering import BAD, GOOD, QUIET, Screen, spec_text


@click.command("show")
@click.argument("result_id", metavar="RESULT")
@registry_option
@json_option("one line")
def show_command(result_id: str, registry: Path | None, json_output: bool) -> None:
    """Show everything about one result.

    RESULT is the beginning of its id, as `qbench results` lists them.
    """
    held = api.open_registry(registry)
    result = held.result(result_id)
    suites = _suites(held, result)
    environment = held.environment(result.environment_id)
    command = shlex.join(reproduce(result, suites[0] if suites else "standard", registry))
    if json_output:
        rendering.json_lines([_flat(result, suites, environment, command) | {"trust": _trust(held, result)}])
    else:
        _show(Screen(), result, suites, environment, command, _trust(held, result))


def _suites(held: Registry, result: Result) -> list[str]:
    query = "SELECT DISTINCT suite FROM history WHERE result_id = ? AND suite IS NOT NULL ORDER BY suite"
    return [suite for (suite,) in held.sql(query, [result.result_id]).fetchall()]


def _trust(held: Registry, result: Result) -> str:
    return held.trust([result.result_id])[result.result_id]


def reproduce(result: Result, suite: str, registry: Path | None = None) -> list[str]:
    """The words of a command that measures the same cell again; a suite of one's own is named by its file."""
    words = ["qbench", "run", "--suite", suite, "--select", f"cell_id={result.cell_id[:16]}"]
    words += ["--device", result.device_kind, "--force"]
    words += ["--registry", str(registry)] if registry is not None else []
    return words + (["--quantizer", str(result.cell.quantizer)] if result.cell.quantizer else [])


def _flat(result: Result, suites: list[str], environment: dict[str, Any], command: str) -> dict[str, Any]:
    row = result.model_dump(mode="json")
    return {
        "result_id": result.result_id,
        "cell_id": result.cell_id,
        "suites": suites,
        **row,
        "environment": environment,
        "command": command,
    }


def _show(
    screen: Screen,
    result: Result,
    suites: list[str],
    environment: dict[str, Any],
    command: str,
    trust: str,
) -> None:
    cell = result.cell
    screen.heading(f"result {result.result_id}")
    screen.entry("status", result.status, GOOD if result.status == "ok" else BAD)
    screen.entry("trust", trust)
    _show_cell(screen, cell)
    if result.error:
        screen.heading("error")
        screen.bullet(result.error, BAD)
    if result.measurements:
        screen.heading("measurements")
        columns = [
            ("name", "left"),
            ("value", "right"),
            ("unit", "left"),
            ("n", "right"),
            ("standard error", "right"),
        ]
        screen.show(
            rendering.table(
                columns, [_measurement(name, m) for name, m in sorted(result.measurements.items())]
            )
        )
    if result.facts:
        screen.heading("facts")
        width = max(16, *map(len, result.facts))
        for name, fact in sorted(result.facts.items()):
            screen.entry(name, str(fact), width=width)
    _show_provenance(screen, result, suites)
    _show_environment(screen, environment)
    screen.heading("again")
    screen.verbatim(f"  {command}")


def _show_cell(screen: Screen, cell: Cell) -> None:
    screen.entry("track", f"{cell.track} {cell.track_version}, {cell.target}")
    for kind in ("quantizer", "model", "dataset", "optimizer"):
        spec = getattr(cell, kind)
        if spec is not None:
            screen.entry(kind, spec_text(spec))
    screen.entry("seed", str(cell.seed))
    if cell.budget:
        screen.entry(
            "budget", ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted(cell.budget.items()))
        )


def _measurement(name: str, m: Measurement) -> list[str]:
    return [
        name,
        rendering.significant(m.value),
        m.unit,
        f"{m.n:,}",
        rendering.significant(_standard_error(m.samples)),
    ]


def _standard_error(samples: Sequence[float]) -> float | None:
    """Of the mean of the samples; None for fewer than two."""
    return statistics.stdev(samples) / len(samples) ** 0.5 if len(samples) > 1 else None


def _show_provenance(screen: Screen, result: Result, suites: list[str]) -> None:
    screen.heading("provenance")
    rows = {
        "cell": result.cell_id,
        "run": result.run_id,
        "suite": ", ".join(suites),
        "attempt": str(result.attempt),
        "fingerprint": result.fingerprint,
        "started": f"{result.started:%Y-%m-%d %H:%M:%S} UTC, {duration_text(result.seconds)}",
        "device": result.device
        if result.device == result.device_kind
        else f"{result.device_kind}: {result.device}",
        "baseline": result.baseline_id,
        "weights": result.baseline_sha256,
    }
    for name, value in rows.items():
        if value:
            screen.entry(name, value)


def _show_environment(screen: Screen, environment: dict[str, Any]) -> None:
    screen.heading("environment")
    packages = environment.get("packages", {})
    named = ("torch", "torchvision", "numpy", "scikit-learn", "qbench-suite")
    rows = {
        "python": f"{environment.get('python')} on {environment.get('system')} {environment.get('machine')}",
        "cpu": f"{environment.get('cpu')}, {environment.get('usable_threads')} usable threads",
        "packages": ", ".join(f"{name} {packages[name]}" for name in named if name in packages),
        "variables": ", ".join(f"{key}={value}" for key, value in environment.get("variables", {}).items()),
    }
    for name, value in rows.items():
        if value:
            screen.entry(name, value)
    screen.bullet(f"{len(packages)} packages in all: --json", QUIET, indent=14)
