"""The density of gradients in units of their own scale, with the densities that are said to describe them."""

from collections.abc import Sequence

import altair as alt
import numpy as np

from ...families import FAMILIES
from ...registry import Registry
from .chart import Chart, nothing
from .gradients import EMPTY, WINDOWS, middle, told, trainings
from .limits import Floats
from .newest import Taken
from .theme import THREE_PANELS_COLUMNS, faceted, panels, tips
from .words import Row, number, rounded

BINS, BINS_PER_SIGMA = 101, 10
_TITLE = "What gradients are distributed like"
_CAPTION = (
    "Density of u = g / sigma, each layer in units of its own root mean square, zeros left out, early, in the "
    "middle and late in training, with four fitted densities: medians over trainings, the band from the 10th to"
    " the 90th percentile. Look at the peak and at the far values: a Gaussian has neither."
)
_LAST = 40
_CURVES = {
    "measured": ("#0072B2", [1, 0]),
    "Gaussian": ("#8A8A8A", [6, 4]),
    "Laplace": ("#8A8A8A", [1, 4]),
    "generalized Gaussian": ("#D55E00", [1, 0]),
    "Student t": ("#009E73", [1, 0]),
}
_PARAMETERS = {
    "Gaussian": ("gaussian", ("scale",)),
    "Laplace": ("laplace", ("scale",)),
    "generalized Gaussian": ("generalized-gaussian", ("scale", "shape")),
    "Student t": ("student", ("scale", "df")),
}
_FLOOR = 2e-4
_HEIGHT = 260


def gradient_density(registry: Registry) -> Chart:
    """A panel a window, from the histograms and fits of gradient-statistics."""
    names = [f"{w}.density.%" for w in WINDOWS]
    names += [f"{w}.fit.{family}.{p}" for w in WINDOWS for family, ps in _PARAMETERS.values() for p in ps]
    found = [one for one in trainings(registry, *names) if any(len(histograms([one], w)) for w in WINDOWS)]
    panes = {w: histograms(found, w) for w in WINDOWS}
    panes = {window: hist for window, hist in panes.items() if len(hist)}
    if not panes:
        return nothing("gradient-density", _TITLE, _CAPTION, EMPTY)
    shapes = {window: _shape(found, window) for window in panes}
    values = [row for window, hist in panes.items() for row in _rows(window, hist, _fits(found, window))]
    spec = panels(_panel(values, list(panes)), values, narrowest=220, most=min(3, len(panes)), beside=48)
    caption = f"{_CAPTION} {told(found)}."
    return Chart("gradient-density", _title(shapes), caption, _alt(panes, shapes), spec)


def histograms(found: Sequence[Taken], window: str) -> Floats:
    """Densities at u = 0, .1, .2, ..., both signs together, [trainings, 51]: layers of a training in equal parts."""
    pooled = []
    for one in found:
        names = [name for name in one.measured if name.startswith(f"{window}.density.")]
        counts = [np.array(one.samples(name)) for name in names if len(one.samples(name)) == BINS]
        shares = [count / count.sum() for count in counts if count.sum() > 0]
        if shares:
            pooled.append(folded(sum(shares, np.zeros(BINS)) / len(shares)))
    return np.array(pooled)


def folded(shares: Floats) -> Floats:
    """The density of u at the centres of bins from 0, the mean of both signs, from the shares of bins about 0."""
    centre = BINS // 2
    return (shares[centre:] + shares[centre::-1]) / 2 * BINS_PER_SIGMA


def binned(family: str, parameters: dict[str, float]) -> Floats:
    """The mean density over each of the bins about 0, .1, ..., 4: what a histogram of that density tends to."""
    edges = (np.arange(_LAST + 1) + 0.5) / BINS_PER_SIGMA
    beyond = np.concatenate([[1.0], FAMILIES[family].survival(edges, parameters)])
    shares = -np.diff(beyond) / 2
    shares[0] *= 2
    return shares * BINS_PER_SIGMA


def _fits(found: Sequence[Taken], window: str) -> dict[str, Floats]:
    """Of each family the median over trainings of what was fitted to each."""
    curves = {}
    for name, (family, parameters) in _PARAMETERS.items():
        fitted = [[one.value(f"{window}.fit.{family}.{p}") for p in parameters] for one in found]
        whole = [dict(zip(parameters, values, strict=True)) for values in fitted if all(values)]
        if whole:
            curves[name] = np.median(
                [binned(family, {k: float(v or 0) for k, v in w.items()}) for w in whole], axis=0
            )
    return curves


