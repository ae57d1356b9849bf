"""What a run will do, before it does it: cells to run, reused, failed before, unavailable, and how long it takes."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import psutil

from . import plugins, suite
from .components import Kind, Stored, Track, UserData
from .errors import DataError, QBenchError, SuiteError
from .places import cache_root, data_root, registry_path
from .plugins import Catalog
from .registry import Key, Registry
from .schema import Cell, Recipe, Spec, digest
from .selection import COMPONENTS, Selection
from .spelling import near
from .suite import Planned, Suite

State = Literal["run", "reused", "failed", "unavailable", "pending"]
BASELINE_SECONDS = 5.0
CALIBRATION_SECONDS = {"importance": 1.0, "gram": 1.0, "loss": 10.0}  # also what the quantizer makes of it
MEMORY_SHARE = 0.8  # of the machine's memory, and of a GPU's that several share, for all workers
WORKER_BYTES = 3 * 2**29
GPU_WORKER_BYTES = 10 * 2**30
MOST_ON_A_GPU = 4


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        suite: name of an installed suite, or path of a TOML file.
        select: terms such as ``track=ptq quantizer=uniform``, all of which a cell must meet.
        quantizers: specifications added to every grid they fit.
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: processes, all on the same device. Default on the CPU one per core; on a GPU one per 10 GiB of its
            memory, at least 1, at most 4 or one per core. Several on a GPU may each take an equal part of 80 % of
            its memory, and their timings are those of a shared device.
        time_budget: seconds; cheap cells first, breadth first, the rest is left pending.
        offline: fetch nothing.
        force: run everything anew. retry_failed: run what failed anew.
        timeout: seconds a cell may take once its data is loaded. memory: bytes a worker may take.
    """

    suite: str = "standard"
    registry: Path = field(default_factory=registry_path)
    select: Sequence[str] = ()
    quantizers: Sequence[str] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int | None = None
    time_budget: float | None = None
    offline: bool = False
    force: bool = False
    retry_failed: bool = False
    disabled: Sequence[str] = ()
    timeout: float = 600.0
    memory: int | None = None
    data_root: Path = field(default_factory=data_root)
    cache_root: Path = field(default_factory=cache_root)


@dataclass(frozen=True)
class PlannedCell:
    """A cell and what becomes of it."""

    cell: Cell
    digest: str
    fingerprint: str
    state: State
    reason: str = ""
    estimate: float = 0.0
    recipe: Recipe | None = None
    result_id: str | None = None
    attempt: int = 1

    @property
    def recipes(self) -> list[Recipe]:
        """The trained models it needs, each after the one that it is trained on from."""
        steps = [self.recipe.start, self.recipe] if self.recipe else []
        return [recipe for recipe in steps if recipe]


@dataclass(frozen=True)
class Plan:
    """A suite's cells on a device, against what the registry holds."""

    options: Options
    suite: Suite
    catalog: Catalog
    device_kind: Literal["cpu", "cuda"]
    workers: int
    cells: list[PlannedCell]
    downloads: dict[str, int]

    def count(self, state: State) -> int:
        return sum(planned.state == state for planned in self.cells)

    def by_track(self) -> dict[str, Counter[str]]:
        """Per track, how many cells are in each state."""
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for planned in self.cells:
            table[planned.cell.track][planned.state] += 1
        return dict(table)

    @property
    def unavailable(self) -> dict[str, tuple[int, str]]:
        """Per data set, how many cells cannot run and why."""
        found: dict[str, tuple[int, str]] = {}
        for planned in self.cells:
            if planned.state == "unavailable":
                name = planned.cell.dataset.name if planned.cell.dataset else "?"
                found[name] = (found.get(name, (0, ""))[0] + 1, planned.reason)
        return found

    @property
    def seconds(self) -> float:
        """Expected duration of what is left to run, baselines included."""
        to_run = [planned for planned in self.cells if planned.state == "run"]
        recipes = {recipe.baseline_id for planned in to_run for recipe in planned.recipes}
        work = sum(planned.estimate for planned in to_run) + BASELINE_SECONDS * len(recipes)
        return work / self.workers


