"""The error of nested lattice codes as a function of their scale beta, with its local minima."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import altair as alt

from ...registry import Registry
from .chart import Chart, nothing
from .newest import Taken, taken
from .theme import faceted, haloed, panels, tips
from .words import Row, count, number, plain, rounded, several, shown_by

_TITLE = "Every lattice has a scale at which it errs least"
_CAPTION = (
    "Mean squared error of nested lattice codes against their scale beta, in dB above the least that as many "
    "bits allow; a panel for each way to treat overload, darker or lighter by dimension. Dots mark minima, "
    "filled where they are certain, with the least of each lattice written in. Left of a minimum overload "
    "costs, right of it coarse grains."
)
_EMPTY = "Run `qbench run --suite lattice-scaling` to scan the scale of nested lattices."
_NAMES = (
    *("beta", "mse", "rate", "distortion_limit"),
    *("minimum_beta", "minimum_mse", "minimum_prominence_db", "minimum_certified"),
)
_DIMENSIONS = {"Z": 1, "A2": 2, "A3": 3, "A3*": 3, "D4": 4, "E8": 8, "BW16": 16, "Leech": 24}
_POLICIES = ("nearest", "shrink", "wrap", "expand", "best-of-k")
_HIGHEST = 12.0
_LINE_DB = 0.85
_WIDEST = 40.0
_CORNERS = 13
_HEIGHT = 250


def beta(registry: Registry) -> Chart:
    """One panel an overload policy, one line a lattice, for the source and number M of levels that most were run on."""
    chosen = _alike(taken(registry, "lattice-scaling", _NAMES))
    curves = [curve for one in chosen if (curve := _curve(one))]
    if not curves:
        return nothing("beta", _TITLE, _CAPTION, _EMPTY)
    first = chosen[0]
    where = f"{plain(first.words['dataset'])}, M = {first.parameters.get('m')}"
    rows = [row for curve in curves for row in curve] + _least(curves)
    spec = panels(
        _panel(rows), rows, narrowest=240, most=min(3, len({row["policy"] for row in rows})), beside=42
    )
    return Chart("beta", _TITLE, f"{_CAPTION} Here: {where}.", _alt(curves, where), spec)


def _alike(found: Sequence[Taken]) -> list[Taken]:
    """Those that differ in lattice and overload policy alone; of all such sets the largest."""

    def key(one: Taken) -> tuple[str, ...]:
        words = (
            one.words["target"],
            one.words["dataset"],
            one.words["model"],
            one.budget.get("normalization"),
        )
        return tuple(
            map(str, (*words, one.parameters.get("m"), one.parameters.get("offset"), one.words["seed"]))
        )

    sizes = Counter(map(key, found))
    largest = max(sizes, key=lambda name: (sizes[name], name), default=None)
    return [one for one in found if key(one) == largest]


def _curve(one: Taken) -> list[Row]:
    """Rows of the line, then of its minima; nothing where the scan or the limit of its bits is not there."""
    limit = one.value("distortion_limit")
    scan = sorted(zip(one.samples("beta"), one.samples("mse"), strict=False))
    line = [(b, _db(e, limit)) for b, e in scan if limit and e > 0 and b > 0]
    line = [(b, gap) for b, gap in line if gap <= _HIGHEST + 1]
    if len(line) < 3 or not limit:
        return []
    lattice, policy = (
        plain(one.parameters.get("lattice", "?"), 12),
        plain(one.parameters.get("overload", "?"), 20),
    )
    depth = math.log2(_DIMENSIONS.get(lattice, 1))
    common: Row = {"lattice": lattice, "policy": policy, "depth": depth}
    rows = [{**common, "beta": b, "gap": gap} for b, gap in simplified(line, _CORNERS)]
    names = ("minimum_beta", "minimum_mse", "minimum_prominence_db", "minimum_certified")
    minima = list(zip(*map(one.samples, names), strict=False))
    for b, e, prominence, certified in minima:
        marked = {"kind": "certain" if certified else "not certain", "prominence": prominence}
        found = {"mse": e, "rate": one.value("rate"), "show": shown_by(one.words["result_id"])}
        rows.append({**common, "beta": b, "gap": _db(e, limit), **marked, **found})
    return rounded(rows)


def _db(error: float, limit: float | None) -> float:
    return 10 * math.log10(error / limit) if limit else math.nan


def simplified(line: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """So many of the points of a curve, those that its shape depends on most, over log x, in order.

    Reference: Douglas & Peucker 1973, with the worst point first.
    """
    logs = [(math.log(x), y) for x, y in line]
    kept = [0, len(line) - 1]
    while len(kept) < min(most, len(line)):
        worst = max(
            (
                (abs(logs[i][1] - _between(logs[left], logs[right], logs[i][0])), i)
                for left, right in itertools.pairwise(kept)
                for i in range(left + 1, right)
            ),
            default=(0.0, 0),
        )
        if worst[0] < 1e-9:
            break
        kept = sorted([*kept, worst[1]])
    return [line[i] for i in kept]


def _between(left: tuple[float, float], right: tuple[float, float], x: float) -> float:
    return left[1] + (right[1] - left[1]) * (x - left[0]) / (right[0] - left[0])


def _panel(values: list[Row]) -> alt.FacetChart:
    left = min(row["beta"] for row in values)
    across = alt.Axis(
        title="beta, in standard deviations →", values=[0.25, 0.5, 1, 2, 4, 8, 16, 32], format="~g"
    )
    x = alt.X(
        field="beta",
        type="quantitative",
        scale=alt.Scale(type="log", domain=[left, _WIDEST], nice=False),
        axis=across,
    )
    up = alt.Axis(title="↓ dB above the limit", tickCount=6)
    scale = alt.Scale(domain=[0, _HIGHEST], nice=False)
    y = alt.Y(field="gap", type="quantitative", scale=scale, axis=up)
    colour = alt.Color(field="depth", type="quantitative", legend=None)
    base = alt.Chart().encode(x=x, y=y, color=colour)
    lines = base.transform_filter(
        "!isValid(datum.kind) && !isValid(datum.words) && !isValid(datum.absent)"
    ).mark_line(interpolate="monotone", clip=True)
    tooltip = tips(
        ("lattice", "lattice"),
        ("policy", "overload"),
        ("beta", "beta", ".3~g"),
        ("gap", "dB above the limit", ".2f"),
        ("mse", "error relative to power", ".3~g"),
        ("prominence", "prominence in dB", ".2f"),
        ("kind", "minimum is"),
        ("rate", "true bits", ".3f"),
        ("show", "reproduce"),
    )
    dots = (
        base.transform_filter("datum.kind == 'certain'")
        .mark_point(style="ring", size=70)
        .encode(tooltip=tooltip)
    )
    hollow = (
        base.transform_filter("datum.kind == 'not certain'")
        .mark_point(filled=False, size=40)
        .encode(tooltip=tooltip)
    )
    named = base.transform_filter("isValid(datum.words)").encode(text=alt.Text(field="words", type="nominal"))
    names = haloed(named, align="right", fontWeight=600)
    absent = alt.Chart().encode(x=x, y=y, text=alt.Text(field="absent", type="nominal"))
    absent = absent.transform_filter("isValid(datum.absent)").mark_text(style="quiet", align="right")
    found = {row["policy"] for row in values}
    order = [name for name in _POLICIES if name in found] + sorted(found - set(_POLICIES))
    lines = lines.encode(detail=alt.Detail(field="lattice", type="nominal"))
    return faceted([lines, hollow, dots, *names, absent], "policy", _HEIGHT, order)


def _bests(curves: Sequence[list[Row]]) -> dict[str, list[Row]]:
    """The lowest point of every curve by policy, in the order of dimension."""
    found: dict[str, list[Row]] = {}
    for curve in sorted(curves, key=lambda curve: (float(curve[0]["depth"]), str(curve[0]["lattice"]))):
        found.setdefault(curve[0]["policy"], []).append(min(curve, key=lambda row: float(row["gap"])))
    return found


def _least(curves: Sequence[list[Row]]) -> list[Row]:
    """Texts that name every lattice with its least error, a list at the lower right of each panel.

    A lattice has the same line in each; where it was not scanned, that says so.
    """
    bests = _bests(curves)
    known = {best["lattice"]: best["depth"] for many in bests.values() for best in many}
    rows: list[Row] = []
    for policy, many in bests.items():
        own = {best["lattice"]: best for best in many}
        for line, name in enumerate(sorted(known, key=lambda name: (-known[name], name))):
            place = {"lattice": name, "policy": policy, "beta": _WIDEST, "gap": (line + 0.6) * _LINE_DB}
            if name in own:
                words = {"words": f"{name} {number(own[name]['gap'], 1)} dB", "depth": known[name]}
            else:
                words = {"absent": f"{name} not scanned"}
            rows.append(place | words)
    return rounded(rows)


def _lacking(curves: Sequence[list[Row]]) -> dict[str, list[str]]:
    """Of each policy the lattices that others have and it lacks."""
    bests = {policy: [best["lattice"] for best in many] for policy, many in _bests(curves).items()}
    known = list(dict.fromkeys(name for names in bests.values() for name in names))
    return {
        policy: [name for name in known if name not in names]
        for policy, names in bests.items()
        if set(known) - set(names)
    }


def _alt(curves: Sequence[list[Row]], where: str) -> str:
    parts = []
    for policy, bests in sorted(_bests(curves).items()):
        found = [
            f"{best['lattice']} {number(best['gap'])} dB at beta {number(best['beta'])}" for best in bests
        ]
        parts.append(f"{policy}: {several(found)}")
    certain = sum(row.get("kind") == "certain" for curve in curves for row in curve)
    minima = "1 certain local minimum" if certain == 1 else f"{certain} certain local minima"
    scans = f"{count(len(curves), 'scan')} on {where} with {minima}."
    lacking = [f"{policy} was not scanned for {several(names)}" for policy, names in _lacking(curves).items()]
    return ". ".join([f"{scans} Least error above the limit: {'; '.join(parts)}", *lacking]) + "."
