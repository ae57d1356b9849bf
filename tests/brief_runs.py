"""Runs of a small suite, here and in processes of their own, and what a registry holds of them."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qbench import plan as planning
from qbench.registry import Registry


def tiny(
    quantizers: Sequence[str],
    datasets: Sequence[str] = ("gaussian",),
    seeds: Sequence[int] = (0,),
    elements: int = 256,
) -> str:
    """A suite of sources, of so many elements in each of two draws."""
    return f"""
name = "tiny"
version = 1
[[grid]]
track = "rate-distortion"
target = "source"
quantizer = {json.dumps(quantizers)}
dataset = {json.dumps(datasets)}
seed = {json.dumps(seeds)}
[grid.budget]
elements = {elements}
draws = 2
fit_elements = {elements}
"""


def options(
    tmp_path: Path, quantizers: list[str], seeds: list[int] | None = None, **changes: Any
) -> planning.Options:
    suite = tmp_path / "tiny.toml"
    suite.write_text(tiny(quantizers, seeds=seeds or [0], elements=512))
    fields = {"suite": str(suite), "registry": tmp_path / "r.duckdb", "workers": 2, "device": "cpu"}
    folders = {"data_root": tmp_path / "data", "cache_root": tmp_path / "cache"}
    return planning.Options(**{**fields, **folders, **changes})


def rows(path: Path, **arguments: Any) -> list[dict[str, Any]]:
    return Registry(path).results(**arguments).rows()


def values(path: Path) -> dict[str, Any]:
    """Everything that does not depend on time, by cell."""
    query = """select cell_id, name, value, unit, n, samples
        from measurements join results using (result_id) where not timing"""
    return {f"{row[0]} {row[1]}": row[2:] for row in Registry(path).sql(query).fetchall()}


RUN = """
import sys
from pathlib import Path
from qbench import plan, runner
runner.run(plan.Options(suite=sys.argv[1], registry=Path(sys.argv[2]), workers=2, device="cpu",
                        data_root=Path(sys.argv[2]).parent / "data", cache_root=Path(sys.argv[2]).parent / "cache"))
"""


def start(suite: str, registry: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, suite, str(registry)])
