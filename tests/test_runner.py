"""Runs with real worker processes: hostile quantizers, repetition, interruption, two runs at once."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qbench
from qbench import plan as planning
from qbench import plugins, runner
from qbench.errors import DataError, QBenchError, SuiteError
from qbench.registry import Registry

SUITE = """
name = "tiny"
version = 1
[[grid]]
track = "rate-distortion"
target = "source"
quantizer = {quantizers}
dataset = ["gaussian"]
seed = {seeds}
[grid.budget]
elements = 512
draws = 2
fit_elements = 512
"""

HOSTILE = '''
import os, sys, time
import torch
import qbench

class Base(qbench.Quantizer):
    sweep = ()
    def fit(self, x, *, context): return {}
    def encode(self, x, codebook, *, context): return {"bit": qbench.Stream((x > 0).long(), 2)}
    def decode(self, codes, codebook, shape): return 0.1 * (codes["bit"].values.float().reshape(shape) - 0.5)

class Raises(Base):
    name = "raises"
    def encode(self, x, codebook, *, context): raise RuntimeError("no, thank you")

class Hangs(Base):
    name = "hangs"
    def encode(self, x, codebook, *, context):
        while True: time.sleep(1)

class HangsInDecode(Base):
    name = "hangs-in-decode"
    def decode(self, codes, codebook, shape):
        while True: time.sleep(1)

class ReturnsNan(Base):
    name = "returns-nan"
    def decode(self, codes, codebook, shape): return torch.full(shape, float("nan"))

class WrongShape(Base):
    name = "wrong-shape"
    def decode(self, codes, codebook, shape): return torch.zeros(7)

class Hungry(Base):
    name = "hungry"
    def encode(self, x, codebook, *, context):
        eaten = []
        while True: eaten.append(torch.ones(1 << 24))

class ChangesDtype(Base):
    name = "changes-dtype"
    def encode(self, x, codebook, *, context):
        torch.set_default_dtype(torch.float64)
        return super().encode(x, codebook, context=context)

class DrawsGlobally(Base):
    name = "draws-globally"
    def encode(self, x, codebook, *, context):
        torch.rand(1)
        return super().encode(x, codebook, context=context)

class Exits(Base):
    name = "exits"
    def encode(self, x, codebook, *, context): sys.exit(0)

class ExitsHard(Base):
    name = "exits-hard"
    def encode(self, x, codebook, *, context): os._exit(0)

class ExitsInDecode(Base):
    name = "exits-in-decode"
    def decode(self, codes, codebook, shape): os._exit(0)

class Smuggles(Base):
    """Hides the tensor in a global; a decoder in the same process would find it."""
    name = "smuggles"
    hidden = {}
    def encode(self, x, codebook, *, context):
        Smuggles.hidden[tuple(x.shape)] = x
        return {"bit": qbench.Stream(torch.zeros(1, dtype=torch.long), 1)}
    def decode(self, codes, codebook, shape): return Smuggles.hidden.get(tuple(shape), torch.zeros(shape))

class Cheats(Base):
    """Hands the tensors over behind the core's back, in the order in which they were encoded."""
    name = "cheats"
    folder = os.environ.get("QBENCH_TEST_CHEAT", "")
    def encode(self, x, codebook, *, context):
        x.numpy().tofile(os.path.join(self.folder, f"{time.monotonic_ns():020d}"))
        return {"bit": qbench.Stream(torch.zeros(1, dtype=torch.long), 1)}
    def decode(self, codes, codebook, shape):
        import numpy
        oldest = os.path.join(self.folder, min(os.listdir(self.folder)))
        x = torch.from_numpy(numpy.fromfile(oldest, dtype="float32")).reshape(shape)
        os.unlink(oldest)
        return x

class EmptyError(Base):
    name = "empty-error"
    def encode(self, x, codebook, *, context): raise qbench.errors.InputError("")

class LongCrash(Base):
    name = "long-crash"
    def encode(self, x, codebook, *, context):
        print("x" * 200_000, flush=True)
        os._exit(3)

class OddSignal(Base):
    name = "odd-signal"
    def encode(self, x, codebook, *, context): os.kill(os.getpid(), 40)

class Babbles(Base):
    """Writes on every descriptor it can find, the line to the parent among them."""
    name = "babbles"
    def encode(self, x, codebook, *, context):
        for descriptor in map(int, os.listdir("/dev/fd")):
            try: os.write(descriptor, b"hello?\\n")
            except OSError: pass
        time.sleep(60)

class LeavesChild(Base):
    name = "leaves-child"
    def encode(self, x, codebook, *, context):
        if os.fork() == 0:
            time.sleep(120)
        os._exit(3)

class LeavesThread(Base):
    name = "leaves-thread"
    def encode(self, x, codebook, *, context):
        import threading
        threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
        return super().encode(x, codebook, context=context)

class Hint(qbench.Parameters):
    hint: str = ""

