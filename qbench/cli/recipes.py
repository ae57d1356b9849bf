"""``qbench recipes``: the best learning rate of every optimizer, at equal search. No torch here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from .. import api, unmet
from ..registry import Registry
from ..schema import Cell, canonical_json
from . import rendering
from .choosing import CONFIDENCE, Choice, Interval, Search, Trial, choose, searches, seeds_interval, wilson
from .options import json_option, registry_option, where_option
from .rendering import DOUBTFUL, QUIET, Screen, spec_text

TRACK = "float"
_COLUMNS = (
    ("optimizer", "whole"),
    ("lr", "right"),
    ("validation", "right"),
    ("test", "right"),
    ("+- seeds", "right"),
    ("over pictures", "right"),
    ("seeds", "right"),
    ("points", "right"),
    ("", "left"),
)


@click.command("recipes")
@registry_option
@where_option
@json_option("a line per model, data set and optimizer")
def recipes_command(registry: Path | None, where: Sequence[str], json_output: bool) -> None:
    """Choose the learning rate of every optimizer by validation accuracy.

    Of the results of track float, such as those of suite `recipes`: per model, data set and optimizer the point of best
    mean validation accuracy over seeds, its accuracy on test data, and whether the search ended at its edge.
    """
    held = api.open_registry(registry)
    unmet.require(held, where)
    found = searches(trials(held, where))
    choices = [
        (search, choose(search)) for search in sorted(found, key=lambda one: (_place(one), one.optimizer))
    ]
    if json_output:
        rendering.json_lines(_line(search, choice) for search, choice in choices)
    else:
        _show(Screen(), choices)


def trials(registry: Registry, where: Iterable[str] = ()) -> list[Trial]:
    """Of each cell of track float the result that counts (:mod:`qbench.attempts`); failed ones have no metrics."""
    query = "SELECT cell_id, cell FROM latest WHERE track = ?"
    cells = dict(registry.sql(query, [TRACK]).fetchall())
    return [
        Trial(
            Cell.model_validate_json(cells[row["cell_id"]]), row["metrics"] if row["status"] == "ok" else {}
        )
        for row in registry.results([f"track={TRACK}", *where])
    ]


def to_choose(cells: Iterable[Cell]) -> bool:
    """Whether an optimizer is tried at several learning rates, so that there is something to choose."""
    tried = [Trial(cell, {}) for cell in cells if cell.track == TRACK]
    return any(len(search.points) > 1 for search in searches(tried))


def _line(search: Search, choice: Choice | None) -> dict[str, Any]:
    """A flat record; what is chosen is null where no point is complete."""
    line: dict[str, Any] = {
        "model": str(search.model),
        "dataset": str(search.dataset),
        "optimizer": search.optimizer,
        "budget": search.budget,
        "points": len(search.points),
        "left_out": [point.rate for point in search.left_out],
        "seeds": search.seeds,
        "rates": sorted({point.rate for point in search.points}),
        "recipe": None,
    }
    if choice is None:
        return line
    over_seeds, over_predictions = _intervals(choice)
    names = ("validation_accuracy", "validation_loss", "accuracy")
    return {
        **line,
        "recipe": str(choice.point.optimizer),
        "lr": choice.point.rate,
        "decided_by": choice.decided_by,
        "edge": choice.edge,
        **{name: choice.point.mean(name) for name in names},
        "confidence": CONFIDENCE,
        "t_over_seeds": over_seeds,
        "wilson_over_predictions": over_predictions,
    }


def _intervals(choice: Choice) -> tuple[Interval | None, Interval | None]:
    """Of the test accuracy in percent: Student's t over seeds, and Wilson's over one test set's predictions."""
    found = [trial.metrics["accuracy"] for trial in choice.point.trials if "accuracy" in trial.metrics]
    if not found:
        return None, None
    values, count = [float(one["value"]) for one in found], int(found[0]["n"])
    low, high = wilson(sum(values) / len(values) / 100, count)
    return seeds_interval(values), (100 * low, 100 * high)


def _show(screen: Screen, choices: Sequence[tuple[Search, Choice | None]]) -> None:
    if not choices:
        screen.say(f"no results of track {TRACK}; `qbench run --suite recipes` makes them")
        return
    for _, group in groupby(choices, key=lambda item: _place(item[0])):
        _show_group(screen, list(group))
    screen.say()
    percent = f"{100 * CONFIDENCE:.0f} %"
    screen.say(
        "Accuracies in %. Chosen by mean validation accuracy, of equal ones by validation loss, then the smaller rate. "
        f"{percent} intervals of the test accuracy: Student's t over seeds, for these test data; Wilson's over one "
        "test set of pictures or characters, at the mean over seeds.",
        QUIET,
    )


def _place(search: Search) -> tuple[str, ...]:
    return str(search.dataset), str(search.model), canonical_json(dict(search.budget))


def _show_group(screen: Screen, group: Sequence[tuple[Search, Choice | None]]) -> None:
    search = group[0][0]
    training = ", ".join(_settings(search.budget.get("training", {})))
    screen.heading(f"{spec_text(search.model)} on {spec_text(search.dataset)}", training)
    screen.show(rendering.table(_COLUMNS, [_row(*item) for item in group]))
    sizes = {(len(search.points), search.seeds) for search, _ in group}
    if len(sizes) > 1:
        screen.say("not the same search for every optimizer: see points and seeds", DOUBTFUL)
    if any(search.left_out for search, _ in group):
        screen.say("left out: points of which a training failed or is missing", QUIET)
    edges = {choice.edge for _, choice in group if choice}
    if edges & {"lower", "upper"}:
        screen.say("best at the edge: extend the learning rates, for every optimizer alike", DOUBTFUL)
    if "only point" in edges:
        screen.say(
            "only point: nothing was chosen from; try several learning rates, for every optimizer alike",
            DOUBTFUL,
        )


def _settings(training: Mapping[str, Any]) -> Iterator[str]:
    if epochs := training.get("epochs"):
        yield f"{epochs} epoch{'s' * (epochs != 1)}"
    for name, form in {"batch_size": "batches of {}", "schedule": "{}", "crop": "crop {}"}.items():
        if training.get(name):
            yield form.format(training[name])
    if training.get("flip"):
        yield "flip"


def _row(search: Search, choice: Choice | None) -> list[Any]:
    size = [str(search.seeds), str(len(search.points))]
    if choice is None:
        return [search.optimizer, *["-"] * 5, *size, _notes(search, None)]
    over_seeds, over_predictions = _intervals(choice)
    return [
        search.optimizer,
        f"{choice.point.rate:g}",
        rendering.number(choice.point.mean("validation_accuracy")),
        rendering.number(choice.point.mean("accuracy")),
        "-" if over_seeds is None else f"{(over_seeds[1] - over_seeds[0]) / 2:.2f}",
        "-" if over_predictions is None else "{:.2f} to {:.2f}".format(*over_predictions),
        *size,
        _notes(search, choice),
    ]


def _notes(search: Search, choice: Choice | None) -> Text:
    edges = {"lower": "lower edge", "upper": "upper edge", "only point": "only point"}
    notes = [f"{len(search.left_out)} left out"] if search.left_out else []
    notes += ["nothing to choose from"] if choice is None else [edges[choice.edge]] if choice.edge else []
    return rendering.text(", ".join(notes), DOUBTFUL)
