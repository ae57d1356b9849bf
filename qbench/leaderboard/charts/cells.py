"""Tables of numbers as coloured cells."""

import altair as alt

from .chart import Spec
from .theme import Tips, finished, layered
from .words import Row

ROW = 26
# Of a gain in field ``value``; adding 0 turns -0 into 0.
SAVED = "format(round(100 * (1 - pow(2, -datum.value))) + 0, 'd') + ' %'"
_STRONG = 0.55
_BESIDE, _COLUMN, _LEAST_COLUMN = 205, 104, 36


def cells(base: alt.Chart, tooltip: Tips, columns: int, *, saved: bool, numbered: bool = False) -> Spec:
    """Rows of ``name``, ``place``, ``value`` and ``order`` (of the rows) as cells with their numbers.

    Strong colours are under light digits. ``usermeta`` has the least and the most pixels that the place should be wide.

    Args:
        base: a chart with these fields, and ``least`` and ``largest`` of all values where these are not bits saved.
        columns: how many there may be.
        saved: values are gains, log2 of bits over bits, on one scale everywhere, from -1 to 1; written in the cells
            is the share of bits that they save, see :func:`~qbench.leaderboard.standings.saved_percent`.
        numbered: columns stand in the order of field ``at``.
    """
    places = alt.EncodingSortField("at", op="min") if numbered else "ascending"
    across = alt.Axis(
        title=None, labelAngle=-35, orient="top", labelLimit=190, domain=False, labelOverlap=False
    )
    x = alt.X(field="place", type="nominal", axis=across, sort=places)
    down = alt.Axis(title=None, grid=False, labelLimit=190, labelOverlap=False)
    y = alt.Y(field="name", type="nominal", axis=down, sort=alt.EncodingSortField("order", op="min"))
    scale = (
        alt.Scale(domain=[-1, 1], domainMid=0, clamp=True, interpolate="lab")
        if saved
        else alt.Scale(zero=False)
    )
    colour = alt.Color(field="value", type="quantitative", scale=scale, legend=None)
    strong = f"abs(datum.value) > {_STRONG}" if saved else "2 * datum.value > datum.least + datum.largest"
    text = (
        alt.Text(field="saved", type="nominal")
        if saved
        else alt.Text(field="value", type="quantitative", format=".3~g")
    )
    base = base.transform_calculate(saved=SAVED) if saved else base
    cells = base.mark_rect(cornerRadius=2).encode(x=x, y=y, color=colour, tooltip=tooltip)
    digits = base.encode(x=x, y=y, text=text)
    look: Row = {"fontSize": alt.ExprRef("bandwidth('x') < 40 ? 10 : 13")}
    look["opacity"] = alt.ExprRef("bandwidth('x') < 28 ? 0 : 1")
    dark = digits.transform_filter(f"!({strong})").mark_text(style="ink", **look)
    light = digits.transform_filter(strong).mark_text(style="on-colour", **look)
    spec = finished(layered(cells, dark, light), {})
    spec["height"] = {"step": ROW}
    least, most = (_BESIDE + width * max(2, columns) for width in (_LEAST_COLUMN, _COLUMN))
    spec["usermeta"] = {"narrowest": least, "widest": most}
    return spec
