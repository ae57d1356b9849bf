"""Suites: named, versioned lists of grids in TOML, and what they expand to.

    name = "mine"
    version = 1

    [[grid]]
    track = "rate-distortion"
    target = "source"
    quantizer = "*"                      # every installed quantizer for that target, at the points of its sweep
    dataset = ["gaussian", "laplacian"]
    [grid.budget]
    elements = 65536

A grid is a product: quantizer x model x dataset x optimizer x seed. Its digest covers the protocol as it is written,
never what happens to be installed; results of different digests are never ranked together. Hypotheses
(:mod:`qbench.hypotheses`) are part of the protocol of the track that they are about.
"""

import itertools
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from .components import Quantizer, Stored, Track
from .errors import ParameterError, QBenchError, SpecError, SuiteError
from .hypotheses import Hypothesis, Region, fault
from .plugins import Catalog
from .schema import Cell, Frozen, Name, Spec, Target, digest
from .spelling import near


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_SIGNS = {"ge": "<=", "gt": "<", "le": "<=", "lt": "<"}
Names = Annotated[list[str], BeforeValidator(_as_list)]


class Grid(Frozen):
    """One product of components under one track and budget."""

    track: Name
    target: Target
    quantizer: Names = Field(default_factory=list)
    model: Names = Field(default_factory=list)
    dataset: Names = Field(default_factory=list)
    optimizer: Names = Field(default_factory=list)
    seed: Annotated[list[int], BeforeValidator(_as_list)] = Field(default_factory=lambda: [0])
    budget: dict[str, Any] = Field(default_factory=dict)


class Suite(Frozen):
    """A suite file."""

    name: Name
    version: int = Field(ge=1)
    description: str = ""
    grid: list[Grid] = Field(min_length=1)
    hypothesis: list[Hypothesis] = Field(default_factory=list)

    @model_validator(mode="after")
    def _hypotheses_agree(self) -> Self:
        if wrong := fault(self.hypothesis, (grid.track for grid in self.grid)):
            raise ValueError(wrong)
        return self

    def digests(self, catalog: Catalog) -> dict[str, str]:
        """Per track, the sha256 of its protocol: its grids with every default written out, the track's version, and
        the hypotheses about it, as far as they decide.
        """
        protocols: dict[str, list[Any]] = {}
        for number, grid in enumerate(self.grid, 1):
            with _naming(self, number, grid):
                protocols.setdefault(grid.track, []).append(_protocol(grid, catalog))
        for hypothesis in self.hypothesis:
            protocols[hypothesis.track].append({"hypothesis": hypothesis.protocol()})
        return {track: digest(grids) for track, grids in protocols.items()}


@dataclass(frozen=True)
class Planned:
    """A cell of a suite with the digest of the protocol it belongs to."""

    cell: Cell
    digest: str


def load(name_or_path: str, catalog: Catalog) -> Suite:
    """An installed suite by name, or a file by path (anything with a slash or ending in ``.toml``).

    Raises:
        SuiteError: no such suite or file, or a file that does not say what it must.
    """
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        path = Path(name_or_path).expanduser()
    elif name_or_path in catalog.names("suite"):
        path = catalog.entry("suite", name_or_path).component
    else:
        known = ", ".join(catalog.names("suite")) or "none"
        raise SuiteError(
            f"no suite is called {name_or_path!r}; installed: {known}; or give the path of a .toml file"
            f"{near(name_or_path, catalog.names('suite'))}"
        )
    return parse(path)


