"""``qbench run`` and ``qbench plan``: what they print, how they end, what is reused and what is kept."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import qbench
from qbench import api
from qbench import plan as planning
from qbench.cli import rendering
from qbench.cli.run import first_line, show_outcome
from qbench.registry_file import WAIT, RegistryFile
from qbench.runner import Summary

KEYS = {
    *("result_id", "cell_id", "run_id", "suite", "digest", "track", "quantizer", "parameters", "model"),
    *("dataset", "optimizer", "seed", "target", "device", "status", "error", "metrics"),
}


def test_a_run_prints_plan_table_outcome_and_failures(ran: Any) -> None:
    out = ran.ended.out
    assert ran.ended.code == 1
    assert re.search(r"rate-distortion +10 +10 +0\n", out)
    assert re.search(r"^lloyd-max\(bits=3\) +3\.\d\d +\d+\.\d\d +\(\d\.\d\d\)", out, re.MULTILINE)
    assert re.search(r"^ok +8\n", out, re.MULTILINE)
    assert re.search(r"^error +2\n", out, re.MULTILINE)
    assert re.search(r"[0-9a-f]{16} error: rate-distortion refuses gaussian: ValueError: \[bold\]x", out)
    assert re.search(r"^see one +qbench show [0-9a-f]{16} --registry ", out, re.MULTILINE)
    assert f"qbench results --registry {ran.registry}" in out
    assert "10/10" in ran.ended.err


def test_what_is_there_is_reused_and_an_old_failure_counts(qb: Callable[..., Any], ran: Any) -> None:
    again = ["--suite", ran.suite, "--registry", ran.registry, "--quantizer", "refuses", "--device", "cpu"]
    plan = qb("plan", *again, "--json").json
    assert [row["state"] for row in plan].count("reused") == 8
    failed = [row for row in plan if row["state"] == "failed"]
    assert [(row["quantizer"], row["dataset"]) for row in failed] == [
        ("refuses", "gaussian"),
        ("refuses", "laplacian"),
    ]
    assert "--retry-failed" in failed[0]["reason"]
    ended = qb("run", *again, "--json")
    assert ended.code == 1
    assert len(ended.json) == 10
    assert set(ended.json[0]) == KEYS
    assert "reused" in ended.err


def test_a_plan_changes_nothing(qb: Callable[..., Any], ran: Any, tmp_path: Path) -> None:
    registry = tmp_path / "new.duckdb"
    ended = qb("plan", "--suite", ran.suite, "--registry", registry, "--select", "dataset=gaussian", "--json")
    assert not registry.exists()
    assert len(ended.json) == 4
    assert {row["state"] for row in ended.json} == {"run"}
    assert {row["dataset"] for row in ended.json} == {"gaussian"}


def test_a_plan_says_which_data_is_missing(
    qb: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(tmp_path / "none"))
    suite = tmp_path / "m.toml"
    suite.write_text(
        'name = "m"\nversion = 1\n[[grid]]\ntrack = "ptq"\ntarget = "weight"\nquantizer = "uniform"\n'
        'model = "mlp"\ndataset = ["digits", "mnist"]\noptimizer = "adam"\n'
    )
    words = ["plan", "--suite", suite, "--registry", tmp_path / "r.duckdb"]
    assert re.search(r"to fetch +mnist, 11\.6 MB; --offline leaves it", qb(*words).out)
    offline = qb(*words, "--offline").out
    assert re.search(r"unavailable +1 cell: mnist:", offline)
    assert "to fetch      mnist" not in offline


def test_a_quantizer_that_fits_no_grid_is_told(qb: Callable[..., Any], tmp_path: Path, ran: Any) -> None:
    words = [
        "plan",
        "--suite",
        ran.suite,
        "--registry",
        tmp_path / "r.duckdb",
        "--select",
        "quantizer=uniform",
    ]
    assert "--quantizer kmeans fits no chosen grid" in qb(*words, "--quantizer", "kmeans").out


def test_a_run_says_what_comes_next(
    ran: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`qbench recipes` where learning rates were tried; the registry where it is not the usual one."""
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "rates.toml"
    suite.write_text(
        'name = "rates"\nversion = 1\n[[grid]]\ntrack = "float"\ntarget = "weight"\nmodel = "mlp"\n'
        'dataset = "digits"\noptimizer = ["adam(lr=0.01)", "adam(lr=0.03)"]\n'
    )
    for name, registry, steps in (
        (suite, "qbench.duckdb", ["qbench recipes", "qbench results", "qbench export results.parquet"]),
        (
            ran.suite,
            "r.duckdb",
            [f"qbench {c} --registry r.duckdb" for c in ("results", "export results.parquet")],
        ),
    ):
        plan = planning.make(api.options(suite=name, registry=registry, device="cpu"))
        show_outcome(rendering.Screen(), plan, Summary("run", tmp_path), [])
        lines = capsys.readouterr().out.splitlines()[-len(steps) :]
        assert [line[14:] for line in lines] == steps
        assert lines[0].startswith("next ")


