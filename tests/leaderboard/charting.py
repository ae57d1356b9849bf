"""Points and boards by hand, and what Vega draws of a chart."""

import json
import math
import re
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from qbench.leaderboard.boards import Board
from qbench.leaderboard.charts import theme
from qbench.leaderboard.charts.chart import Chart

HOSTILE = '</script><img src=x onerror="alert(1)">\u2028\u202e' + "x" * 10_000


def point(**given: Any) -> dict[str, Any]:
    found = {
        **dict.fromkeys(("method", "core", "label", "quantizer", "spec"), "uniform"),
        "board": "b",
        "family": "scalar",
        "rate_class": "fixed",
        "model": "",
        "dataset": "gaussian",
        "optimizer": "",
        "unit": "gaussian",
        "device": "cpu",
        "seeds": 1,
        "result_id": "0123456789abcdef",
        **dict.fromkeys(
            ("gain", "accuracy", "baseline_accuracy", "accuracy_drop", "kl", "up_bits"), math.nan
        ),
        **dict.fromkeys(("quality", "sqnr_db", "gap_db", "rate", "encode_throughput", "down_bits"), math.nan),
        "copy_bandwidth": math.nan,
    }
    return found | given


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame([point(**row) for row in rows], columns=list(point()))
    texts = [name for name in table.columns if isinstance(point()[name], str)]
    return table.astype(dict.fromkeys(texts, "category"))


def coded(rate: float, gap: float, **given: Any) -> dict[str, Any]:
    return {"rate": rate, "gap_db": gap, "sqnr_db": 20 * math.log10(2) * rate - gap, **given}


def board(key: str = "b", **given: Any) -> Board:
    found: dict[str, Any] = {
        "key": key,
        "tab": "weights",
        "track": "ptq",
        "target": "weight",
        "suite": "standard",
        "digest": "d" * 64,
        "title": "weights after training (ptq)",
        "setting": "",
        "quality": "kl",
        "quality_label": "KL (nat)",
        "better": -1,
        "anchored": True,
        "default": True,
        "results": 10,
        "failed": 0,
        "newest": "2026-01-01",
    }
    return Board(
        **{name: value for name, value in (found | given).items() if name in Board.__dataclass_fields__}
    )


def linked(spec: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The specification with rows as the page gives them."""
    empty = {
        "method": "m",
        "label": "m",
        "family": "scalar",
        "rate_class": "fixed",
        "unit": "u",
        "model": "mlp",
    }
    rest = {
        "dataset": "digits",
        "seeds": 1,
        "selected": 0,
        "spec": "s",
        "drop": None,
        "gain": None,
        "quality": None,
        "order": 0,
    }
    return {**spec, "datasets": {"points": [{**empty, **rest, **row} for row in rows]}}


def drawn(spec: dict[str, Any], width: int = 800, mode: theme.Mode = "light") -> list[dict[str, Any]]:
    """Every group of marks of the picture."""
    own = {**spec, "config": theme.config(mode)}
    if own.get("width") == "container":
        own["width"] = width
    scene = vl_convert.vegalite_to_scenegraph(own, vl_version="6.1")["scenegraph"]
    found, waiting = [], [scene]
    while waiting:
        one = waiting.pop()
        if "marktype" in one:
            found.append(one)
        waiting += one.get("items", [])
    return found


def texts(spec: dict[str, Any], **look: Any) -> list[str]:
    marks = (mark for mark in drawn(spec, **look) if mark["marktype"] == "text")
    return [str(item.get("text", "")) for mark in marks for item in mark.get("items", [])]


def check(chart: Chart, rows: list[dict[str, Any]] | None = None) -> None:
    """Valid for the schema, compiles, is small and says something."""
    assert re.fullmatch(r"[a-z0-9-]+", chart.id)
    assert chart.title
    assert chart.caption.endswith(".")
    assert chart.alt.endswith(".")
    assert chart.spec is not None
    for spec in (chart.spec, *chart.boards.values()):
        own = linked(spec, rows or []) if chart.linked else spec
        alt.Chart.from_dict(own, validate=True)
        vl_convert.vegalite_to_vega(own, vl_version="6.1")
        assert sum(map(len, spec.get("datasets", {}).values())) <= 320
        json.dumps(spec, allow_nan=False)
