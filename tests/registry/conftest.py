"""An empty registry, and one with four cells."""

from pathlib import Path

import pytest

from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_registry import begin, make_cell, make_result


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "results.duckdb")


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """Two runs, four cells: two that succeeded, one that failed, one that is pending."""
    cells = [make_cell(seed) for seed in range(4)]
    run_id = begin(registry, cells)
    registry.write([make_result(cell, run_id) for cell in cells[:2]])
    registry.write([make_result(cells[2], run_id, status="timeout")])
    registry.finish_run(run_id)
    return registry
