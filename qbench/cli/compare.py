"""``qbench compare``: two sets of results, and what moved between them. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..agreement import Comparison, compare
from ..errors import RegistryError, SuiteError
from ..pairs import Pair
from . import moved, rendering
from .options import json_option, registry_option, where_option
from .rendering import Screen
from .sides import Side, side

SHOWN = 30


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@registry_option
@where_option
@click.option("--timing", is_flag=True, help="Compare besides what depends on the machine's speed.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=SHOWN,
    show_default=True,
    help="At most so many lines a table.",
)
@json_option("a line per difference, trend, changed status, cell in one only, and a last one of counts")
def compare_command(
    first: str,
    second: str,
    registry: Path | None,
    where: Sequence[str],
    timing: bool,
    limit: int,
    json_output: bool,
) -> int:
    """Hold two sets of results against each other.

    A and B are registries, Parquet files of `qbench export` or of a leaderboard, or ids of runs in --registry. Results
    of the same cell on the same kind of device are paired. Bits and bytes are compared exactly; of other differences
    those that a test finds beyond noise have moved, at 5 % over all tests together.

    Exit codes: 0 nothing moved, 1 something did, or ended otherwise, 2 bad input.
    """
    sides = side(first, registry, where), side(second, registry, where)
    found = compare(sides[0].records, sides[1].records, timing=timing)
    _require_met(sides, found, where)
    if not found.pairs:
        raise RegistryError(f"{first} and {second} have no cell in common{moved.elsewhere(found)}")
    if json_output:
        rendering.json_lines(lines(found))
    else:
        moved.show(Screen(), sides, found, limit)
    return found.exit_code


def _require_met(sides: tuple[Side, Side], found: Comparison, where: Sequence[str]) -> None:
    """A term that neither side meets is a slip; where nothing is paired, so is one that a side does not meet."""
    both = {slip.term for slip in sides[0].slips} & {slip.term for slip in sides[1].slips}
    for one in sides:
        for slip in one.slips:
            if slip.term in both or not found.pairs:
                raise SuiteError(
                    slip.text(f"{sides[0].name} or {sides[1].name}" if slip.term in both else one.name)
                )
        if not one.records:
            raise RegistryError(
                f"{one.name} holds no result" + (f" that meets {' '.join(where)!r}" if where else "")
            )


def lines(found: Comparison) -> Iterator[dict[str, Any]]:
    """The comparison as flat records, told apart by ``kind``."""
    for one in found.differences:
        yield {
            "kind": "difference",
            **_row(one.pair),
            "quantity": one.quantity,
            "unit": one.unit,
            "a": one.before,
            "b": one.after,
            "difference": one.change,
            "verdict": one.verdict,
            "method": one.method or None,
            "p": one.p,
            "adjusted_p": one.adjusted,
        }
    for trend in found.trends:
        yield {"kind": "trend", **vars(trend), "moved": trend.moved}
    for pair in found.status_changes:
        yield {"kind": "status", **_row(pair), "a": pair.first.status, "b": pair.second.status}
    for name, records in (("a", found.only_first), ("b", found.only_second)):
        for record in records:
            yield {"kind": "only", "in": name, "result": record.result_id, "cell": str(record.cell)}
    counts = found.counts
    yield {
        "kind": "summary",
        "cells": len(found.pairs),
        "only_a": len(found.only_first),
        "only_b": len(found.only_second),
        "status_changes": len(found.status_changes),
        "exactly": counts["exactly"],
        "within_noise": counts["within noise"],
        "moved": counts["moved"],
        "untested": counts["untested"],
        "other_code": moved.others(found, "fingerprint"),
        "other_environment": moved.others(found, "environment_id"),
        "other_weights": moved.others(found, "baseline_sha256"),
    }


def _row(pair: Pair) -> dict[str, Any]:
    cell = pair.first.cell
    return {
        "result_a": pair.first.result_id,
        "result_b": pair.second.result_id,
        "cell_id": cell.cell_id,
        "track": cell.track,
        "cell": str(cell),
        "device": pair.first.device_kind,
    }
