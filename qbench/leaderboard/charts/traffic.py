"""Accuracy of data-parallel training against all bits that its workers send and receive."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt

from ...registry import Registry
from ..boards import Board
from .chart import Chart, Spec, nothing
from .newest import values_of
from .theme import (
    FAMILIES,
    WIDE_PANEL_COLUMNS,
    as_fill,
    faceted,
    family_colour,
    family_shape,
    haloed,
    panels,
    present,
    tips,
)
from .words import Row, number, plain, rounded, several, shown_by

if TYPE_CHECKING:
    import pandas as pd

TRACK = "gradient-compression"
_TITLE = "What gradient compression saves on the wire"
_CAPTION = (
    "Test accuracy of data-parallel training against all bits sent and received, up and down, in the whole run,"
    " means over seeds; the grey rule is the same training in float32. Look for marks on the rule and far to "
    "the left: as accurate as uncompressed at a fraction of the bits."
)
_EMPTY = (
    "Run `qbench run --suite standard --select track=gradient-compression` to train with coded gradients."
)
_PANELS = 4
_HEIGHT = 320
_NAMED = 3
_FLOAT_BITS = 31.5


def traffic(registry: Registry, points: "pd.DataFrame", boards: Sequence[Board]) -> Chart:
    """One panel a unit, the units that have most codes; the float run's bits are measured beside each code."""
    floats = values_of(registry, TRACK, "baseline_bits")
    specs: dict[str, Spec] = {}
    words: dict[str, str] = {}
    for board in boards:
        rows = _rows(points[points["board"] == board.key], floats) if board.track == TRACK else []
        if rows:
            specs[board.key] = panels(
                _panel(rows), rows, narrowest=330, most=min(2, len({row["unit"] for row in rows})), beside=44
            )
            words[board.key] = f"{_titled(board)}: {_alt(rows)}"
            specs[board.key]["usermeta"]["words"] = words[board.key]
    chosen = max(
        (board for board in boards if board.key in specs), key=lambda board: board.results, default=None
    )
    if chosen is None:
        return nothing("traffic", _TITLE, _CAPTION, _EMPTY)
    shown = specs.pop(chosen.key)
    return Chart("traffic", _TITLE, _CAPTION, words[chosen.key], shown, _EMPTY, specs)


def _titled(board: Board) -> str:
    return plain(f"{board.title}, {board.setting}" if board.setting else board.title, 160)


def _rows(own: "pd.DataFrame", floats: dict[str, float]) -> list[Row]:
    coded = own[own["rate"] < _FLOAT_BITS]
    known = coded[coded["accuracy"].notna() & (coded["up_bits"] + coded["down_bits"] > 0)]
    units = known["unit"].astype(str).value_counts().index[:_PANELS]
    rows = [_code(one, floats) for one in known[known["unit"].isin(units)].to_dict("records")]
    return rounded([*_named(rows), *_rules(rows)], 5)


def _code(one: Row, floats: dict[str, float]) -> Row:
    bits = float(one["up_bits"] + one["down_bits"])
    whole = floats.get(str(one["result_id"]), math.nan)
    words = {"unit": plain(one["unit"], 60), "label": plain(one["label"], 48), "spec": plain(one["spec"])}
    known = {"accuracy": one["accuracy"], "lost": one["accuracy_drop"], "rate": one["rate"]}
    return {
        **words,
        **known,
        "family": one["family"] if one["family"] in FAMILIES else "other",
        "bits": bits,
        "seeds": int(one["seeds"]),
        "show": shown_by(one["result_id"]),
        "whole": whole,
        "times": whole / bits,
        "baseline": one["baseline_accuracy"],
    }


def _named(rows: list[Row]) -> list[Row]:
    """The front of each panel gets names: more accurate than all with as few bits; of it the last few."""
    for unit in {row["unit"] for row in rows}:
        best, front = -1.0, []
        for row in sorted(
            (row for row in rows if row["unit"] == unit), key=lambda row: (row["bits"], -row["accuracy"])
        ):
            if row["accuracy"] > best:
                best = row["accuracy"]
                front.append(row)
        for row in front[-_NAMED:]:
            row["name"] = row["label"]
    return rows


