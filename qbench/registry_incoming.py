"""Rows of results from elsewhere: validated as if a stranger had written them, and made rows of the tables.

Rows of one file name the same few environments and runs over and over; each of those texts is validated once. JSON
may hold texts that no table can, halves of surrogate pairs: whatever comes out of it is encoded before it is believed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, ValidationError

from .registry_rows import Entry, Row, environment_row, to_result, utc
from .schema import Frozen, canonical_json

# What a row that is not valid may raise.
NOT_VALID = (ValueError, TypeError, KeyError, RecursionError, OverflowError, AttributeError)
# Environments and runs that are remembered at a time.
KEPT = 256
_PLACE = ("position", "digest")

Json = Annotated[dict[str, Any], BeforeValidator(json.loads)]


class Run(Frozen):
    """A run that a result belongs to."""

    run_id: str = Field(max_length=64)
    suite: str = Field(max_length=256)
    version: str = Field(max_length=64)
    arguments: Json
    environment: Json
    started: datetime
    finished: datetime | None
    status: Literal["running", "finished", "interrupted"]


class Place(Frozen):
    """Where in a run a result stands."""

    position: int = Field(ge=0, lt=2**31)
    digest: str = Field(max_length=64)


@final
@dataclass(frozen=True)
class Incoming:
    """A validated row as rows of the tables: the result, and rows of ``environments``, ``runs`` and ``run_cells``."""

    entry: Entry
    environments: list[Row]
    runs: list[Row]
    places: list[Row]

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        row, others = self.entry.row, (*self.environments, *self.runs)
        texts = [row["cell"], row["facts"], *(other.get("content") or other["arguments"] for other in others)]
        return sum(map(len, texts)) + sum(450 + 8 * len(one["samples"]) for one in self.entry.measurements)


@final
class Validator:
    """Rows of one file."""

    def __init__(self) -> None:
        self._environment = lru_cache(KEPT)(_environment)
        self._run = lru_cache(KEPT)(_run)

    def incoming(self, row: Row) -> Incoming:
        """The row, validated.

        Raises:
            Exception: one of ``NOT_VALID``, if it is not what this version writes or not what it says it is.
        """
        entry = Entry.of(to_result(row, row["measurements"]))
        entry.row["facts"].encode()
        result_id = entry.row["result_id"]
        if row["result_id"] != result_id:
            raise ValueError(f"its result_id {row['result_id']} is not that of its contents, {result_id}")
        environments = [] if row.get("environment") is None else [self._environment(row["environment"])]
        if any(one["environment_id"] != entry.row["environment_id"] for one in environments):
            raise ValueError(f"its environment is not the one it names, {entry.row['environment_id']}")
        runs, places = [], []
        for given in row.get("runs") or ():
            run, environment = self._run(tuple(item for item in given.items() if item[0] not in _PLACE))
            runs.append(run)
            environments.append(environment)
            places.append(_place(given, run, entry.row))
        return Incoming(entry, environments, runs, places)


def _environment(text: str) -> Row:
    return environment_row(json.loads(text))


def _run(given: tuple[tuple[str, Any], ...]) -> tuple[Row, Row]:
    """A run as a row of ``runs``, and its environment."""
    run = Run.model_validate(dict(given))
    environment = environment_row(run.environment)
    row = run.model_dump(include={"run_id", "suite", "version", "status"})
    row |= {"started": utc(run.started), "finished": utc(run.finished) if run.finished else None}
    row |= {"arguments": canonical_json(run.arguments), "environment_id": environment["environment_id"]}
    row["arguments"].encode()
    return row, environment


def _place(given: Mapping[str, Any], run: Row, result: Row) -> Row:
    place = Place.model_validate({name: given[name] for name in _PLACE if name in given})
    known = {"run_id": run["run_id"], "suite": run["suite"], "cell_id": result["cell_id"]}
    return known | {"track": result["track"], "result_id": result["result_id"]} | place.model_dump()


def fault(row: Row, error: Exception) -> str:
    """What is wrong with a row that is not valid, in one line."""
    text = f"lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        text = f"{'.'.join(map(str, problem['loc'])) or 'row'}: {problem['msg']}"
    return f"result {str(row.get('result_id'))[:64]!r}: {' '.join(text.split())[:300]}"