def make(options: Options) -> Plan:
    """Read the suite and the registry and look at the data that is there. Changes nothing, fetches nothing.

    Raises:
        SuiteError: an unknown suite, a bad file, or a selection that no cell meets.
        RegistryError: a registry that cannot be read.
    """
    catalog = plugins.load(options.disabled) if options.disabled else plugins.catalog()
    chosen = suite.load(options.suite, catalog)
    planned = suite.expand(chosen, catalog, options.quantizers)
    parameters = {name for p in planned if p.cell.quantizer for name in p.cell.quantizer.parameters}
    selection = Selection.parse(options.select, parameters)
    _require_known(selection, catalog)
    chosen_cells = [p for p in planned if selection.matches(flat(p.cell))]
    if not chosen_cells:
        raise SuiteError(
            f"no cell of suite {chosen.name!r} meets {' '.join(options.select)!r}; see `qbench plan`"
        )
    return of_cells(chosen_cells, chosen, catalog, options)


def of_cells(wanted: Sequence[Planned], filed_under: Suite, catalog: Catalog, options: Options) -> Plan:
    """The plan of these cells, whichever suite they come from. Changes nothing, fetches nothing.

    Raises:
        QBenchError: a component that is not installed, a device that is not there, a registry that cannot be read.
    """
    device_kind = resolve_device(options.device)
    specs = {spec for p in wanted for spec in datasets(p.cell, catalog)}
    contents = _contents(specs, catalog, options)
    cells = [_planned(p.cell, p.digest, catalog, contents) for p in wanted]
    cells = _against_registry(cells, options, device_kind)
    cells, downloads = with_data(cells, catalog, options)
    return Plan(options, filed_under, catalog, device_kind, _workers(options, device_kind), cells, downloads)


def _require_known(selection: Selection, catalog: Catalog) -> None:
    """A name that nothing has is a slip, also beside one that something has."""
    kinds: tuple[Kind, ...] = ("track", "quantizer", "model", "dataset", "optimizer")
    for term in selection.terms:
        for kind in kinds:
            names = [str(getattr(value, "name", value)) for value in term.values] if term.key == kind else []
            unknown = sorted(set(names) - set(catalog.names(kind)))
            if unknown:
                known = ", ".join(catalog.names(kind))
                hint = near(unknown[0], catalog.names(kind))
                raise SuiteError(
                    f"selection {kind}={unknown[0]}: no {kind} is called so; installed: {known}{hint}"
                )


def resolve_device(device: str) -> Literal["cpu", "cuda"]:
    """``auto`` is a GPU where there is one."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise QBenchError(
            "device=cuda: torch sees no CUDA device here; use --device cpu or auto (see `qbench doctor`)"
        )
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _workers(options: Options, device_kind: str) -> int:
    if options.workers is not None:
        return options.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(cores, int(MEMORY_SHARE * psutil.virtual_memory().total / WORKER_BYTES))
    return max(1, most if device_kind == "cpu" else min(most, _fit_on_the_gpu()))


def _fit_on_the_gpu() -> int:
    """How many small models that do not fill it alone share a GPU at once."""
    import torch

    total: int = torch.cuda.get_device_properties(0).total_memory
    return min(MOST_ON_A_GPU, total // GPU_WORKER_BYTES)


def flat(cell: Cell) -> dict[str, object]:
    """A cell under the keys that selections know."""
    specs = {kind: getattr(cell, kind) for kind in COMPONENTS}
    texts = {kind: str(spec) for kind, spec in specs.items() if spec}
    return {"cell_id": cell.cell_id, "track": cell.track, "target": cell.target, "seed": cell.seed, **texts}


def datasets(cell: Cell, catalog: Catalog) -> list[Spec]:
    """The data sets that a cell reads: its own, and those that its budget names."""
    track: Track = catalog.build("track", Spec(name=cell.track, parameters=cell.budget))
    own = [cell.dataset] if cell.dataset else []
    return own + [spec for kind, spec in track.named() if kind == "dataset"]


def _contents(specs: set[Spec], catalog: Catalog, options: Options) -> dict[Spec, str]:
    """What the user's own files hold, where they are there."""
    found = {}
    for spec in specs:
        dataset = catalog.build("dataset", spec)
        own = isinstance(dataset, Stored) and isinstance(dataset, UserData)
        if own and not _missing(dataset, options.data_root):
            found[spec] = dataset.content(options.data_root)
    return found


