"""``qbench results``: what a registry holds. No torch here."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
from rich.text import Text

from .. import api, unmet
from ..registry import Registry
from ..schema import Spec
from ..settings import differences, written
from . import reference, rendering
from .options import json_option, registry_option, where_option
from .rendering import BAD, GOOD, QUIET, Screen, spec_text

Row: TypeAlias = dict[str, Any]

SHOWN = 50
ID = 10
_KINDS = ("model", "dataset", "optimizer")
_SETTINGS = """
    SELECT result_id, model_parameters, dataset_parameters, optimizer_parameters, budget
    FROM results WHERE result_id IN (SELECT unnest($1::VARCHAR[]))
"""
_OFTEN_SAME = ("track", "seed", "status")
_SHOWN_METRICS = (
    ("bits_per_character", "bpc"),
    ("accuracy", "%"),
    ("sqnr_db", "dB"),
    ("relative_mse", ""),
    ("mse", ""),
)


@click.command("results")
@registry_option
@click.option("--suite", help="Only results of runs of this suite.")
@where_option
@click.option(
    "--all", "every", is_flag=True, help="Every attempt, not only the one at each cell that counts."
)
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
    unmet.require(held, terms)
    found = held.results(terms, all=every).rows()
    if json_output:
        rendering.json_lines(found[-limit:] if limit else found)
        return
    if not found:
        Screen().say(unmet.reason(held, terms))
        return
    shown = _with_settings(held, found[-(limit or SHOWN) :])
    _list(Screen(), shown, len(found), reference.known_values(held))


def _with_settings(held: Registry, rows: Sequence[Row]) -> list[Row]:
    """The rows with ``budget`` and, by kind, the ``settings`` of model, data set and optimizer."""
    ids = [row["result_id"] for row in rows]
    known = {
        result_id: [json.loads(text or "{}") for text in texts]
        for result_id, *texts in held.sql(_SETTINGS, [ids]).fetchall()
    }
    return [
        {
            **row,
            "settings": dict(zip(_KINDS, known[row["result_id"]], strict=False)),
            "budget": known[row["result_id"]][-1],
        }
        for row in rows
    ]


def _list(screen: Screen, shown: Sequence[Row], total: int, known: Mapping[str, reference.Known]) -> None:
    several = [key for key in _OFTEN_SAME if len({row[key] for row in shown}) > 1]
    columns = [column for column in _COLUMNS if column[0] in several or column[0] not in _OFTEN_SAME]
    headers = [(header, side) for header, side, _ in columns]
    told = {"quantizer": _labels(shown, known), "on": _places(shown)}
    lines = [
        [told[header][number] if header in told else cell(row) for header, _, cell in columns]
        for number, row in enumerate(shown)
    ]
    screen.show(rendering.table(headers, lines))
    screen.say()
    same = "".join(f", {key} {shown[0][key]}" for key in _OFTEN_SAME if key not in several)
    part = "" if len(shown) == total else f"the newest {len(shown)} of "
    count = f"{part}{total:,} result{'s' * (total != 1)}"
    screen.say(f"{count}{same}; parameters in which rows do not differ are left out", QUIET)
    screen.say(f"everything about one: qbench show {shown[-1]['result_id'][:ID]}", QUIET)


def _labels(rows: Sequence[Row], known: Mapping[str, reference.Known]) -> list[str]:
    """Quantizers, known values by name; rows alike in all else with the settings in which their budgets differ."""
    quantizers = [_spec(row["quantizer"], row["parameters"]) for row in rows]
    labels = [
        known[row["result_id"]].row if row["result_id"] in known else text
        for row, text in zip(rows, _briefly(quantizers), strict=True)
    ]
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, (row, place) in enumerate(zip(rows, _places(rows), strict=True)):
        alike[row["track"], row["target"], labels[number], place, row["seed"]].append(number)
    weights = _weights(rows)
    for numbers in alike.values():
        several = differences([{**rows[n]["budget"], "weights": weights[n]} for n in numbers])
        for number, settings in zip(numbers, several, strict=True):
            own = [labels[number]] if rows[number]["quantizer"] or not settings else []
            labels[number] = ", ".join([*own, *written(settings)])
    return labels


def _weights(rows: Sequence[Row]) -> list[str | None]:
    """What the budgets name for weights beside activations."""
    named = [row["budget"].get("weights") for row in rows]
    briefly = _briefly([Spec.parse(text) if text else None for text in named])
    return [brief if text else None for brief, text in zip(briefly, named, strict=True)]


def _places(rows: Sequence[Row]) -> list[str]:
    """Models, data sets and optimizers."""
    by_kind = [_briefly([_spec(row[kind], row["settings"][kind]) for row in rows], "") for kind in _KINDS]
    return [" ".join(part for part in parts if part) for parts in zip(*by_kind, strict=True)]


def _spec(name: str | None, parameters: Mapping[str, Any]) -> Spec | None:
    return Spec(name=name, parameters=dict(parameters)) if name else None


def _briefly(specs: Sequence[Spec | None], nothing: str = "-") -> list[str]:
    """Specifications with those parameters in which the ones of a name differ, and their bits."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for spec in specs:
        if spec is not None:
            for name, value in spec.parameters.items():
                seen[spec.name, name].add(str(value))

    def brief(spec: Spec) -> str:
        kept = {
            name: value
            for name, value in spec.parameters.items()
            if value is not None and (name == "bits" or len(seen[spec.name, name]) > 1)
        }
        return spec_text(Spec(name=spec.name, parameters=kept))

    return [brief(spec) if spec else nothing for spec in specs]


def _rate(row: Row) -> str:
    rate, weights = (row["metrics"].get(name, {}).get("value") for name in ("rate", "weight_rate"))
    if weights is None:
        return rendering.number(rate, 3)
    return f"W{rendering.number(weights, 1)} A{rendering.number(rate, 1)}"


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
    ("on", "left", lambda row: ""),
    ("seed", "right", lambda row: row["seed"]),
    ("bits/elem", "right", _rate),
    ("quality", "right", _quality),
    ("status", "whole", _status),
]
