"""How fast codes encode, against the bandwidth that they would need."""

from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from .chart import Chart, nothing
from .theme import (
    COLUMNS,
    FAMILIES,
    as_fill,
    family_colour,
    family_shape,
    finished,
    haloed,
    layered,
    present,
    table,
    tips,
)
from .words import Row, count, number, plain, rounded, shown_by

if TYPE_CHECKING:
    import pandas as pd

_TITLE = "Codes are bound by arithmetic, not by memory"
_CAPTION = (
    "Millions of elements encoded a second against true bits, without fitting and packing; up is better. A code"
    " reads 4 bytes and writes b / 8 for each element, so from memory it is no faster than the machine's copy "
    "bandwidth over 4 + b / 8."
)
_MEASURED = (
    " That limit is the grey line, for the fastest copying measured beside a code, a median over data sets as its "
    "speed is; the tooltip of a code says what its own process copied."
)
_UNKNOWN = (
    " That bandwidth was not recorded with these results: the grey line is what the code that moves most bytes "
    "here proves the machine to have at least. Look how far below it the other codes stay."
)
_EMPTY = "Run `qbench run --suite standard --select track=rate-distortion` to time codes."
_CACHED = "a tensor that stays in a cache can be read faster"
_HEIGHT = 380
# Pixels above and below the marks, for the words there.
_ROOM = 24
_MOST = 160


def throughput(points: "pd.DataFrame") -> Chart:
    """One mark a code, medians over data sets, the fastest of one quantizer at equal bits; the line is a bandwidth.

    It is the highest copy bandwidth that was measured beside a mark; without any, the most bytes that a code moved.

    Args:
        points: of a board, one kind of device, perhaps of several machines.
    """
    rows = _rows(points)
    if not rows:
        return nothing("throughput", _TITLE, _CAPTION, _EMPTY)
    ends = [pick(rows, key=lambda row: float(row["speed"])) for pick in (max, min)]
    spec = finished(_chart(rows), {"codes": rows, "bound": _bound(rows), "ends": ends}, height=_HEIGHT)
    return Chart("throughput", _title(rows), _CAPTION + _limit_words(rows), _alt(rows), spec)


def moved(bits: float) -> float:
    """Bytes that encoding an element moves at least: it reads a float32 and writes so many bits.

    >>> moved(8)
    5.0
    """
    return 4 + bits / 8


def _rows(points: "pd.DataFrame") -> list[Row]:
    known = points[(points["encode_throughput"] > 0) & (points["rate"] > 0)]
    if not len(known):
        return []
    alike = ["quantizer", "label", "spec", "family", "rate_class"]
    means = {
        "rate": ("rate", "median"), "speed": ("encode_throughput", "median"), "n": ("encode_throughput", "size"),
        "show": ("result_id", "min"), "copying": ("copy_bandwidth", "median"),
    }  # fmt: skip
    texts = {"result_id": known["result_id"].astype(str)}
    measured = {"copy_bandwidth": known["copy_bandwidth"].where(known["copy_bandwidth"] > 0)}
    codes = known.assign(**texts, **measured).groupby(alike, as_index=False, observed=True)
    ordered = codes.agg(**means).sort_values("speed", ascending=False)
    ordered["near"] = (4 * ordered["rate"]).round()
    few = ordered.drop_duplicates(["quantizer", "near"]).head(_MOST)
    rows: list[Row] = []
    for one in few.to_dict("records"):
        family = one["family"] if one["family"] in FAMILIES else "other"
        bandwidth = one["speed"] * 1e6 * moved(one["rate"])
        words = {"label": plain(one["label"], 48), "spec": plain(one["spec"]), "show": shown_by(one["show"])}
        kept = {key: one[key] for key in ("rate", "speed", "rate_class", "copying")}
        rows.append({**words, **kept, "family": family, "n": int(one["n"]), "bandwidth": bandwidth})
    return [{**row, "share": _share(row)} for row in rounded(rows)]


def _share(row: Row) -> str:
    """What a code moved of what the process that ran it copied."""
    if not row["copying"]:
        return "copying was not measured"
    return f"{100 * row['bandwidth'] / row['copying']:.3g} % of {number(row['copying'] / 1e9, 1)} GB/s"


