"""On a CUDA device: the same codes as on the CPU, and whole runs. Run with ``pytest -m gpu``."""

import math
import time
from pathlib import Path

import pytest
import torch

import qbench
from qbench import plugins
from qbench.energy import Meter
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


def test_workers_share_the_gpu(tmp_path: Path) -> None:
    """Three at once on the same device: every cell ends well, and the results say how many there were."""
    registry, cells = tmp_path / "r.duckdb", ["target=source"]
    summary = qbench.run("smoke", registry, "cuda", workers=3, select=cells, cache_root=tmp_path / "cache")
    assert set(summary.statuses) == {"ok"}
    rows = Registry(registry).results("target=source").rows()
    assert len({row["device"] for row in rows}) == 1
    (environment,) = Registry(registry).sql("SELECT DISTINCT environment_id FROM results").fetchall()
    assert Registry(registry).environment(environment[0])["device"]["workers"] == 3


def test_a_worker_takes_no_more_than_its_part() -> None:
    """A twentieth of the memory holds a fortieth, and not a tenth."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.05)
    try:
        torch.empty(total // 40, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(total // 10, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_gpu_that_counts_joules_spends_watts() -> None:
    """More than 5 W and less than 2 kW over half a second of products; needs nvidia-ml-py."""
    pytest.importorskip("pynvml")
    x, meter = torch.randn(4096, 4096, device="cuda"), Meter(torch.device("cuda"))
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        (x @ x).sum().item()
    spent = meter.joules()
    assert spent is None or 5 < spent / 0.5 < 2000