def _planned(cell: Cell, suite_digest: str, catalog: Catalog, contents: dict[Spec, str]) -> PlannedCell:
    track = catalog.build("track", Spec(name=cell.track, parameters=cell.budget))
    parts = {"track": Spec(name=cell.track), "quantizer": cell.quantizer, "model": cell.model}
    parts |= {"dataset": cell.dataset, "optimizer": cell.optimizer}
    marks = {kind: catalog.fingerprint(kind, spec) for kind, spec in parts.items() if spec}  # type: ignore[arg-type]
    for kind, spec in track.named():
        marks[f"{kind} {spec}"] = catalog.fingerprint(kind, spec)
    for spec in datasets(cell, catalog):
        if spec in contents:
            marks[f"content {spec}"] = contents[spec]
    return PlannedCell(
        cell,
        suite_digest,
        digest(marks)[:16],
        "run",
        estimate=track.estimate(cell) + _calibration_seconds(cell, catalog),
        recipe=track.baseline(cell),
    )


def _calibration_seconds(cell: Cell, catalog: Catalog) -> float:
    """How much longer a quantizer is expected to take for what it needs of calibration data."""
    if cell.quantizer is None:
        return 0.0
    parts = catalog.build("quantizer", cell.quantizer).parts()
    needs = frozenset().union(*(part.needs for part in parts))
    return sum(CALIBRATION_SECONDS.get(need, 0.0) for need in needs)


def _against_registry(cells: list[PlannedCell], options: Options, device_kind: str) -> list[PlannedCell]:
    keys = {p.cell.cell_id: Key(p.cell.cell_id, p.fingerprint, device_kind) for p in cells}
    known = Registry(options.registry).latest(keys.values())
    planned = []
    for p in cells:
        found = known.get(keys[p.cell.cell_id])
        if found is None:
            planned.append(p)
            continue
        again = options.force or (options.retry_failed and found.status != "ok")
        state: State = "run" if again else "reused" if found.status == "ok" else "failed"
        reason = "" if found.status == "ok" else f"{found.status} before; --retry-failed runs it again"
        attempt = found.attempt + 1 if again else found.attempt
        planned.append(replace(p, state=state, reason=reason, result_id=found.result_id, attempt=attempt))
    return planned


def with_data(
    cells: list[PlannedCell], catalog: Catalog, options: Options
) -> tuple[list[PlannedCell], dict[str, int]]:
    """Cells whose data is missing become ``unavailable``; also, per data set that a fetch may bring, its bytes."""
    reasons: dict[str, str | None] = {}
    downloads: dict[str, int] = {}
    read = [datasets(p.cell, catalog) if p.state == "run" else [] for p in cells]
    for spec in {spec for specs in read for spec in specs}:
        dataset = catalog.build("dataset", spec)
        reasons[str(spec)] = _missing(dataset, options.data_root) if isinstance(dataset, Stored) else None
        if reasons[str(spec)] and dataset.download_bytes and not options.offline:
            downloads[str(spec)] = dataset.download_bytes
    gone = [next((reasons[str(spec)] for spec in specs if reasons[str(spec)]), None) for specs in read]
    return [_available(p, reason) for p, reason in zip(cells, gone, strict=True)], downloads


def _missing(dataset: Stored, root: Path) -> str | None:
    try:
        return dataset.missing(root)
    except (DataError, OSError) as error:
        return str(error)


def _available(planned: PlannedCell, reason: str | None) -> PlannedCell:
    if planned.state != "run" or not reason:
        return planned
    return replace(planned, state="unavailable", reason=reason)
