"""Runs with real worker processes: hostile quantizers, repetition, and what is planned."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from qbench import plan as planning
from qbench import plugins, runner
from qbench.errors import DataError, QBenchError, RegistryError, SuiteError
from qbench.registry import Registry
from qbench.schema import Result

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from brief_runs import options, rows, values
    from hostile_quantizers import EXPECTED, HOSTILE


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


def test_what_could_not_be_written_is_tried_again_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write of results fails: the run ends, says so, and has written what it had."""
    write, tried = Registry.write, 0

    def once_full(registry: Registry, results: Sequence[Result], wait: float = 30.0) -> bool:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise RegistryError("the disk is full")
        return write(registry, results, wait)

    monkeypatch.setattr(Registry, "write", once_full)
    monkeypatch.setattr(runner, "FLUSH_SECONDS", 0.0)
    with pytest.raises(RegistryError, match="the disk is full") as raised:
        runner.run(options(tmp_path, ["uniform", "binary"], workers=1))
    assert not isinstance(raised.value, runner.UnwrittenError)
    assert tried == 2
    assert len(rows(tmp_path / "r.duckdb")) == 1


def test_results_that_were_never_written_come_with_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(registry: Registry, results: Sequence[Result], wait: float = 30.0) -> bool:
        return False

    monkeypatch.setattr(Registry, "write", held)
    expected = (
        r"^2 finished results could not be written: .* was held by another process for 60 s; run the same"
    )
    with pytest.raises(runner.UnwrittenError, match=expected) as raised:
        runner.run(options(tmp_path, ["uniform", "binary"]))
    names = {one.cell.quantizer.name for one in raised.value.results if one.cell.quantizer}
    assert names == {"uniform", "binary"}


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