def _bound(rows: list[Row]) -> list[Row]:
    """The line: a limit where copying was measured."""
    copying = max(row["copying"] or 0.0 for row in rows)
    if copying:
        return _line(rows, copying, f"limit: copying {number(copying / 1e9, 1)} GB/s")
    proven = max(row["bandwidth"] for row in rows)
    return _line(rows, proven, f"{number(proven / 1e9, 1)} GB/s, the most that a code moved")


def _limit_words(rows: list[Row]) -> str:
    """What the line is and which marks it says nothing of."""
    known = [row for row in rows if row["copying"]]
    if not known:
        return _UNKNOWN
    lacking, beyond = len(rows) - len(known), sum(row["bandwidth"] > row["copying"] for row in known)
    without = f" Beside {count(lacking, 'code')} copying was not measured." if lacking else ""
    faster = f" {count(beyond, 'code')} moved more than was copied: {_CACHED}." if beyond else ""
    return _MEASURED + without + faster


def _line(rows: list[Row], bandwidth: float, words: str) -> list[Row]:
    right = max(row["rate"] for row in rows)
    grid = np.linspace(0, right, 9).tolist()
    line: list[Row] = [{"rate": rate, "speed": bandwidth / moved(rate) / 1e6} for rate in grid]
    line[-1]["words"] = words
    return rounded(line)


def _chart(rows: list[Row]) -> alt.LayerChart:
    across = alt.Axis(title="true bits per element →", tickCount=8, format="d")
    x = alt.X(field="rate", type="quantitative", scale=alt.Scale(zero=True, nice=False), axis=across)
    values = [10.0**power for power in range(-3, 8)]
    up = alt.Axis(title="↑ million elements encoded per second", values=values, format="~g")
    y = alt.Y(
        field="speed", type="quantitative", scale=alt.Scale(type="log", nice=False, padding=_ROOM), axis=up
    )
    families = present(row["family"] for row in rows)
    tooltip = tips(
        ("label", "code"),
        ("spec", "parameters"),
        ("rate", "true bits", ".3f"),
        ("speed", "million elements a second", ".3~g"),
        ("bandwidth", "bytes a second", ".2~s"),
        ("share", "against copying"),
        ("n", "measured on so many data sets"),
        ("show", "reproduce"),
    )
    bound = alt.Chart(table("bound")).encode(x=x, y=y)
    text = bound.transform_filter("isValid(datum.words)").mark_text(style="limit-text", align="right", dy=-13)
    marks = (
        alt.Chart(table("codes"))
        .mark_point(style="ring", size=60)
        .encode(
            x=x,
            y=y,
            tooltip=tooltip,
            shape=family_shape(families, legend=COLUMNS),
            fill=as_fill(family_colour(families, legend=COLUMNS)),
        )
    )
    ends = alt.Chart(table("ends")).encode(x=x, y=y, text=alt.Text(field="label", type="nominal"))
    names = haloed(ends, align="left", dx=8, dy=11, limit=160)
    words = text.encode(text=alt.Text(field="words", type="nominal"))
    return layered(bound.mark_line(style="limit"), words, marks, *names)


def _title(rows: list[Row]) -> str:
    fast, slow = (pick(row["speed"] for row in rows) for pick in (max, min))
    return f"The fastest code encodes {number(fast / slow, 0)} times as many elements a second as the slowest"


def _alt(rows: list[Row]) -> str:
    fastest, slowest = (pick(rows, key=lambda row: float(row["speed"])) for pick in (max, min))
    limit = ""
    if fastest["copying"]:
        beyond = f": {_CACHED}" if fastest["bandwidth"] > fastest["copying"] else ""
        limit = f" The fastest moves {fastest['share']} that its process copied{beyond}."
    median = float(np.median([row["speed"] for row in rows]))
    return (
        f"{count(len(rows), 'code')}: the fastest, {fastest['label']} at {number(fastest['rate'])} bits, encodes "
        f"{fastest['speed']:.3g} million elements a second, the median {median:.3g}, the slowest, {slowest['label']}, "
        f"{slowest['speed']:.3g}.{limit}"
    )
