"""``qbench reproduce``: run a result again and say whether it holds."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import api, reproduction
from ..reproduction import Again
from ..tolerances import Check
from . import INTERRUPTED, interrupts, rendering
from .options import json_option, registry_option
from .rendering import BAD, DOUBTFUL, GOOD, Screen

_STYLES = {"holds": GOOD, "does not hold": BAD, "cannot be compared": DOUBTFUL}
_COLUMNS = [
    ("quantity", "whole"),
    ("before", "right"),
    ("now", "right"),
    ("difference", "right"),
    ("allowed", "right"),
    ("because", "left"),
    ("", "whole"),
]
_WORDS = {True: "holds", False: "off", None: "?"}


@click.command("reproduce")
@click.argument("result_id", metavar="RESULT")
@registry_option
@click.option(
    "--device",
    type=click.Choice(["same", "cpu", "cuda"]),
    default="same",
    show_default=True,
    help="same: the kind of device that the result is from.",
)
@click.option("--offline", is_flag=True, help="Fetch nothing.")
@click.option("--timeout", metavar="10m", help="The cell's limit once its data is loaded.  [default: 10m]")
@click.option("--memory", metavar="4GiB", help="The worker's limit.  [default: 80 % of the machine]")
@json_option("one line")
def reproduce_command(
    result_id: str,
    registry: Path | None,
    device: str,
    offline: bool,
    timeout: str | None,
    memory: str | None,
    json_output: bool,
) -> int:
    """Run a result again and say whether it holds.

    RESULT is the beginning of its id, as `qbench results` lists them. Its cell is measured anew on this machine, as a
    new attempt in the same registry. A result that came from elsewhere, was measured in another environment and holds
    is reproduced from then on: so says this registry, whatever the file said that it came in.

    Exit codes: 0 it holds, 1 it does not, 2 it cannot be compared, or bad input, 130 interrupted.
    """
    place = "auto" if device == "same" else device
    options = api.options(registry=registry, device=place, offline=offline, timeout=timeout, memory=memory)
    try:
        with interrupts.orderly(), rendering.progress() as report:
            found = reproduction.reproduce(result_id, options, report)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Screen(json_output=json_output).say("Interrupted. Nothing was said of the result.", DOUBTFUL)
        return INTERRUPTED
    if json_output:
        rendering.json_lines([line(found)])
    else:
        _show(Screen(), found)
    return found.exit_code


def line(found: Again) -> dict[str, Any]:
    """What came out as a flat record."""
    first, second = found.pair.first, found.pair.second
    return {
        "result_id": first.result_id,
        "again_id": second.result_id,
        "cell_id": first.cell.cell_id,
        "verdict": found.held.outcome,
        "why": found.held.why,
        "independent": found.independent,
        "source": found.source,
        "same_code": first.fingerprint == second.fingerprint,
        "same_environment": first.environment_id == second.environment_id,
        "same_weights": found.pair.equal_weights,
        "quantities": [_flat(check) for check in found.held.checks],
    }


def _flat(check: Check) -> dict[str, Any]:
    return {**vars(check), "difference": check.difference, "holds": check.holds}


def _show(screen: Screen, found: Again) -> None:
    first, second = found.pair.first, found.pair.second
    screen.heading(f"result {first.result_id}", rendering.spec_text(first.cell))
    screen.entry("again", second.result_id)
    screen.entry("from", "this registry" if found.source is None else found.source)
    for name, said in _others(found):
        screen.entry(name, said, DOUBTFUL)
    if found.held.checks:
        screen.say()
        screen.show(rendering.table(_COLUMNS, _rows(found.held.checks)))
    screen.say()
    screen.say(f"{found.held.outcome}: {found.held.why}", _STYLES[found.held.outcome])
    if found.held.outcome == "holds":
        screen.entry("trust", _trust(found))


def _trust(found: Again) -> str:
    if found.independent:
        return "reproduced"
    if found.source is None:
        return "self-reported still: it was measured by this registry, and another would have to run it"
    return "it holds; measured in the same environment, so it stays self-reported"


def _others(found: Again) -> list[tuple[str, str]]:
    """What else is not as it was."""
    first, second = found.pair.first, found.pair.second
    told = [
        ("code", "of another version", first.fingerprint != second.fingerprint),
        ("environment", "another", first.environment_id != second.environment_id),
        ("device", f"{first.device} before, {second.device} now", first.device != second.device),
        ("weights", "the networks are others", not found.pair.equal_weights),
    ]
    return [(name, said) for name, said, differs in told if differs]


def _rows(checks: Sequence[Check]) -> list[list[str]]:
    return [
        [
            f"{check.quantity}, {check.unit}" if check.unit not in ("", "1") else check.quantity,
            rendering.significant(check.before),
            rendering.significant(check.after),
            "-" if check.difference is None else f"{check.difference:+.3g}",
            rendering.significant(check.tolerance),
            check.because,
            _WORDS[check.holds],
        ]
        for check in checks
    ]
