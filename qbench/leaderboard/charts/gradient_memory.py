"""How alike the gradients of successive steps are."""

import altair as alt
import numpy as np

from ...registry import Registry
from .chart import Chart, nothing
from .gradients import EMPTY, WINDOWS, middle, told, trainings
from .limits import Floats
from .theme import FAMILIES, faceted, panels, tips
from .words import Row, number, rounded, several

_TITLE = "How long gradients remember"
_CAPTION = (
    "Autocorrelation of gradient coordinates over steps: the median over trainings early, in the middle and "
    "late, bands from the 10th to the 90th percentile. Look at lag 1: near 0 means that the last gradient says "
    "nothing of the next, and a predictor has nothing to gain."
)
_HEIGHT = 240


def gradient_memory(registry: Registry) -> Chart:
    """One line a window, from ``autocorrelation_by_lag`` of gradient-statistics."""
    names = [f"{window}.autocorrelation_by_lag" for window in WINDOWS]
    found = [one for one in trainings(registry, *names) if any(len(one.samples(name)) > 1 for name in names)]
    curves: dict[str, Floats] = {}
    for window in WINDOWS:
        samples = [one.samples(f"{window}.autocorrelation_by_lag") for one in found]
        lags = min((len(sample) for sample in samples if len(sample) > 1), default=0)
        if lags:
            curves[window] = np.array([sample[:lags] for sample in samples if len(sample) > 1])
    if not curves:
        return nothing("gradient-memory", _TITLE, _CAPTION, EMPTY)
    rows = [row for window, values in curves.items() for row in _rows(window, values)]
    spec = panels(_panel(rows, list(curves)), rows, narrowest=220, most=min(3, len(curves)), beside=44)
    return Chart("gradient-memory", _title(curves), f"{_CAPTION} {told(found)}.", _alt(curves), spec)


def _rows(window: str, values: Floats) -> list[Row]:
    """From lag 1: at lag 0 it is 1."""
    columns = zip(*middle(values), strict=True)
    rows = [
        {"window": window, "lag": lag, "r": m, "low": a, "high": b} for lag, (m, a, b) in enumerate(columns)
    ]
    return rounded(rows[1:])


def _panel(rows: list[Row], windows: list[str]) -> alt.FacetChart:
    last = max(row["lag"] for row in rows)
    across = alt.Axis(title="lag, in steps →", values=[1, 4, 8, 12, 16], format="d")
    x = alt.X(field="lag", type="quantitative", scale=alt.Scale(domain=[1, last], nice=False), axis=across)
    blue = FAMILIES["scalar"].colour

    def up(field: str) -> alt.Y:
        return alt.Y(field=field, type="quantitative", axis=alt.Axis(title="autocorrelation", tickCount=6))

    tooltip = tips(
        ("window", "window"),
        ("lag", "lag in steps"),
        ("r", "autocorrelation, median", ".3f"),
        ("low", "10th percentile", ".3f"),
        ("high", "90th percentile", ".3f"),
    )
    base = alt.Chart().encode(x=x)
    band = base.mark_area(opacity=0.2, color=blue).encode(y=up("low"), y2=alt.Y2(field="high"))
    lines = base.mark_line(color=blue).encode(y=up("r"))
    dots = base.mark_point(size=36, color=blue).encode(y=up("r"), tooltip=tooltip)
    zero = alt.Chart().mark_rule(style="limit").encode(y=alt.Y(datum=0, type="quantitative"))
    return faceted([zero, band, lines, dots], "window", _HEIGHT, windows)


def _title(curves: dict[str, Floats]) -> str:
    first = {window: float(np.median(values[:, 1])) for window, values in curves.items()}
    if max(first.values()) < 0.1:
        return "The last gradient says little of the next"
    return f"Successive gradients correlate by {number(min(first.values()))} to {number(max(first.values()))}"


def _alt(curves: dict[str, Floats]) -> str:
    parts = []
    for window, values in curves.items():
        mid, low, high = middle(values)
        parts.append(
            f"{window} {number(mid[1])} at lag 1 (10th to 90th percentile {number(low[1])} to {number(high[1])}) and "
            f"{number(mid[-1])} at lag {len(mid) - 1}"
        )
    return f"Median autocorrelation of gradients over {len(next(iter(curves.values())))} trainings: {several(parts)}."
