"""``qbench results``: what a registry holds. No torch here."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
from rich.text import Text

from .. import api
from ..schema import Spec
from . import reference, rendering
from .options import json_option, registry_option, where_option
from .rendering import BAD, GOOD, QUIET, Screen, spec_text

Row: TypeAlias = dict[str, Any]

SHOWN = 50
ID = 10
_SHOWN_METRICS = (("accuracy", "%"), ("sqnr_db", "dB"), ("relative_mse", ""), ("mse", ""))


@click.command("results")
@registry_option
@click.option("--suite", help="Only results of runs of this suite.")
@where_option
@click.option("--all", "every", is_flag=True, help="Every attempt, not only the latest at each cell.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many, the newest.  [default: {SHOWN}; with --json all]",
)
@json_option("a line per result")
def results_command(
    registry: Path | None,
    suite: str | None,
    where: Sequence[str],
    every: bool,
    limit: int | None,
    json_output: bool,
) -> None:
    """List the results in a registry."""
    terms = [*where, *([f"suite={json.dumps(suite)}"] if suite else [])]
    held = api.open_registry(registry)
    found = held.results(terms, all=every).rows()
    if json_output:
        rendering.json_lines(found[-limit:] if limit else found)
        return
    _list(Screen(), found, limit or SHOWN, reference.known_values(held))


def _list(screen: Screen, found: Sequence[Row], limit: int, known: Mapping[str, reference.Known]) -> None:
    if not found:
        screen.say("no results")
        return
    shown = found[-limit:]
    several = [key for key in ("track", "seed") if len({row[key] for row in shown}) > 1]
    columns = [column for column in _COLUMNS if column[0] in several or column[0] not in ("track", "seed")]
    headers = [(header, side) for header, side, _ in columns]
    lines = [
        [label if header == "quantizer" else cell(row) for header, _, cell in columns]
        for row, label in zip(shown, _labels(shown, known), strict=True)
    ]
    screen.show(rendering.table(headers, lines))
    screen.say()
    same = "".join(f", {key} {shown[0][key]}" for key in ("track", "seed") if key not in several)
    part = "" if len(shown) == len(found) else f"the newest {len(shown)} of "
    count = f"{part}{len(found):,} result{'s' * (len(found) != 1)}"
    screen.say(f"{count}{same}; parameters in which rows do not differ are left out", QUIET)
    screen.say(f"everything about one: qbench show {shown[-1]['result_id'][:ID]}", QUIET)


def _labels(rows: Sequence[Row], known: Mapping[str, reference.Known]) -> list[str]:
    """Quantizers with those parameters in which the rows of one name differ, and their bits; known values by name."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        for name, value in row["parameters"].items():
            seen[row["quantizer"], name].add(json.dumps(value, sort_keys=True))
    labels = []
    for row in rows:
        if row["result_id"] in known:
            labels.append(known[row["result_id"]].row)
            continue
        kept = {
            name: value
            for name, value in row["parameters"].items()
            if value is not None and (name == "bits" or len(seen[row["quantizer"], name]) > 1)
        }
        labels.append(spec_text(Spec(name=row["quantizer"], parameters=kept)) if row["quantizer"] else "-")
    return labels


def _where(row: Row) -> str:
    return " ".join(row[kind] for kind in ("model", "dataset", "optimizer") if row[kind])


def _rate(row: Row) -> str:
    return rendering.number(row["metrics"].get("rate", {}).get("value"), 3)


def _quality(row: Row) -> str:
    if brief := reference.in_brief(row["metrics"]):
        return brief
    for name, unit in _SHOWN_METRICS:
        value = row["metrics"].get(name, {}).get("value")
        if value is not None:
            return f"{value:.2f} {unit}" if unit else f"{value:.3g}"
    return "-"


def _status(row: Row) -> Text:
    return rendering.text(row["status"], GOOD if row["status"] == "ok" else BAD)


_COLUMNS: list[tuple[str, str, Callable[[Row], Any]]] = [
    ("result", "whole", lambda row: row["result_id"][:ID]),
    ("track", "whole", lambda row: row["track"]),
    ("quantizer", "left", lambda row: ""),
    ("on", "left", _where),
    ("seed", "right", lambda row: row["seed"]),
    ("bits/elem", "right", _rate),
    ("quality", "right", _quality),
    ("status", "whole", _status),
]
