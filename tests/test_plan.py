"""Cells know the content of a user's own files."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from qbench import plan, runner
from qbench.places import CACHE_VARIABLE

SUITE = """
name = "own"
version = 1
[[grid]]
track = "ptq"
target = "weight"
quantizer = "binary"
model = "mlp(width=4,depth=1)"
dataset = "imagefolder(path=mine)"
optimizer = "adam"
[grid.budget]
calibration = 4
training = { epochs = 1, batch_size = 4, validation = 0.0, selection = "last" }
"""


def paint(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> plan.Options:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for part in ("train", "test"):
        for number, grey in enumerate((0, 90, 180, 250)):
            paint(tmp_path / "mine" / part / f"class{number % 2}" / f"{number}.png", grey + number)
    (tmp_path / "own.toml").write_text(SUITE)
    return plan.Options(
        suite=str(tmp_path / "own.toml"),
        registry=tmp_path / "own.duckdb",
        device="cpu",
        data_root=tmp_path,
        cache_root=tmp_path / "cache",
    )


def test_other_pictures_are_other_work(options: plan.Options) -> None:
    (before,) = plan.make(options).cells
    (again,) = plan.make(options).cells
    paint(options.data_root / "mine" / "test" / "class1" / "1.png", 7)
    (after,) = plan.make(options).cells
    assert again.fingerprint == before.fingerprint
    assert after.cell == before.cell
    assert after.fingerprint != before.fingerprint


def test_pictures_that_are_not_there_are_unavailable(options: plan.Options) -> None:
    (options.data_root / "mine" / "test").rename(options.data_root / "elsewhere")
    (cell,) = plan.make(options).cells
    assert cell.state == "unavailable"
    assert "imagefolder" in cell.reason


GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine with that many cores and bytes, and a GPU of that many bytes."""

    def made(cores: int, memory: int, gpu_memory: int) -> None:
        monkeypatch.setattr(plan.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
        monkeypatch.setattr(plan.psutil, "virtual_memory", lambda: SimpleNamespace(total=memory))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        gpu = SimpleNamespace(total_memory=gpu_memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)

    return made


@pytest.mark.parametrize(
    ("cores", "memory", "gpu_memory", "workers"),
    [
        (16, 128 * GIB, 79 * GIB, 4),
        (16, 128 * GIB, 139 * GIB, 4),
        (16, 128 * GIB, 39 * GIB, 3),
        (16, 128 * GIB, 23 * GIB, 2),
        (16, 128 * GIB, 15 * GIB, 1),
        (16, 128 * GIB, 6 * GIB, 1),
        (2, 128 * GIB, 79 * GIB, 2),
        (16, 4 * GIB, 79 * GIB, 2),
        (16, 1 * GIB, 79 * GIB, 1),
    ],
)
def test_workers_share_a_gpu_where_its_memory_allows(
    options: plan.Options, machine, cores: int, memory: int, gpu_memory: int, workers: int
) -> None:
    """One for each 10 GiB of the GPU, core, and 1.5 GiB of four fifths of main memory; at most 4, at least 1."""
    machine(cores, memory, gpu_memory)
    made = plan.make(replace(options, device="cuda"))
    assert (made.device_kind, made.workers) == ("cuda", workers)
    assert plan.make(replace(options, device="auto")).workers == workers
    assert plan.make(replace(options, device="cuda", workers=7)).workers == 7


def test_workers_on_a_cpu_know_nothing_of_the_gpu(options: plan.Options, machine) -> None:
    machine(16, 128 * GIB, 15 * GIB)
    made = plan.make(options)
    assert (made.device_kind, made.workers) == ("cpu", 16)


@pytest.mark.parametrize(("workers", "share"), [(1, 1.0), (2, 0.4), (3, 0.8 / 3), (8, 0.8 / 3)])
def test_each_worker_has_an_equal_part_of_the_gpu(
    options: plan.Options, machine, workers: int, share: float
) -> None:
    """Three cells, so never more than three workers; one alone may take everything."""
    machine(16, 128 * GIB, 79 * GIB)
    suite = Path(options.suite)
    suite.write_text(suite.read_text().replace('target = "weight"', 'target = "weight"\nseed = [0, 1, 2]'))
    pool = runner._pool(plan.make(replace(options, device="cuda", workers=workers)))
    assert (pool.settings.device, pool.size) == ("cuda", min(workers, 3))
    assert pool.settings.device_share == pytest.approx(share)