def parse(path: Path) -> Suite:
    """Read and validate a suite file.

    Raises:
        SuiteError: unreadable, no TOML, unknown keys, missing keys, values outside their range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SuiteError(f"cannot read suite {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"suite {path} is not valid TOML: {error}") from None
    try:
        return Suite.model_validate(document)
    except ValidationError as error:
        raise SuiteError(f"suite {path}: " + "; ".join(map(_problem, error.errors()))) from None


def _problem(problem: Any) -> str:
    place = problem["loc"]
    if problem["type"] == "extra_forbidden":
        inside, key, allowed = _where(place[:-1]), str(place[-1]), list(_fields(place))
        return f"unknown key {key!r}{inside and f' in {inside}'}; allowed: {', '.join(allowed)}{near(key, allowed)}"
    where = _where(place)
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}" if where else message


def _where(place: Sequence[str | int]) -> str:
    """Counted from 1: ``grid 2, target``."""
    return "".join(f" {part + 1}" if isinstance(part, int) else f", {part}" for part in place)[2:]


def _fields(place: tuple[str | int, ...]) -> Iterable[str]:
    """Those of the table that a place in a suite file lies in."""
    if place[0] == "hypothesis":
        return Region.model_fields if len(place) > 3 else Hypothesis.model_fields
    return Grid.model_fields if place[0] == "grid" else Suite.model_fields


def expand(suite: Suite, catalog: Catalog, extra_quantizers: Iterable[str] = ()) -> list[Planned]:
    """Every cell of a suite, each once, in the order of the file.

    Args:
        suite: what :func:`load` gave.
        catalog: resolves names and ``"*"``.
        extra_quantizers: specifications added to every grid that has quantizers and fits their targets.

    Raises:
        SuiteError: a component that is unknown or given parameters it does not have, or a grid without what its track
            needs; names the grid, or the quantizer that was added.
    """
    extra = {text: _given(text, catalog) for text in extra_quantizers}
    digests = suite.digests(catalog)
    cells: dict[str, Planned] = {}
    for number, grid in enumerate(suite.grid, 1):
        with _naming(suite, number, grid):
            for cell in _cells(grid, catalog, extra.values()):
                cells.setdefault(cell.cell_id, Planned(cell, digests[grid.track]))
    used = {planned.cell.quantizer for planned in cells.values()}
    for text, quantizer in extra.items():
        if quantizer.spec not in used:
            raise SuiteError(
                f"--quantizer {text} fits no grid of suite {suite.name!r}: it is {_meant_for(quantizer)}"
            )
    return list(cells.values())


def _given(text: str, catalog: Catalog) -> Quantizer:
    """A quantizer that was added by hand, which no suite is to blame for."""
    try:
        quantizer: Quantizer = catalog.build("quantizer", text)
    except ParameterError as error:
        raise SuiteError(f"--quantizer {text}: {error}{_ranges(Spec.parse(text), catalog)}") from None
    except QBenchError as error:
        raise SuiteError(f"--quantizer {text}: {error}") from None
    return quantizer


def _ranges(spec: Spec, catalog: Catalog) -> str:
    """The bounds of those parameters that are given and have some, such as ``; allowed: 1 <= bits <= 16``."""
    fields = catalog.entry("quantizer", spec.name).component.Parameters.model_fields
    found = [_range(name, fields[name].metadata) for name in spec.parameters if name in fields]
    return f"; allowed: {', '.join(filter(None, found))}" if any(found) else ""


def _range(name: str, bounds: Sequence[Any]) -> str:
    found = {
        sign: value for sign in _SIGNS for one in bounds if (value := getattr(one, sign, None)) is not None
    }
    lower = [f"{value:g} {_SIGNS[sign]} " for sign, value in found.items() if sign in ("ge", "gt")]
    upper = [f" {_SIGNS[sign]} {value:g}" for sign, value in found.items() if sign in ("le", "lt")]
    return "".join([*lower, name, *upper]) if found else ""


@contextmanager
def _naming(suite: Suite, number: int, grid: Grid) -> Iterator[None]:
    """Errors inside name the grid they come from."""
    try:
        yield
    except QBenchError as error:
        raise SuiteError(f"suite {suite.name!r}, grid {number} ({grid.track}): {error}") from None


def _track(grid: Grid, catalog: Catalog) -> Track:
    """The track with the grid's budget, in which components are written out with every parameter."""
    track: Track = catalog.build("track", Spec(name=grid.track, parameters=grid.budget))
    budget = dict(track.spec.parameters)
    for name, kind in track.specified.items():
        value = budget[name]
        if isinstance(value, list):
            budget[name] = [str(catalog.build(kind, text).spec) for text in value]
        elif value:
            budget[name] = str(catalog.build(kind, value).spec)
    whole: Track = catalog.build("track", Spec(name=grid.track, parameters=budget))
    return whole


