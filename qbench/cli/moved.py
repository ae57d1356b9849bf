"""What ``qbench compare`` tells people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..agreement import ALPHA, Comparison, Difference, Trend
from ..pairs import Pair
from ..records import Record
from ..reporting import cut
from ..settings import differences, written
from . import rendering
from .rendering import BAD, DOUBTFUL, GOOD, QUIET, Screen
from .sides import Side

ID = 10
WIDEST = 160
_COLUMNS = [
    ("result", "whole"),
    ("cell", "left"),
    ("quantity", "whole"),
    ("A", "right"),
    ("B", "right"),
    ("B - A", "right"),
    ("judged by", "whole"),
]
_TRENDS = [
    ("track", "left"),
    ("quantity", "whole"),
    ("lines", "right"),
    ("up", "right"),
    ("down", "right"),
    ("mean of B - A", "right"),
    ("p", "right"),
]
_OF_NETWORK = ("training", "finetune")  # part of a budget, and known by the network
_ENVIRONMENT = ("python", "system", "machine", "cpu", "device")
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "qbench-suite")


def others(found: Comparison, name: str) -> int:
    """Pairs that differ in a field of their results."""
    return sum(getattr(pair.first, name) != getattr(pair.second, name) for pair in found.pairs)


def elsewhere(found: Comparison) -> str:
    """A word on cells that both have, but on other kinds of device."""
    kinds = [
        {one.cell.cell_id: one.device_kind for one in side} for side in (found.only_first, found.only_second)
    ]
    common = set(kinds[0]) & set(kinds[1])
    if not common:
        return ""
    one = min(common)
    return f" on one kind of device: {len(common):,} are on {kinds[0][one]} in A and on {kinds[1][one]} in B"


def show(screen: Screen, sides: tuple[Side, Side], found: Comparison, limit: int) -> None:
    for name, one in zip("AB", sides, strict=True):
        screen.entry(name, f"{one.name}, {len(one.records):,} results")
        if one.rejected:
            screen.entry("", f"{one.rejected:,} rejected, the first: {one.reason}", DOUBTFUL)
    _show_cells(screen, found)
    _show_circumstances(screen, sides, found)
    _show_statuses(screen, found.status_changes, limit)
    moved = [one for one in found.differences if one.verdict == "moved"]
    _show_differences(screen, "moved", moved, limit)
    untested = [one for one in found.differences if one.verdict == "untested"]
    aside = "other weights, another training or a timing, and nothing says how much that matters"
    _show_differences(screen, "differ, untested", untested, limit, aside)
    _show_trends(screen, found.trends)
    _show_outcome(screen, found)


def _show_cells(screen: Screen, found: Comparison) -> None:
    only = [f"{len(found.only_first):,} only in A", f"{len(found.only_second):,} only in B"]
    screen.entry("cells", ", ".join([f"{len(found.pairs):,} in both", *only]) + elsewhere(found))
    failed = sum(not pair.first.ok and not pair.changed_status for pair in found.pairs)
    if failed:
        screen.entry("", f"{failed:,} failed in both")


def _show_circumstances(screen: Screen, sides: tuple[Side, Side], found: Comparison) -> None:
    """What else differs: code, machines, weights."""
    total = len(found.pairs)
    if code := others(found, "fingerprint"):
        screen.entry("code", f"of another version in {code:,} of {total:,}", DOUBTFUL)
    if others(found, "device"):
        devices = [", ".join(sorted({one.device for one in each.records.values()})) for each in sides]
        screen.entry("device", f"{devices[0]} in A, {devices[1]} in B", DOUBTFUL)
    if machines := others(found, "environment_id"):
        told = _environments(sides)
        screen.entry(
            "environment", f"another in {machines:,} of {total:,}{': ' if told else ''}{told}", DOUBTFUL
        )
    if weights := others(found, "baseline_sha256"):
        said = "start from other weights and are compared as independent networks"
        screen.entry("weights", f"{weights:,} of {total:,} {said}", DOUBTFUL)


def _environments(sides: tuple[Side, Side]) -> str:
    """In what the environments of most results differ."""
    most = [next(iter(one.environments.values()), {}) for one in sides]
    told = [_told(environment) for environment in most]
    return "; ".join(
        f"{name} {told[0].get(name, 'none')} and {told[1].get(name, 'none')}"
        for name in dict.fromkeys([*told[0], *told[1]])
        if told[0].get(name) != told[1].get(name)
    )


def _told(environment: Mapping[str, Any]) -> dict[str, str]:
    device = environment.get("device") or {}
    found = {name: environment.get(name) for name in _ENVIRONMENT if name != "device"}
    packages = environment.get("packages") or {}
    found |= {"device": device.get("name")} | {name: packages.get(name) for name in _PACKAGES}
    found |= {f"${name}": value for name, value in (environment.get("variables") or {}).items()}
    return {name: str(value) for name, value in found.items() if value is not None}


def _show_statuses(screen: Screen, changed: Sequence[Pair], limit: int) -> None:
    if not changed:
        return
    screen.heading("ended otherwise")
    for pair in changed[:limit]:
        worse = pair.first.ok
        error = _last_line(pair.second.error if worse else pair.first.error)
        said = f"{pair.first.status}, now {pair.second.status}: {pair.first.cell}: {error}"
        screen.bullet(f"{pair.second.result_id[:ID]} {said}", BAD if worse else GOOD)
    _more(screen, len(changed) - limit)


def _show_differences(
    screen: Screen, title: str, found: Sequence[Difference], limit: int, aside: str = "largest first"
) -> None:
    if not found:
        return
    screen.heading(title, aside)
    shown = found[:limit]
    labels = _labels([one.pair.first for one in shown])
    rows = [
        [
            one.pair.second.result_id[:ID],
            label,
            one.quantity,
            _number(one.before),
            _number(one.after),
            "-" if one.change is None else f"{one.change:+.3g}",
            _judged_by(one),
        ]
        for one, label in zip(shown, labels, strict=True)
    ]
    screen.show(rendering.table(_COLUMNS, rows))
    _more(screen, len(found) - limit)


def _show_trends(screen: Screen, trends: Sequence[Trend]) -> None:
    if not trends:
        return
    screen.heading("taken together", "sign-flip test over cells, seeds averaged")
    rows = [
        [
            f"{one.track}/{one.target}",
            f"{one.quantity}, {one.unit}" if one.unit not in ("", "1") else one.quantity,
            f"{one.lines:,}",
            f"{one.up:,}",
            f"{one.down:,}",
            f"{one.mean:+.3g}",
            rendering.text(f"{one.adjusted:.2g}", BAD if one.moved else ""),
        ]
        for one in trends
    ]
    screen.show(rendering.table(_TRENDS, rows))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _judged_by(one: Difference) -> str:
    return one.method if one.adjusted is None else f"{one.method}, p {one.adjusted:.2g}"


def _last_line(error: str | None) -> str:
    """Of a traceback what it comes to."""
    lines = [line for line in (error or "").splitlines() if line.strip()]
    return cut(lines[-1].strip(), WIDEST) if lines else "no error"


def _more(screen: Screen, count: int) -> None:
    if count > 0:
        screen.say(f"and {count:,} more: --limit or --json", QUIET)


def _labels(records: Sequence[Record]) -> list[str]:
    """Each cell by its names, and by the settings in which those of a name differ among the cells shown."""
    parts = [dict(_parts(record)) for record in records]
    briefly: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in parts:
        for name, settings in one.items():
            briefly.setdefault(name, []).append(dict(settings))
    told = {name: iter(differences(settings)) for name, settings in briefly.items()}
    return [
        " ".join(
            [f"{record.cell.track}/{record.cell.target}", *_words(one, told), f"seed {record.cell.seed}"]
        )
        for record, one in zip(records, parts, strict=True)
    ]


def _parts(record: Record) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    """The components by kind and name with their parameters, then the budget."""
    cell = record.cell.model_dump(mode="json")
    for kind in ("quantizer", "model", "dataset", "optimizer"):
        if cell[kind] is not None:
            yield (kind, cell[kind]["name"]), cell[kind]["parameters"]
    own = {name: value for name, value in cell["budget"].items() if name not in _OF_NETWORK}
    yield ("budget", f"{cell['track']} {cell['target']}"), own


def _words(
    one: Mapping[tuple[str, str], Mapping[str, Any]], told: Mapping[tuple[str, str], Iterator[dict[str, Any]]]
) -> Iterator[str]:
    for (kind, name), settings in one.items():
        bits = {"bits": settings["bits"]} if kind == "quantizer" and settings.get("bits") is not None else {}
        inside = ", ".join(written(bits | next(told[kind, name])))
        if kind == "budget":
            yield from [inside] if inside else []
        else:
            yield f"{name}({inside})" if inside else name


def _show_outcome(screen: Screen, found: Comparison) -> None:
    counts = found.counts
    screen.say()
    untested = f", {counts['untested']:,} differ untested" if counts["untested"] else ""
    screen.say(
        f"{counts['exactly']:,} rows agree exactly, {counts['within noise']:,} within noise, "
        f"{counts['moved']:,} moved{untested}",
        BAD if counts["moved"] else GOOD,
    )
    if found.tests:
        chance = f"at most {ALPHA:.0%} that any of {found.tests:,} tests is wrong to say so"
        screen.say(f"moved: {chance} (Holm), or a difference that no noise makes", QUIET)
