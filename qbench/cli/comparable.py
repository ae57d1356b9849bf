"""A selection of results, parted into what may be compared: digests, kinds of device and settings are never mixed."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .. import citation, plugins
from ..components import Kind
from ..errors import ParameterError
from ..headlines import Headline, Measured
from ..registry import Registry
from ..schema import Cell, Spec, canonical_json
from ..settings import differences
from .comparison import Label, spoken
from .labels import Labels
from .matrix import quantity

_METRICS = """
    SELECT result_id, list(name), list(value), list(unit) FROM measurements
    WHERE result_id IN (SELECT unnest($1::VARCHAR[])) GROUP BY result_id
"""
_MORE = ("device_kind", "device", "cell", "facts->>'$.rate_class'")

Protocol: TypeAlias = tuple[str, str, str, str, str]  # track, target, suite, digest, kind of device


@dataclass(frozen=True)
class Found:
    """A result of the selection, and what it must share with others to stand in one table with them."""

    one: Measured
    suite: str
    digest: str
    device_kind: str
    device: str

    @property
    def protocol(self) -> Protocol:
        return self.one.cell.track, self.one.cell.target, self.suite, self.digest, self.device_kind


@dataclass(frozen=True)
class Group:
    """What may be compared: results of one protocol and one setting; ``setting`` in words, where there are several."""

    found: Sequence[Found]
    chosen: Headline
    setting: Sequence[str]

    @property
    def protocol(self) -> Protocol:
        return self.found[0].protocol

    @property
    def devices(self) -> str:
        return " and ".join(sorted({each.device for each in self.found}))


def select(registry: Registry, where: Sequence[str]) -> list[Found]:
    """The results of a selection that count and ended well, with their metrics.

    Raises:
        RegistryError: there is none, or the registry cannot be read.
        SuiteError: a term that cannot be read.
    """
    rows = citation.succeeded(citation.selected(registry, where, _MORE))
    ids = sorted({row["result_id"] for row in rows})
    metrics = {
        result_id: {name: {"value": value, "unit": unit} for name, value, unit in zip(*lists, strict=True)}
        for result_id, *lists in registry.sql(_METRICS, [ids]).fetchall()
    }
    return [
        Found(
            Measured(
                Cell.model_validate_json(row["cell"]),
                metrics.get(row["result_id"], {}),
                row[_MORE[-1]] or "fixed",
            ),
            row["suite"] or "",
            row["digest"] or "",
            row["device_kind"],
            row["device"],
        )
        for row in rows
    ]


def labels(found: Sequence[Found]) -> Label:
    """Specifications without defaults, unless those of the selection differ in them."""
    catalog = plugins.catalog()
    kinds: tuple[Kind, ...] = ("quantizer", "model", "dataset", "optimizer")
    cells = [each.one.cell for each in found]
    known = {kind: [spec for cell in cells if (spec := getattr(cell, kind))] for kind in kinds}
    briefly = {kind: Labels(catalog, kind, specs) for kind, specs in known.items()}

    def label(kind: Kind, spec: Spec) -> str:
        return briefly[kind](spec)

    return label


def groups(found: Sequence[Found], metric: str | None, label: Label) -> list[Group]:
    """One per track, target, suite, digest, kind of device, quantity and setting.

    Raises:
        ParameterError: no result has the metric; says which there are.
    """
    parted: dict[tuple[Protocol, str], list[Found]] = defaultdict(list)
    for each in found:
        chosen = _chosen(each, metric)
        if chosen is not None:
            parted[each.protocol, canonical_json([chosen.metric, _setting(each, chosen)])].append(each)
    if not parted:
        known = sorted({name for each in found for name in each.one.metrics if "." not in name})
        what = f"has the metric {metric!r}" if metric else "has a known quantity; name one with --metric"
        raise ParameterError(f"none of these {len(found):,} results {what}; they have: {', '.join(known)}")
    return list(_groups(list(parted.values()), metric, label))


def _chosen(each: Found, metric: str | None) -> Headline | None:
    return quantity(each.one.cell.track, each.one.cell.target, each.one.metrics, metric)


def _setting(each: Found, chosen: Headline) -> dict[str, Any]:
    """The budget without what rows name."""
    return {name: value for name, value in each.one.cell.budget.items() if name not in chosen.in_row}


def _groups(parted: Sequence[Sequence[Found]], metric: str | None, label: Label) -> Iterator[Group]:
    """With the settings in which groups of one track and target differ."""
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    quantities = [_chosen(several[0], metric) for several in parted]
    for several, chosen in zip(parted, quantities, strict=True):
        assert chosen is not None
        alike[several[0].protocol[:2]].append(_setting(several[0], chosen))
    told = {kind: iter(differences(settings)) for kind, settings in alike.items()}
    for several, chosen in zip(parted, quantities, strict=True):
        assert chosen is not None
        own = next(told[several[0].protocol[:2]]) | _weights(several, chosen)
        yield Group(several, chosen, spoken(own, label))


def _weights(several: Sequence[Found], chosen: Headline) -> dict[str, Any]:
    """The quantizer of weights, where all rows have the same."""
    held = {each.one.cell.budget.get("weights") for each in several}
    return {"weights": held.pop()} if "weights" in chosen.in_row and len(held) == 1 else {}
