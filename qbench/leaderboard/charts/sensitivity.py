"""What each layer alone costs a network when it is quantized, and the bits that the allocation gives it."""

import math
from collections.abc import Sequence

import altair as alt

from ...registry import Registry
from .chart import Chart, nothing
from .newest import Taken, taken
from .theme import FAMILIES, faceted, panels, powers, tips
from .words import Row, count, number, plain, rounded, shown_by

_TITLE = "Layers differ in what their quantization costs"
_CAPTION = (
    "How far the network's predictions move when one layer alone is quantized: KL divergence on training "
    "examples, median over seeds, bars from the least to the greatest; layers from input to output, named as "
    "their modules are. Beside each the bits that the allocation gave it, from the fewest to the most over seeds; "
    "look whether the bits went where the damage is."
)
_EMPTY = "Run `qbench run --suite standard --select track=mixed-precision` to measure single layers."
_LAYERS = 24
_LEAST = 1e-9
_ROW = 26
_BETTER = ("greedy", "optimal", "water-filling", "uniform")


def sensitivity(registry: Registry) -> Chart:
    """One panel a model and data set, of the digest of mixed-precision that has most; the worst layers of each."""
    found: dict[str, list[Taken]] = {}
    for one in taken(registry, "mixed-precision", ("sensitivity", "layer_sqnr")):
        found.setdefault(f"{plain(one.words['model'])} on {plain(one.words['dataset'])}", []).append(one)
    rows = {name: _layers(name, many) for name, many in sorted(found.items())}
    rows = {name: layers for name, layers in rows.items() if layers}
    if not rows:
        return nothing("sensitivity", _TITLE, _CAPTION, _EMPTY)
    values = [row for layers in rows.values() for row in layers]
    spec = panels(_panel(values), values, narrowest=300, most=min(2, len(rows)), beside=190, gap=170)
    return Chart("sensitivity", _title(rows), _CAPTION, _alt(rows), spec)


def _layers(name: str, many: Sequence[Taken]) -> list[Row]:
    """Of the runs of the best known method, at the budget that most have, seeds together."""
    methods = {str(one.facts.get("method")) for one in many}
    method = next((known for known in _BETTER if known in methods), None)
    own = [one for one in many if one.facts.get("method") == method and one.samples("sensitivity")]
    alike = _same_layers(own)
    if not alike:
        return []
    layers = [plain(layer, 40) for layer in str(alike[0].facts["layers"]).split()]
    rows = []
    for place, layer in enumerate(layers):
        values = sorted(max(_LEAST, one.samples("sensitivity")[place]) for one in alike)
        bits = sorted(int(str(one.facts["bits"]).split()[place]) for one in alike)
        sqnr = [one.samples("layer_sqnr")[place] for one in alike if len(one.samples("layer_sqnr")) > place]
        rows.append(
            {
                "network": name, "place": place, "layer": layer, "seeds": len(alike), "method": method,
                "kl": values[len(values) // 2], "low": values[0], "high": values[-1],
                "bits": _bits_words(bits[0], bits[-1]), "sqnr": sum(sqnr) / len(sqnr) if sqnr else None,
                "show": shown_by(alike[0].words["result_id"]),
            }
        )  # fmt: skip
    kept = sorted(rows, key=lambda row: -float(str(row["kl"])))[:_LAYERS]
    ordered = sorted(kept, key=lambda row: int(str(row["place"])))
    return rounded([{**row, "row": at} for at, row in enumerate(ordered)])


def _bits_words(low: int, high: int) -> str:
    """
    >>> _bits_words(3, 4), _bits_words(1, 1)
    ('3–4 bits', '1 bit')
    """
    return count(low, "bit") if low == high else f"{low}–{high} bits"


def _same_layers(own: Sequence[Taken]) -> list[Taken]:
    """Those of one quantizer and budget with a sensitivity and bits for every layer they name."""
    alike: dict[tuple[str, ...], list[Taken]] = {}
    for one in own:
        layers, bits = str(one.facts.get("layers", "")).split(), str(one.facts.get("bits", "")).split()
        if (
            layers
            and len(layers) == len(bits) == len(one.samples("sensitivity"))
            and all(map(str.isdigit, bits))
        ):
            key = (
                one.words["quantizer"],
                one.words["parameters"],
                str(one.facts.get("budget_rate")),
                " ".join(layers),
            )
            alike.setdefault(key, []).append(one)
    return max(alike.values(), key=len, default=[])


def _panel(values: list[Row]) -> alt.FacetChart:
    colour = FAMILIES["scalar"].colour
    low = 10 ** math.floor(math.log10(min(row["low"] for row in values)))
    high = 1.2 * max(row["high"] for row in values)
    decades = [10.0**power for power in range(round(math.log10(low)), math.floor(math.log10(high)) + 1)]

    def x(field: str) -> alt.X:
        scale = alt.Scale(type="log", domain=[low, high], nice=False)
        axis = alt.Axis(title="KL divergence (nat) →", labelExpr=powers(), values=decades, grid=True)
        return alt.X(field=field, type="quantitative", scale=scale, axis=axis)

    rows = max(row["row"] for row in values) + 1
    down = alt.Scale(domain=[-0.5, rows - 0.5], reverse=True, nice=False)
    y = alt.Y(field="row", type="quantitative", scale=down, axis=None)
    tooltip = tips(
        ("layer", "layer"),
        ("kl", "KL divergence (nat)", ".3~g"),
        ("low", "least over seeds", ".3~g"),
        ("high", "greatest over seeds", ".3~g"),
        ("bits", "allocated"),
        ("sqnr", "SQNR in dB at these bits, mean over seeds", ".1f"),
        ("seeds", "seeds"),
        ("method", "allocation"),
        ("show", "reproduce"),
    )
    base = alt.Chart().encode(y=y)
    spans = base.mark_rule(strokeWidth=3, opacity=0.5, color=colour)
    spans = spans.encode(x=x("low"), x2=alt.X2(field="high"))
    dots = base.mark_point(style="ring", size=80, color=colour).encode(x=x("kl"), tooltip=tooltip)
    bits = base.mark_text(style="quiet", align="left", dx=10).encode(
        x=x("high"), text=alt.Text(field="bits", type="nominal")
    )
    names = base.mark_text(style="quiet", align="right", dx=-8, limit=120).encode(
        x=alt.value(0), text=alt.Text(field="layer", type="nominal")
    )
    return faceted([spans, dots, bits, names], "network", _ROW * rows)


def _title(rows: dict[str, list[Row]]) -> str:
    ratio = max(_extremes(layers)[0]["kl"] / _extremes(layers)[1]["kl"] for layers in rows.values())
    return f"Layers differ up to {number(ratio, 0)}-fold in what their quantization costs"


def _extremes(layers: Sequence[Row]) -> tuple[Row, Row]:
    """The most and the least sensitive layer."""
    ordered = sorted(layers, key=lambda row: float(row["kl"]))
    return ordered[-1], ordered[0]


def _alt(rows: dict[str, list[Row]]) -> str:
    parts = []
    for name, layers in rows.items():
        worst, mildest = _extremes(layers)
        ratio = worst["kl"] / mildest["kl"]
        parts.append(
            f"{name}: layer {worst['layer']} is the most sensitive of {len(layers)}, KL divergence "
            f"{worst['kl']:.2g} nat and {worst['bits']}, {number(ratio, 0)} times that of "
            f"layer {mildest['layer']} ({mildest['bits']})"
        )
    return "; ".join(parts) + "."
