"""On a CUDA device: the same codes as on the CPU, and whole runs. Run with ``pytest -m gpu``."""

import math
from pathlib import Path

import pytest
import torch

import qbench
from qbench import plugins
from qbench.registry import Registry

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def sweeps() -> list[str]:
    found = plugins.load(["all"])
    components = [found.entry("quantizer", name).component for name in found.names("quantizer")]
    return [str(component(**point).spec) for component in components for point in component.sweep]


@pytest.mark.parametrize("point", sweeps())
@pytest.mark.parametrize("shape", [(200,), (64, 33), (1000, 1000)])
def test_a_cuda_tensor_is_coded_as_on_the_cpu(point: str, shape: tuple[int, ...]) -> None:
    """Fitting may add in another order, so scales differ in their last bits: rates are equal, errors within 1 %.

    The two devices draw other random numbers, so that codes that draw any agree as two samples do.
    """
    quantizer = plugins.catalog().quantizer(point)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    here, there = qbench.measure(quantizer, x), qbench.measure(quantizer, x.cuda())
    assert there.reconstruction.is_cuda
    draws = qbench.measure(quantizer, x, seed=1).mse != here.mse
    chance = 10 / math.sqrt(x.numel()) if draws else 0.0
    assert there.rate == pytest.approx(here.rate, rel=0.01 + chance)
    assert there.mse == pytest.approx(here.mse, rel=0.01 + chance)
    assert torch.equal(qbench.decode(there.payload), there.reconstruction.cpu())


@pytest.mark.slow
def test_smoke_on_cuda_agrees_with_the_cpu(tmp_path: Path) -> None:
    """All cells end well on both; codes of sources, which need no trained model, have the same error."""
    summaries = {
        device: qbench.run("smoke", tmp_path / f"{device}.duckdb", device, cache_root=tmp_path / "cache")
        for device in ("cpu", "cuda")
    }
    assert [set(summary.statuses) for summary in summaries.values()] == [{"ok"}, {"ok"}]
    errors = {}
    for device in summaries:
        rows = Registry(tmp_path / f"{device}.duckdb").results("target=source").rows()
        errors[device] = {row["cell_id"]: row["metrics"]["mse"]["value"] for row in rows}
    for cell, error in errors["cpu"].items():
        assert errors["cuda"][cell] == pytest.approx(error, rel=0.05)
