"""What charts read of the registry itself: curves and layers, which stand in samples and facts."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ...attempts import counting
from ...registry import Registry
from .words import Row

MOST = 2000
_TAKEN = f"""
    WITH fine AS (
        SELECT result_id, suite, digest, started FROM ({counting("track = $track AND digest IS NOT NULL")})
        WHERE status = 'ok'
    ), one AS (
        SELECT suite, digest FROM fine GROUP BY suite, digest ORDER BY count(*) DESC, max(started) DESC, digest LIMIT 1
    ), chosen AS (
        SELECT result_id, suite, digest FROM fine JOIN one USING (suite, digest)
        ORDER BY started DESC, result_id LIMIT $most
    )
    SELECT result_id, suite, digest, target, quantizer, parameters, model, dataset, optimizer, seed, budget, facts
    FROM chosen JOIN results USING (result_id) ORDER BY started DESC, result_id
"""
_MEASURED = """
    SELECT result_id, name, value, samples FROM measurements
    WHERE result_id IN (SELECT unnest($ids::VARCHAR[])) AND ({names})
"""
_VALUES = """
    SELECT result_id, value FROM measurements JOIN results USING (result_id)
    WHERE track = $track AND name = $name AND value > 0
"""


@dataclass(frozen=True)
class Taken:
    """A result of the suite and digest of a track that has most: its words, and measurements as (value, samples)."""

    words: Row
    measured: dict[str, tuple[float | None, list[float]]]

    def samples(self, name: str) -> list[float]:
        return self.measured.get(name, (None, []))[1]

    def value(self, name: str) -> float | None:
        return self.measured.get(name, (None, []))[0]

    @property
    def parameters(self) -> dict[str, Any]:
        return _object(self.words["parameters"])

    @property
    def budget(self) -> dict[str, Any]:
        return _object(self.words["budget"])

    @property
    def facts(self) -> dict[str, Any]:
        return _object(self.words["facts"])


def taken(registry: Registry, track: str, names: Iterable[str]) -> list[Taken]:
    """The newest successes of a track, of the one digest that has most of them, newest first, at most 2000.

    Args:
        names: of the measurements to read; ``%`` stands for anything.
    """
    rows = _rows(registry, _TAKEN, {"track": track, "most": MOST})
    wanted = list(names)
    values = {f"n{i}": name.replace("_", "\\_") for i, name in enumerate(wanted)}
    likes = " OR ".join(f"name LIKE $n{i} ESCAPE '\\'" for i in range(len(wanted)))
    query = _MEASURED.format(names=likes)
    found = _rows(registry, query, {"ids": [row["result_id"] for row in rows], **values}) if rows else []
    measured: dict[str, dict[str, tuple[float | None, list[float]]]] = {}
    for row in found:
        measured.setdefault(row["result_id"], {})[row["name"]] = (row["value"], list(row["samples"]))
    return [Taken(row, measured.get(row["result_id"], {})) for row in rows]


def values_of(registry: Registry, track: str, name: str) -> dict[str, float]:
    """By result of a track, of every digest: what was measured under this name, where it is above 0."""
    found = _rows(registry, _VALUES, {"track": track, "name": name})
    return {str(row["result_id"]): float(row["value"]) for row in found}


def _rows(registry: Registry, query: str, values: dict[str, Any]) -> list[Row]:
    answer = registry.sql(query, values)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.fetchall()]


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}