def _cells(grid: Grid, catalog: Catalog, extra: Iterable[Quantizer]) -> Iterator[Cell]:
    track = _track(grid, catalog)
    if grid.target not in track.targets:
        raise SuiteError(
            f"track {grid.track!r} has no target {grid.target!r}; it has: {', '.join(track.targets)}"
        )
    _require_same_inputs(grid, catalog)
    axes = [
        list(_quantizers(grid, catalog, track, extra)) if grid.quantizer else [None],
        *([catalog.build(kind, text).spec for text in getattr(grid, kind)] or [None] for kind in _AXES),
        grid.seed,
    ]
    for quantizer, model, dataset, optimizer, seed in itertools.product(*axes):
        cell = Cell(
            track=grid.track,
            track_version=track.version,
            target=grid.target,
            quantizer=quantizer,
            model=model,
            dataset=dataset,
            optimizer=optimizer,
            seed=seed,
            budget=track.spec.parameters,
        )
        _require_parts(cell, track)
        yield cell


def _require_parts(cell: Cell, track: Track) -> None:
    """A quantizer codes values of a source or those of a model; what a track needs besides its baseline knows."""
    missing = [kind for kind in _AXES if getattr(cell, kind) is None]
    if cell.target == "source" and cell.quantizer and not cell.dataset:
        raise SuiteError(
            'no dataset; with target source one is needed to draw from, such as dataset = "gaussian"'
        )
    try:
        track.baseline(cell)
    except SpecError as error:
        raise SuiteError(f"no {', no '.join(missing)}; {error}" if missing else str(error)) from None


def _require_same_inputs(grid: Grid, catalog: Catalog) -> None:
    """Every model of a grid takes what every data set of it has."""
    for model, dataset in itertools.product(grid.model, grid.dataset):
        takes, has = catalog.build("model", model).inputs, catalog.build("dataset", dataset)
        if isinstance(has, Stored) and takes != has.inputs:
            raise SuiteError(
                f"model {model} takes {takes}, and {dataset} is {has.inputs}; use grids of their own"
            )


_AXES: tuple[Any, ...] = ("model", "dataset", "optimizer")


def _quantizers(grid: Grid, catalog: Catalog, track: Track, extra: Iterable[Quantizer]) -> Iterator[Spec]:
    for text in grid.quantizer:
        if text == "*":
            yield from (q.spec for q in _everyone(catalog) if _suits(q, grid, track))
        else:
            yield _fitting(catalog.build("quantizer", text), grid, track).spec
    yield from (q.spec for q in extra if track.extensible and _suits(q, grid, track))


def _everyone(catalog: Catalog) -> Iterator[Quantizer]:
    for name in catalog.names("quantizer"):
        component = catalog.entry("quantizer", name).component
        yield from (component(**point) for point in component.sweep)


def _suits(quantizer: Quantizer, grid: Grid, track: Track) -> bool:
    named = not track.quantizers or quantizer.name in track.quantizers
    return named and quantizer.suits(grid.target, track.provides)


def _fitting(quantizer: Quantizer, grid: Grid, track: Track) -> Quantizer:
    if track.quantizers and quantizer.name not in track.quantizers:
        raise SuiteError(
            f"{quantizer} is none of those that track {grid.track!r} works with: {', '.join(sorted(track.quantizers))}"
        )
    if not quantizer.suits(grid.target, track.provides):
        raise SuiteError(
            f"{quantizer} does not suit track {grid.track!r} with target {grid.target!r}: it is "
            f"{_meant_for(quantizer)}; the track provides {', '.join(sorted(track.provides)) or 'nothing'}"
        )
    return quantizer


def _meant_for(quantizer: Quantizer) -> str:
    """Targets that it shares with every quantizer inside it, and what all of these need."""
    parts = quantizer.parts()
    targets = [target for target in quantizer.targets if all(target in part.targets for part in parts)]
    needs = frozenset[str]().union(*(part.needs for part in parts))
    wanted = f" and needs {', '.join(sorted(needs))}" if needs else ""
    return f"meant for {', '.join(targets) or 'nothing'}{wanted}"


def _protocol(grid: Grid, catalog: Catalog) -> dict[str, Any]:
    track = _track(grid, catalog)
    resolved = {
        kind: [catalog.build(kind, text).spec.model_dump(mode="json") for text in getattr(grid, kind)]
        for kind in _AXES
    }
    return {
        "track": [grid.track, track.version],
        "target": grid.target,
        "quantizer": grid.quantizer,
        "seed": grid.seed,
        "budget": track.spec.model_dump(mode="json")["parameters"],
        **resolved,
    }
