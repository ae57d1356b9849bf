"""Runs that are killed at random moments, and two at once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qbench
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from brief_runs import RUN, options, rows, start, values


def descendants(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def gone(pids: list[int], within: float = 10.0) -> bool:
    import psutil

    end = time.monotonic() + within
    while time.monotonic() < end:
        if not any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids):
            return True
        time.sleep(0.1)
    return False


def without_stars(folder: Path) -> Path:
    """The smoke suite without its grids of every quantizer: each track stays, and a run is short enough to repeat."""
    smoke = Path(qbench.__file__).parent / "suites" / "smoke.toml"
    head, *grids = smoke.read_text().split("[[grid]]")
    path = folder / "brief.toml"
    path.write_text("[[grid]]".join([head, *(grid for grid in grids if 'quantizer = "*"' not in grid)]))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_at_random_moments_a_run_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Ten kills of runs under way, of the parent alone and of a worker before it, at moments drawn from a fixed seed.

    A run that ends before its moment is no kill: the next one begins a registry of its own.
    """
    suite = str(without_stars(tmp_path))
    undisturbed, folder = tmp_path / "a" / "r.duckdb", tmp_path / "b"
    undisturbed.parent.mkdir()
    folder.mkdir()
    began = time.monotonic()
    assert start(suite, undisturbed).wait() == 0
    length = time.monotonic() - began
    moments, disturbed, kills = random.Random(7), [folder / "0.duckdb"], 0
    while kills < 10:
        process = start(suite, disturbed[-1])
        time.sleep(2.0 + moments.random() * 0.4 * length)
        while kills % 2 and process.poll() is None and not descendants(process.pid):
            time.sleep(0.1)  # a worker can only be killed once there is one
        if process.poll() is not None:
            disturbed.append(folder / f"{len(disturbed)}.duckdb")
            continue
        kill(process, moments.choice(descendants(process.pid)) if kills % 2 else None)
        kills += 1
    script = RUN.replace('device="cpu"', 'device="cpu", retry_failed=True')
    for registry in disturbed:
        resumed = subprocess.run([sys.executable, "-c", script, suite, str(registry)], check=False)
        assert resumed.returncode == 0
        assert {row["status"] for row in rows(registry)} == {"ok"}
        assert values(registry) == values(undisturbed)
        done = [row["cell_id"] for row in rows(registry, all=True) if row["status"] == "ok"]
        assert len(done) == len(set(done)) == len(rows(undisturbed))


def kill(process: "subprocess.Popen[bytes]", worker: int | None) -> None:
    """kill -9 of a run, a second after that of one of its workers where one is named; nothing of it may stay."""
    children = descendants(process.pid)
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
        time.sleep(1.0)
        children = descendants(process.pid) or children
    process.kill()
    process.wait()
    assert gone(children)


@pytest.mark.slow
def test_two_runs_and_a_reader_share_a_registry(tmp_path: Path) -> None:
    chosen = options(tmp_path, ["uniform", "binary", "lloyd-max"], seeds=list(range(40)))
    registry = tmp_path / "r.duckdb"
    parents = [start(chosen.suite, registry) for _ in range(2)]
    waits = []
    while any(parent.poll() is None for parent in parents):
        began = time.monotonic()
        if registry.exists():
            Registry(registry).sql("select count(*) from results").fetchall()
            waits.append(time.monotonic() - began)
        time.sleep(0.2)
    assert [parent.wait() for parent in parents] == [0, 0]
    done = [row["cell_id"] for row in rows(registry, all=True)]
    assert len(done) == len(set(done)) == 120
    assert len(waits) > 10