class HidesInHeader(Base):
    """Puts data into its own specification, which is free."""
    name = "hides-in-header"
    Parameters = Hint
    def encode(self, x, codebook, *, context):
        self.parameters = Hint(hint="".join("01"[int(v > 0)] for v in x[:64]))
        return super().encode(x, codebook, context=context)

class HidesInCodebook(Base):
    """Writes the tensor into a codebook that existed before; the decoder must not find it there."""
    name = "hides-in-codebook"
    def encode(self, x, codebook, *, context):
        codebook["x"] = x
        return {"bit": qbench.Stream(torch.zeros(1, dtype=torch.long), 1)}
    def decode(self, codes, codebook, shape): return codebook.get("x", torch.zeros(shape))

class Honest(Base):
    name = "honest"
    sweep = ({},)

@qbench.hookimpl
def qbench_quantizers():
    return [Raises, Hangs, HangsInDecode, ReturnsNan, WrongShape, Hungry, ChangesDtype, DrawsGlobally, Exits, ExitsHard,
            ExitsInDecode, Smuggles, Cheats, EmptyError, LongCrash, OddSignal, Babbles, LeavesChild, LeavesThread,
            HidesInHeader, HidesInCodebook, Honest]
'''

EXPECTED = {
    "raises": ("error", "no, thank you"),
    "hangs": ("timeout", "no result within"),
    "hangs-in-decode": ("timeout", "no result within"),
    "returns-nan": ("invalid", "NaN"),
    "wrong-shape": ("invalid", "instead of shape"),
    "hungry": ("out_of_memory", "GiB"),
    "changes-dtype": ("error", "the default dtype"),
    "draws-globally": ("error", "global random state"),
    "exits": ("error", "SystemExit"),
    "exits-hard": ("crashed", "exit code 0"),
    "exits-in-decode": ("crashed", "ended without an answer"),
    "cheats": ("impossible", "below the limit"),
    "empty-error": ("error", "no word why"),
    "long-crash": ("crashed", "xxxx"),
    "odd-signal": ("crashed", "signal 40"),
    "babbles": ("crashed", "the process ended"),
    "leaves-child": ("crashed", "exit code 3"),
    "leaves-thread": ("error", "the running threads"),
    "hides-in-header": ("error", "while coding"),
    "hides-in-codebook": ("ok", None),
    "smuggles": ("ok", None),
    "honest": ("ok", None),
}


def options(
    tmp_path: Path, quantizers: list[str], seeds: list[int] | None = None, **changes: Any
) -> planning.Options:
    suite = tmp_path / "tiny.toml"
    suite.write_text(SUITE.format(quantizers=str(quantizers).replace("'", '"'), seeds=seeds or [0]))
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


def test_hostile_quantizers_are_one_row_each_and_every_other_cell_is_ok(
    tmp_path: Path, distribution: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(HOSTILE)
    (tmp_path / "cheat").mkdir()
    monkeypatch.setenv("QBENCH_TEST_CHEAT", str(tmp_path / "cheat"))
    plugins.catalog.cache_clear()
    try:
        summary = runner.run(options(tmp_path, list(EXPECTED), timeout=15.0, memory=2 << 30))
    finally:
        plugins.catalog.cache_clear()
    found = {row["quantizer"]: row for row in rows(tmp_path / "r.duckdb")}
    assert {name: row["status"] for name, row in found.items()} == {
        name: e[0] for name, e in EXPECTED.items()
    }
    for name, (_, words) in EXPECTED.items():
        assert words is None or words in found[name]["error"]
    assert summary.exit_code == 1
    # nothing but zeros reaches these decoders: their error is the source's variance, 1 within 4 standard errors
    for name in ("smuggles", "hides-in-codebook"):
        assert found[name]["metrics"]["mse"]["value"] == pytest.approx(1.0, abs=4 * (2 / 1024) ** 0.5)


def test_the_same_cell_twice_gives_equal_measurements(tmp_path: Path) -> None:
    names = ["uniform", "stochastic-rounding", "topk", "ecsq", "nested-lattice:lattice=Z"]
    (tmp_path / "again").mkdir()
    runner.run(options(tmp_path, names))
    runner.run(options(tmp_path / "again", names, workers=1))
    assert values(tmp_path / "r.duckdb") == values(tmp_path / "again" / "r.duckdb")


def test_what_is_done_is_reused_and_force_runs_it_again(tmp_path: Path) -> None:
    chosen = options(tmp_path, ["uniform", "binary"])
    assert runner.run(chosen).statuses == {"ok": 2}
    again = runner.run(chosen)
    assert (again.statuses, again.reused) == ({}, 2)
    assert runner.run(options(tmp_path, ["uniform", "binary"], force=True)).statuses == {"ok": 2}
    assert len(rows(tmp_path / "r.duckdb")) == 2
    assert len(rows(tmp_path / "r.duckdb", all=True)) == 4


def test_failures_are_kept_and_run_again_only_when_asked(
    tmp_path: Path, distribution: Callable[..., Path]
) -> None:
    path = distribution(HOSTILE)
    plugins.catalog.cache_clear()
    try:
        chosen = options(tmp_path, ["raises"])
        assert runner.run(chosen).statuses == {"error": 1}
        kept = runner.run(chosen)
        assert (kept.statuses, kept.failed_before, kept.exit_code) == ({}, 1, 1)
        assert runner.run(options(tmp_path, ["raises"], retry_failed=True)).statuses == {"error": 1}
        assert len(rows(tmp_path / "r.duckdb", all=True)) == 2
    finally:
        plugins.catalog.cache_clear()
        path.unlink()


def test_a_selection_that_no_cell_meets_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no cell of suite"):
        planning.make(options(tmp_path, ["uniform"], select=["quantizer=binary"]))
    assert not (tmp_path / "r.duckdb").exists()


def test_a_selection_of_an_unknown_name_is_an_error_also_beside_a_known_one(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no quantizer is called so; installed: .*uniform"):
        planning.make(options(tmp_path, ["uniform"], select=["quantizer=uniform,binray"]))


def test_cuda_without_a_device_is_one_clear_error(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(QBenchError, match="no CUDA device"):
        planning.make(options(tmp_path, ["uniform"], device="cuda"))


def test_nothing_to_run_for_want_of_data_is_an_error(tmp_path: Path) -> None:
    chosen = options(tmp_path, [], offline=True)
    Path(chosen.suite).write_text(
        'name = "needs-data"\nversion = 1\n[[grid]]\ntrack = "ptq"\ntarget = "weight"\nquantizer = "uniform"\n'
        'model = "mlp"\ndataset = "mnist"\noptimizer = "adam"\n'
    )
    plan = planning.make(chosen)
    assert plan.count("unavailable") == len(plan.cells) == 1
    with pytest.raises(DataError, match="no cell can run: mnist"):
        runner.execute(plan)
    assert not (tmp_path / "r.duckdb").exists()


def test_a_time_budget_leaves_the_rest_pending(tmp_path: Path) -> None:
    summary = runner.run(options(tmp_path, ["uniform"], seeds=list(range(2000)), time_budget=6.0))
    assert summary.pending > 0
    assert summary.pending + summary.statuses["ok"] == 2000
    assert len(rows(tmp_path / "r.duckdb")) == summary.statuses["ok"]


def test_under_a_time_budget_every_method_comes_before_any_method_twice(tmp_path: Path) -> None:
    plan = planning.make(options(tmp_path, [], suite="smoke", time_budget=60.0))
    cells = [p for p in plan.cells if p.state == "run"]
    order = [task for task in runner.order_tasks(cells, plan) if task.question["op"] == "cell"]
    by_id = {p.cell.cell_id: p.cell for p in cells}
    lines = [(c.track, c.target, c.quantizer.name) for c in (by_id[t.key] for t in order) if c.quantizer]
    methods = len(set(lines))
    assert len(set(lines[:methods])) == methods
    # sources need no baseline: they come first
    assert {target for _, target, _ in lines[:5]} == {"source"}


def test_a_baseline_stands_just_before_the_first_cell_that_needs_it(tmp_path: Path) -> None:
    plan = planning.make(options(tmp_path, [], suite="smoke"))
    tasks = runner.order_tasks([p for p in plan.cells if p.state == "run"], plan)
    assert len(tasks) == len({task.key for task in tasks})
    for before, task in itertools.pairwise(tasks):
        if before.question["op"] == "baseline":
            assert task.after == before.key


RUN = """
import sys
from pathlib import Path
from qbench import plan, runner
runner.run(plan.Options(suite=sys.argv[1], registry=Path(sys.argv[2]), workers=2, device="cpu",
                        data_root=Path(sys.argv[2]).parent / "data", cache_root=Path(sys.argv[2]).parent / "cache"))
"""


def test_what_needs_a_model_that_cannot_be_trained_is_blocked(tmp_path: Path) -> None:
    suite = tmp_path / "diverging.toml"
    suite.write_text("""
name = "diverging"
version = 1
[[grid]]
track = "qat"
target = "weight"
quantizer = "uniform"
model = "mlp(width=4,depth=1)"
dataset = "digits"
optimizer = "sgd(lr=1e30)"
[grid.budget]
training = { epochs = 1 }
finetune = { epochs = 1 }
""")
    chosen = options(tmp_path, [], suite=str(suite))
    planned = planning.make(chosen).cells[0]
    assert [recipe.further is None for recipe in planned.recipes] == [True, False]
    assert runner.run(chosen).statuses == {"blocked": 1}
    error = rows(tmp_path / "r.duckdb")[0]["error"]
    assert error.startswith("its baseline ended as blocked: its baseline ended as error")
    assert "lower lr" in error


def start(suite: str, registry: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, suite, str(registry)])


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
