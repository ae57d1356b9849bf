"""Running a result's cell again, here, and saying whether the result holds."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import final

from . import plan as planning
from . import plugins, runner
from .components import Track
from .errors import DataError, QBenchError, RegistryError
from .pairs import Pair
from .plan import Options, Plan
from .plugins import Catalog
from .records import Record
from .registry import Registry, Reproduction, open_registry
from .reporting import Report
from .schema import NAME_PATTERN, Result, Spec, Status
from .suite import Grid, Planned, Suite
from .tolerances import Held, held_against

UNFILED = "reproduction"  # the suite of what belonged to none

_ALIKE = (
    *("track", "track_version", "target", "quantizer", "parameters", "model", "model_parameters"),
    *("dataset", "dataset_parameters", "optimizer", "optimizer_parameters", "budget", "device_kind"),
)
_SEEDS = f"""
    SELECT r.result_id FROM results AS r JOIN results AS one ON one.result_id = $1
        AND {" AND ".join(f"r.{name} IS NOT DISTINCT FROM one.{name}" for name in _ALIKE)}
    WHERE r.status = 'ok' AND r.result_id NOT IN (SELECT result_id FROM imports)
    QUALIFY row_number() OVER (PARTITION BY r.seed ORDER BY r.started DESC, r.attempt DESC) = 1
"""


@final
@dataclass(frozen=True)
class Again:
    """A result, what came out when its cell was run again, and whether it holds.

    Attributes:
        source: where the older one was merged from; None where it was measured here.
    """

    pair: Pair
    held: Held
    source: str | None

    @property
    def independent(self) -> bool:
        """Whether it was measured elsewhere, and in another environment: only then is what holds reproduced."""
        return self.source is not None and self.pair.first.environment_id != self.pair.second.environment_id

    @property
    def exit_code(self) -> int:
        """0 it holds, 1 it does not, 2 that cannot be told."""
        return {"holds": 0, "does not hold": 1}.get(self.held.outcome, 2)


def reproduce(result_id: str, options: Options, report: Report = lambda progress: None) -> Again:
    """Measure the cell of a result again, as a new attempt in the same registry, and write down whether it holds.

    Args:
        result_id: its beginning.
        options: ``registry``, ``device`` (``auto`` is the kind that the result is from), ``offline`` and limits.
        report: as in :func:`qbench.runner.run`.

    Raises:
        RegistryError: no such result, or one that failed.
        QBenchError: the cell cannot be run here: a component or a device is not there. Nothing was written.
        DataError: a data set is not there. Nothing was written.
    """
    registry = open_registry(options.registry)
    result = registry.result(result_id)
    if result.status is not Status.OK:
        raise RegistryError(
            f"result {result.result_id} ended as {result.status}; only one that ended well can hold"
        )
    done = runner.execute(plan_of(result, registry, options), report)
    query = "SELECT result_id FROM run_cells WHERE run_id = ? AND result_id IS NOT NULL"
    found = registry.sql(query, [done.run_id]).fetchall()
    if not found:
        raise DataError(f"result {result.result_id} was not measured again: nothing came of its cell")
    return _written(result, registry.result(found[0][0]), registry)


def _written(result: Result, again: Result, registry: Registry) -> Again:
    pair = Pair(Record.of(result), Record.of(again))
    held = held_against(pair, _seeds(again, registry))
    holds = {"holds": True, "does not hold": False}.get(held.outcome)
    registry.add_reproduction(Reproduction(result.result_id, again, holds, asdict(held)))
    return Again(pair, held, registry.imported(result.result_id))


def _seeds(again: Result, registry: Registry) -> Iterator[Record]:
    """What was measured here of the cell, the newest of each seed."""
    for (result_id,) in registry.sql(_SEEDS, [again.result_id]).fetchall():
        yield Record.of(registry.result(result_id))


def plan_of(result: Result, registry: Registry, options: Options) -> Plan:
    """The plan that measures a result's cell again, filed under its suite and digest. Changes nothing.

    Raises:
        QBenchError: a component or a device is not there.
    """
    catalog = plugins.load(options.disabled) if options.disabled else plugins.catalog()
    device = result.device_kind if options.device == "auto" else options.device
    chosen = replace(options, device=device, force=True, workers=1)
    try:
        _require_same_track(result, catalog)
        suite, digest = _filed_under(result, registry, catalog)
        return planning.of_cells([Planned(result.cell, digest)], suite, catalog, chosen)
    except QBenchError as error:
        raise QBenchError(f"result {result.result_id} cannot be run again here: {error}") from None


def _require_same_track(result: Result, catalog: Catalog) -> None:
    cell = result.cell
    track: Track = catalog.build("track", Spec(name=cell.track, parameters=cell.budget))
    if track.version != cell.track_version:
        raise RegistryError(
            f"it is of version {cell.track_version} of track {cell.track!r}, and version {track.version} is installed"
        )


def _filed_under(result: Result, registry: Registry, catalog: Catalog) -> tuple[Suite, str]:
    """The suite and digest of the newest run that the result belongs to; a suite of one cell where there is none."""
    cell = result.cell
    query = "SELECT suite, digest FROM history WHERE result_id = ? AND suite IS NOT NULL ORDER BY run_id DESC LIMIT 1"
    found = registry.sql(query, [result.result_id]).fetchall()
    name, digest = found[0] if found and re.match(NAME_PATTERN, found[0][0]) else (UNFILED, "")
    suite = Suite(name=name, version=1, grid=[Grid(track=cell.track, target=cell.target, budget=cell.budget)])
    return suite, digest or suite.digests(catalog)[cell.track]