def _rules(rows: Sequence[Row]) -> list[Row]:
    """The float run of each panel: means of what stands beside its codes."""
    found: list[Row] = []
    for unit in sorted({row["unit"] for row in rows}):
        own = [
            (row["baseline"], row["whole"]) for row in rows if row["unit"] == unit and _known(row["baseline"])
        ]
        if own:
            mean, whole = (sum(values) / len(own) for values in zip(*own, strict=True))
            found.append(
                {"unit": unit, "float": mean, "whole": whole, "words": f"float32: {number(mean, 1)} %"}
            )
    return found


def _known(value: float) -> bool:
    return not math.isnan(value)


def _panel(rows: list[Row]) -> alt.FacetChart:
    codes = [row for row in rows if "family" in row]
    ends = [row[name] for row in rows for name in ("bits", "whole") if row.get(name)]
    across = alt.Axis(title="bits sent and received →", format="~s", tickCount=4)
    scale = alt.Scale(type="log", domain=[min(ends) / 2.5, max(ends) * 1.6], nice=False)
    x = alt.X(field="bits", type="quantitative", scale=scale, axis=across)

    def up(field: str) -> alt.Y:
        axis = alt.Axis(title="↑ test accuracy (%)", tickCount=6)
        return alt.Y(field=field, type="quantitative", scale=alt.Scale(zero=False, padding=16), axis=axis)

    families = present(row["family"] for row in codes)
    tooltip = tips(
        ("label", "code"),
        ("spec", "parameters"),
        ("accuracy", "accuracy in %", ".2f"),
        ("lost", "points lost", ".2f"),
        ("bits", "bits up and down", ".3~s"),
        ("times", "times fewer than float32", ".1f"),
        ("rate", "true bits per element", ".3f"),
        ("seeds", "seeds"),
        ("show", "reproduce"),
    )
    rule = alt.Chart().transform_filter("isValid(datum.float)")
    line = rule.mark_rule(style="limit").encode(y=up("float"))
    text = rule.mark_text(style="limit-text", align="right", dy=-9, dx=-2).encode(
        x=alt.value("width"), y=up("float"), text=alt.Text(field="words", type="nominal")
    )
    ring = rule.mark_point(style="limit", filled=False, size=70, shape="circle").encode(
        x=alt.X(field="whole", type="quantitative", scale=scale, axis=across), y=up("float")
    )
    marks = alt.Chart().transform_filter("isValid(datum.family)").mark_point(style="ring", size=75)
    marks = marks.encode(
        x=x,
        y=up("accuracy"),
        tooltip=tooltip,
        shape=family_shape(families, legend=WIDE_PANEL_COLUMNS),
        fill=as_fill(family_colour(families, legend=WIDE_PANEL_COLUMNS)),
    )
    named = (
        alt.Chart()
        .transform_filter("isValid(datum.name)")
        .encode(x=x, y=up("accuracy"), text=alt.Text(field="name", type="nominal"))
    )
    room = alt.ExprRef("child_width < 500 ? 200 : 330")
    layers = [
        line,
        text,
        ring,
        marks,
        *haloed(named, align="left", baseline="bottom", dx=-4, dy=-8, limit=room),
    ]
    return faceted(layers, "unit", _HEIGHT, own_y=True)


def _alt(rows: Sequence[Row]) -> str:
    parts = []
    for unit in dict.fromkeys(row["unit"] for row in rows):
        codes = [row for row in rows if row["unit"] == unit and "family" in row]
        best = max(codes, key=lambda row: float(row["accuracy"]))
        least = min(codes, key=lambda row: float(row["bits"]))
        float_run = [row["float"] for row in rows if row["unit"] == unit and "float" in row]
        before = f"float32 {number(float_run[0])} %, " if float_run else ""
        parts.append(
            f"{unit}: {before}best {best['label']} {number(best['accuracy'])} % with {best['bits']:.3g} bits, fewest "
            f"bits {least['label']} {least['bits']:.3g} at {number(least['accuracy'])} %"
        )
    return (
        f"accuracy against bits of {several(sorted({row['label'] for row in rows if 'label' in row})[:6])}. "
        + "; ".join(parts)
        + "."
    )
