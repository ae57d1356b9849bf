"""Results as they are held against each other: of each cell and kind of device the one that counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import log10
from typing import Any, final

from .attempts import counting
from .headlines import Headline, Measured, headline
from .registry import Registry
from .schema import Cell, Result, Status, canonical_json
from .selection import Selection

EXACT = (
    *("rate", "weight_rate", "rate_down", "model_rate", "stored_bytes", "static_bytes"),
    *("up_bits", "down_bits"),
)
BESIDES = ("kl",)  # what networks are ranked by, beside what stands in tables
TRAINED = {"training_seconds", "training_loss"}  # measured where a cell trains
LARGEST = 1e100
MOST_DRAWS = 256  # longer samples are curves and histories

_EACH = ("cell_id", "device_kind")
_OF_RUNS = ("run_id", "suite", "digest")
_COUNTED = """
    WITH counted AS (SELECT * FROM ({counting}) WHERE {rest})
    SELECT counted.result_id, cell, status, error, fingerprint, device_kind, device, environment_id,
           baseline_sha256, started, facts->>'$.rate_class' AS rate_class, names, found
    FROM counted LEFT JOIN (
        SELECT result_id, list(name) AS names, list({{
            'value': value, 'unit': unit, 'n': n, 'timing': timing,
            'samples': CASE WHEN len(samples) <= {most} THEN samples ELSE [] END
        }}) AS found
        FROM measurements GROUP BY result_id
    ) AS m ON m.result_id = counted.result_id
    ORDER BY started, counted.result_id
"""


@final
@dataclass(frozen=True)
class Record:
    """A result and what decides how it is compared; ``metrics`` by name as {value, unit, n, timing, samples}."""

    result_id: str
    cell: Cell
    status: Status
    error: str | None
    fingerprint: str
    device_kind: str
    device: str
    environment_id: str
    baseline_sha256: str | None
    started: datetime
    rate_class: str
    metrics: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, result: Result) -> "Record":
        """The record of a result."""
        return cls(
            result_id=result.result_id,
            cell=result.cell,
            status=result.status,
            error=result.error,
            fingerprint=result.fingerprint,
            device_kind=result.device_kind,
            device=result.device,
            environment_id=result.environment_id,
            baseline_sha256=result.baseline_sha256,
            started=result.started,
            rate_class=str(result.facts.get("rate_class") or "fixed"),
            metrics={name: m.model_dump() for name, m in result.measurements.items()},
        )

    @cached_property
    def key(self) -> tuple[str, str]:
        """What pairs it with another: the cell and the kind of device."""
        return self.cell.cell_id, self.device_kind

    @cached_property
    def line(self) -> str:
        """The cell but for its seed, and the kind of device."""
        return self.device_kind + canonical_json(self.cell.model_dump(mode="json", exclude={"seed"}))

    @property
    def ok(self) -> bool:
        return self.status is Status.OK

    @property
    def trains(self) -> bool:
        """Whether a training is part of the cell, which magnifies rounding."""
        return bool(TRAINED & set(self.metrics))

    @cached_property
    def headline(self) -> Headline | None:
        return headline(self.cell.track, self.cell.target, self.metrics)

    @cached_property
    def quantities(self) -> list[str]:
        """What is compared: headlines and rates; without a headline everything that does not tell time."""
        chosen = self.headline
        if chosen is None:
            return sorted(name for name, metric in self.metrics.items() if not metric["timing"])
        named = [chosen.metric, chosen.aside, chosen.second, *(name for _, name in chosen.rates)]
        found = [name for name in (*named, *BESIDES, *EXACT) if name and self.value(name) is not None]
        return list(dict.fromkeys(found))

    @property
    def timings(self) -> list[str]:
        return sorted(name for name, metric in self.metrics.items() if metric["timing"])

    def value(self, name: str) -> float | None:
        """A measurement, or what a headline makes of several; None for one so large that sums of it overflow."""
        found = Measured(self.cell, self.metrics).value(name)
        return found if found is not None and abs(found) <= LARGEST else None

    def unit(self, name: str) -> str:
        return str(self.metrics.get(name, {}).get("unit", ""))

    def count(self, name: str) -> int | None:
        """A count of the predictions that were made, such as ``lost``."""
        found = self.value(name)
        return round(found) if found is not None and 0 <= found <= self.metrics[name]["n"] else None

    def draws(self, name: str) -> list[float]:
        """The independent draws behind a quantity, if it has any; an SQNR has those of its MSE, in dB."""
        wanted = self.metrics.get(name, {}).get("n")
        if name in ("sqnr_db", "gap_db"):
            errors, rates = self._samples("mse", wanted), self._samples("rate", wanted)
            if name == "sqnr_db":
                return [-10 * log10(error) for error in errors if error > 0]
            pairs = zip(errors, rates, strict=False)
            return [10 * log10(error) + 20 * log10(2) * rate for error, rate in pairs if error > 0]
        return self._samples(name, wanted)

    def _samples(self, name: str, wanted: int | None) -> list[float]:
        found = self.metrics.get(name, {}).get("samples", [])
        usable = len(found) == wanted and 2 <= len(found) <= MOST_DRAWS
        return list(found) if usable and all(abs(draw) <= LARGEST for draw in found) else []

    def half_interval(self, name: str) -> float | None:
        """Half the width of a quantity's 95 % interval, where it has one."""
        low, high = self.value(f"{name}.low"), self.value(f"{name}.high")
        return None if low is None or high is None else (high - low) / 2


def gather(registry: Registry, where: str | Iterable[str] = ()) -> dict[tuple[str, str], Record]:
    """By cell and kind of device the result that counts (:mod:`qbench.attempts`), where it meets the terms.

    Args:
        where: terms; run, suite and digest are looked at before which attempt counts.

    Raises:
        RegistryError: the registry cannot be read.
        SuiteError: a term that cannot be read.
    """
    selection = Selection.parse(where)
    runs, first = selection.only(_OF_RUNS).sql()
    rest, second = selection.without(_OF_RUNS).sql()
    query = _COUNTED.format(counting=counting(runs, _EACH), rest=rest, most=MOST_DRAWS)
    rows = registry.sql(query, [*first, *second])
    records = [_record(dict(zip(rows.columns, row, strict=True))) for row in rows.fetchall()]
    return {record.key: record for record in records}


def _record(row: Mapping[str, Any]) -> Record:
    return Record(
        result_id=row["result_id"],
        cell=Cell.model_validate_json(row["cell"]),
        status=Status(row["status"]),
        error=row["error"],
        fingerprint=row["fingerprint"],
        device_kind=row["device_kind"],
        device=row["device"],
        environment_id=row["environment_id"],
        baseline_sha256=row["baseline_sha256"],
        started=row["started"],
        rate_class=row["rate_class"] or "fixed",
        metrics=dict(zip(row["names"] or (), row["found"] or (), strict=True)),
    )