def test_an_interrupted_run_keeps_what_was_finished(ran: Any, tmp_path: Path) -> None:
    suite, registry = tmp_path / "long.toml", tmp_path / "r.duckdb"
    grid = f'dataset = "gaussian"\nseed = {list(range(500))}'
    suite.write_text(
        ran.suite.read_text()
        .replace('dataset = ["gaussian", "laplacian"]\nseed = [0]', grid)
        .replace("draws = 2", "draws = 64")
    )
    words = ["run", "--suite", suite, "--registry", registry, "--workers", "1", "--device", "cpu"]
    command = [sys.executable, "-u", "-m", "qbench.cli", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not re.match("[1-9][0-9]*/2000", process.stderr.readline()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "What was finished is kept" in out
    held = qbench.open_registry(registry)
    assert held.sql("SELECT status FROM runs").fetchall() == [("interrupted",)]
    assert 1 <= len(held.results()) < 2000


def test_what_a_full_disk_did_not_take_is_shown(
    qb: Callable[..., Any], ran: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four results and a failure were measured: their table, how many they are, and exit code 2."""
    transaction, begun = RegistryFile.transaction, 0

    @contextlib.contextmanager
    def full(file: RegistryFile, wait: float = WAIT) -> Iterator[duckdb.DuckDBPyConnection]:
        nonlocal begun
        begun += 1
        with transaction(file, wait) as connection:
            yield connection
            if begun > 1:
                raise duckdb.IOException("Could not write file: No space left on device")

    monkeypatch.setattr(RegistryFile, "transaction", full)
    monkeypatch.setattr("qbench.runner.FLUSH_SECONDS", 600.0)
    words = ["--suite", ran.suite, "--registry", tmp_path / "r.duckdb", "--device", "cpu", "--workers", "1"]
    ended = qb("run", *words, "--quantizer", "refuses", "--select", "dataset=gaussian")
    assert ended.code == 2
    line = ended.err.splitlines()[-1]
    assert line.startswith(
        f"qbench: 5 finished results could not be written: the disk of {tmp_path}/r.duckdb"
    )
    out = ended.out.partition("not written  5 of the finished results are not in the registry")[2]
    for quantizer in (
        r"lloyd-max\(bits=3\)",
        r"uniform\(bits=2\)",
        r"uniform\(bits=4\)",
        "ecsq",
    ):
        assert re.search(rf"^{quantizer} +\d\.\d\d +\d+\.\d\d ", out, re.MULTILINE), quantizer
    assert re.search(r"^ +error: rate-distortion refuses.*: ValueError: \[bold\]x", out, re.MULTILINE)
    monkeypatch.undo()
    held = qbench.open_registry(tmp_path / "r.duckdb")
    assert len(held.results()) == 0
    assert held.sql("SELECT status FROM runs").fetchall() == [("running",)]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("shape (3,) is\nnot (4,)", "shape (3,) is"),
        ("Traceback (most recent call last):\n  File\nValueError: no", "ValueError: no"),
        (
            "its baseline ended as error: Traceback (most recent call last):\n  File\nValueError: no",
            "its baseline ended as error: ValueError: no",
        ),
        ("", ""),
    ],
)
def test_what_an_error_comes_to(error: str, says: str) -> None:
    assert first_line(error) == says
