"""What codes do on real gradients, beside what they do on an iid Gaussian of the same power."""

from collections.abc import Sequence

import altair as alt
import numpy as np

from ...registry import Registry
from .chart import Chart, nothing
from .gradients import EMPTY, WINDOWS, told, trainings
from .newest import Taken
from .theme import THREE_PANELS_COLUMNS, as_fill, faceted, panels, tips
from .words import Row, number, plain, rounded, several

_TITLE = "Gradients against the iid Gaussian prediction"
_CAPTION = (
    "SQNR of four codes on real gradients (marks) and on independent Gaussian values of the same power (rings),"
    " joined by a line, medians over trainings. Look at the length of the lines: where mark and ring meet, a "
    "gradient is as hard to code as Gaussian noise; marks below their rings are harder, above easier."
)
_HUES = {"lloyd-max": "#0072B2", "kmeans": "#009E73", "ecsq": "#E69F00", "nested-lattice": "#D55E00"}
_SHAPES = {"lloyd-max": "circle", "kmeans": "square", "ecsq": "triangle-up", "nested-lattice": "diamond"}
_HEIGHT = 280


def gradient_codes(registry: Registry) -> Chart:
    """A panel a window, from ``code.<code>.*`` of gradient-statistics."""
    found = [one for one in trainings(registry, *(f"{window}.code.%" for window in WINDOWS)) if one.measured]
    rows = [row for window in WINDOWS for row in _window(found, window)]
    if not rows:
        return nothing("gradient-codes", _TITLE, _CAPTION, EMPTY)
    windows = [window for window in WINDOWS if any(row["window"] == window for row in rows)]
    spec = panels(_panel(rows, windows), rows, narrowest=220, most=min(3, len(windows)), beside=40)
    return Chart("gradient-codes", _title(rows), f"{_CAPTION} {told(found)}.", _alt(rows), spec)


def _window(found: Sequence[Taken], window: str) -> list[Row]:
    """Points of every code, medians over trainings."""
    rows: list[Row] = []
    for code in _HUES:
        names = [
            f"{window}.code.{code}.{figure}" for figure in ("rate", "sqnr_db", "predicted_sqnr_db", "gap_db")
        ]
        measured = [[one.samples(name) for name in names] for one in found]
        points = max((len(curves[0]) for curves in measured), default=0)
        whole = [curves for curves in measured if points and all(len(curve) == points for curve in curves)]
        if not whole:
            continue
        values = np.median(np.array(whole, dtype=float), axis=0)
        for rate, sqnr, predicted, gap in values.T.tolist():
            point = {"rate": rate, "sqnr": sqnr, "predicted": predicted, "gap": gap}
            rows.append({"window": window, "code": code, **point, "n": len(whole)})
    return rounded(rows)


def _panel(rows: list[Row], windows: list[str]) -> alt.FacetChart:
    across = alt.Axis(title="bits per element →", tickCount=5, format="d")
    x = alt.X(
        field="rate", type="quantitative", scale=alt.Scale(zero=True, nice=False, padding=8), axis=across
    )

    def up(field: str) -> alt.Y:
        return alt.Y(field=field, type="quantitative", axis=alt.Axis(title="↑ SQNR (dB)", tickCount=6))

    names = [code for code in _HUES if any(row["code"] == code for row in rows)]
    legend = alt.Legend(columns=alt.ExprRef(THREE_PANELS_COLUMNS), symbolOpacity=1)
    colour = alt.Color(
        field="code",
        type="nominal",
        legend=legend,
        scale=alt.Scale(domain=names, range=[_HUES[n] for n in names]),
    )
    shape = alt.Shape(
        field="code",
        type="nominal",
        legend=legend,
        scale=alt.Scale(domain=names, range=[_SHAPES[n] for n in names]),
    )
    tooltip = tips(
        ("code", "code"),
        ("window", "window"),
        ("rate", "bits", ".3f"),
        ("sqnr", "SQNR in dB, gradients", ".2f"),
        ("predicted", "SQNR in dB, Gaussian", ".2f"),
        ("gap", "dB harder than a Gaussian", ".2f"),
        ("n", "trainings"),
    )
    base = alt.Chart().encode(x=x, tooltip=tooltip)
    spans = base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
        y=up("predicted"), y2=alt.Y2(field="sqnr"), color=colour
    )
    rings = base.mark_point(filled=False, size=50, shape="circle", style="limit", color="#8A8A8A").encode(
        y=up("predicted")
    )
    marks = base.mark_point(style="ring", size=60).encode(y=up("sqnr"), fill=as_fill(colour), shape=shape)
    return faceted([spans, rings, marks], "window", _HEIGHT, windows)


def _gaps(rows: Sequence[Row]) -> dict[str, float]:
    """The mean of each code's gaps."""
    codes = dict.fromkeys(row["code"] for row in rows)
    return {code: float(np.mean([row["gap"] for row in rows if row["code"] == code])) for code in codes}


def _title(rows: Sequence[Row]) -> str:
    gaps = _gaps(rows)
    worst = max(gaps, key=lambda code: gaps[code])
    if gaps[worst] <= 0.25:
        return "Gradients are coded as well as an iid Gaussian source"
    return f"{worst} loses {number(gaps[worst], 1)} dB on gradients against iid Gaussian values"


def _alt(rows: Sequence[Row]) -> str:
    parts = [f"{plain(code)} {number(gap)} dB" for code, gap in _gaps(rows).items()]
    return (
        "Mean distance below what the same code does on iid Gaussian values, at equal bits, medians over "
        f"{max(row['n'] for row in rows)} trainings: {several(parts)}; negative is better than the prediction."
    )