def _shape(found: Sequence[Taken], window: str) -> float | None:
    """The median over trainings."""
    known = [v for one in found if (v := one.value(f"{window}.fit.generalized-gaussian.shape")) is not None]
    return float(np.median(known)) if known else None


def _rows(window: str, hist: Floats, fits: dict[str, Floats]) -> list[Row]:
    mid, low, high = (part[: _LAST + 1] for part in middle(hist))
    curves = {"measured": mid, **fits}
    rows: list[Row] = []
    for i in range(_LAST + 1):
        row: Row = {"window": window, "u": i / BINS_PER_SIGMA, "low": max(low[i], _FLOOR), "high": high[i]}
        rows.append(row | {name: max(values[i], _FLOOR / 10) for name, values in curves.items()})
    return rounded(rows, 3)


def _panel(values: list[Row], windows: list[str]) -> alt.FacetChart:
    end, top = _LAST / BINS_PER_SIGMA, 1.3 * max(row["high"] for row in values)
    across = alt.Axis(title="|u|, in standard deviations →", values=[0, 1, 2, 3, 4], format="d")
    x = alt.X(field="u", type="quantitative", scale=alt.Scale(domain=[0, end], nice=False), axis=across)
    scale = alt.Scale(type="log", domain=[_FLOOR, top], nice=False)
    up = alt.Axis(title="density of u", values=[0.001, 0.01, 0.1, 1, 10], format="~g")
    band = alt.Chart().mark_area(opacity=0.3, color="#0072B2", clip=True)
    band = band.encode(
        x=x, y=alt.Y(field="low", type="quantitative", scale=scale, axis=up), y2=alt.Y2(field="high")
    )
    tooltip = tips(
        ("window", "window"),
        ("curve", "curve"),
        ("u", "|u|", ".1f"),
        ("density", "density", ".3~g"),
        ("low", "measured, 10th percentile", ".3~g"),
        ("high", "measured, 90th percentile", ".3~g"),
    )
    names: list[str | alt.FieldName] = [name for name in _CURVES if name in values[0]]
    colours, dashes = ([_CURVES[str(name)][part] for name in names] for part in (0, 1))
    legend = alt.Legend(columns=alt.ExprRef(THREE_PANELS_COLUMNS), symbolType="stroke", symbolSize=400)
    lines = alt.Chart().transform_fold(names, as_=["curve", "density"]).mark_line(clip=True)
    lines = lines.encode(
        x=x,
        y=alt.Y(field="density", type="quantitative", scale=scale, axis=up),
        color=alt.Color(
            field="curve", type="nominal", scale=alt.Scale(domain=names, range=colours), legend=legend
        ),
        strokeDash=alt.StrokeDash(
            field="curve", type="nominal", scale=alt.Scale(domain=names, range=dashes), legend=legend
        ),
        tooltip=tooltip,
    )
    return faceted([band, lines], "window", _HEIGHT, windows)


def _title(shapes: dict[str, float | None]) -> str:
    known = [shape for shape in shapes.values() if shape is not None]
    if not known:
        return _TITLE
    shapes_seen = f"median shape {number(min(known))} to {number(max(known))}, where a Gaussian has 2"
    sharper = (
        "Gradients peak more sharply than a Laplace density: "
        if max(known) < 1
        else "Gradients by their fits: "
    )
    return sharper + shapes_seen


def _alt(panes: dict[str, Floats], shapes: dict[str, float | None]) -> str:
    parts = []
    for window, hist in panes.items():
        mid, _, _ = middle(hist)
        shape = shapes[window]
        fit = "" if shape is None else f", median shape of the generalized Gaussian {number(shape)}"
        parts.append(f"{window}: density at 0 {number(mid[0])}, at 3 sigma {mid[30]:.2g}{fit}")
    gaussian, laplace = binned("gaussian", {"scale": 1.0}), binned("laplace", {"scale": 0.5**0.5})
    return (
        f"Median density of standardized gradients over {len(next(iter(panes.values())))} trainings; "
        f"{'; '.join(parts)}. "
        f"A Gaussian has {number(gaussian[0])} and {gaussian[30]:.2g}, a Laplace density {number(laplace[0])} and "
        f"{laplace[30]:.2g}; shape 2 is a Gaussian, 1 a Laplace density."
    )
