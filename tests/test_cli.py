"""The command line: what it prints, how it ends, and that bad input is one line and harms nothing."""

import contextlib
import io
import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import torch
from rich.text import Text
from safetensors.torch import save_file

import qbench
from qbench import cli, plugins
from qbench.cli import interrupts, rendering, results, summary
from qbench.cli.comparison import Point, alike, mark_front, worth_showing
from qbench.cli.headlines import Measured
from qbench.cli.run import first_line
from qbench.errors import DataError
from qbench.measuring import Distortion
from qbench.schema import Cell, Spec

SUITE = """
name = "tiny"
version = 1
[[grid]]
track = "rate-distortion"
target = "source"
quantizer = ["uniform(bits=2)", "uniform(bits=4)", "lloyd-max(bits=3)", "ecsq(rate=2.0)"]
dataset = ["gaussian", "laplacian"]
[grid.budget]
elements = 256
draws = 2
fit_elements = 256
"""
HOSTILE = "[bold]x[/bold]\x1b[2J"
STRANGER = '''
import qbench

class Refuses(qbench.Quantizer):
    """Refuses, in words that would steer a terminal."""

    name = "refuses"

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        raise ValueError("[bold]x[/bold]\\x1b[2J")

    def decode(self, codes, codebook, shape):
        raise NotImplementedError

@qbench.hookimpl
def qbench_quantizers():
    return [Refuses]
'''
KEYS = {
    *("result_id", "cell_id", "run_id", "suite", "digest", "track", "quantizer", "parameters", "model"),
    *("dataset", "optimizer", "seed", "target", "device", "status", "error", "metrics"),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def qb(*words: object) -> Ended:
    """Run a command in this process, stdout and stderr apart, neither a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.command_line(args=[str(word) for word in words], prog_name="qbench")
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def refused(ended: Ended, words: str = "") -> None:
    """Exit code 2, nothing on stdout, one line on stderr."""
    assert ended.code == 2
    assert ended.out == ""
    assert re.fullmatch(r"qbench: [^\n]*\n", ended.err)
    assert words in ended.err


@dataclass(frozen=True)
class Ran:
    """A finished run of the tiny suite with one quantizer that fails."""

    ended: Ended
    registry: Path
    suite: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, make_distribution: Callable[..., Path]) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("cli")
    make_distribution(folder, STRANGER)
    (folder / "tiny.toml").write_text(SUITE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("QBENCH_CACHE", str(folder / "cache"))
        plugins.catalog.cache_clear()
        registry = folder / "r.duckdb"
        common = ["--suite", folder / "tiny.toml", "--registry", registry, "--device", "cpu"]
        yield Ran(
            qb("run", *common, "--quantizer", "refuses", "--workers", 1), registry, folder / "tiny.toml"
        )
    plugins.catalog.cache_clear()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a.weight": torch.randn(32, 16, generator=generator),
        "b.weight": 3 * torch.randn(8, 64, generator=generator),
        "b.bias": torch.randn(64, generator=generator),
        "steps": torch.tensor([1, 2]),
    }
    save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


# --- without anything heavy ---


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, qbench.cli\n"
        "try:\n    qbench.cli.command_line(args=['--help'], prog_name='qbench')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({'torch', 'pydantic', 'duckdb', 'rich', 'numpy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    assert "Run a suite and write its results." in shown


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_short_helps_are_the_commands_own(name: str) -> None:
    command = cli.command_line.get_command(click.Context(cli.command_line), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(100) == cli.COMMANDS[name][1]
    assert qb(name, "--help").code == 0


def test_version_and_no_command() -> None:
    assert qb("--version").out == f"qbench {qbench.__version__}\n"
    assert qb().out == qb("--help").out


def test_reading_results_loads_no_torch(ran: Ran) -> None:
    program = (
        "import sys, qbench.cli\n"
        f"try:\n    qbench.cli.command_line(args=['results', '--registry', {str(ran.registry)!r}])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


# --- run, plan ---


def test_a_run_prints_plan_table_outcome_and_failures(ran: Ran) -> None:
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


def test_output_is_plain_and_at_most_100_columns_wide(ran: Ran) -> None:
    outputs = [
        ran.ended,
        qb("results", "--registry", ran.registry),
        qb("plugins"),
        qb("plan", "--suite", "smoke"),
    ]
    for ended in outputs:
        assert "\x1b" not in ended.out + ended.err
        lines = (ended.out + ended.err).splitlines()
        long = [line for line in lines if len(line) > 100 and str(ran.registry) not in line]
        assert long == []


def test_what_is_there_is_reused_and_an_old_failure_counts(ran: Ran) -> None:
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


def test_a_plan_changes_nothing(ran: Ran, tmp_path: Path) -> None:
    registry = tmp_path / "new.duckdb"
    ended = qb("plan", "--suite", ran.suite, "--registry", registry, "--select", "dataset=gaussian", "--json")
    assert not registry.exists()
    assert len(ended.json) == 4
    assert {row["state"] for row in ended.json} == {"run"}
    assert {row["dataset"] for row in ended.json} == {"gaussian"}


def test_a_plan_says_which_data_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_quantizer_that_fits_no_grid_is_told(tmp_path: Path, ran: Ran) -> None:
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


def test_an_interrupted_run_keeps_what_was_finished(tmp_path: Path) -> None:
    suite, registry = tmp_path / "long.toml", tmp_path / "r.duckdb"
    grid = f'dataset = "gaussian"\nseed = {list(range(500))}'
    suite.write_text(
        SUITE.replace('dataset = ["gaussian", "laplacian"]', grid).replace("draws = 2", "draws = 64")
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


def pressed_three_times() -> None:
    with interrupts.orderly():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_the_second_interruption_waits_and_the_third_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pressed_three_times()
    assert capsys.readouterr().err.count("once more to stop at once") == 1
    assert signal.getsignal(signal.SIGINT) == before


# --- bad input ---


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["--bogus"], "--bogus"),
        (["run", "--suite", "bogus"], "no suite is called 'bogus'; installed:"),
        (["run", "--suite", "{tmp}/none.toml"], "cannot read suite"),
        (["run", "--suite", "{tmp}/broken.toml"], "is not valid TOML"),
        (["run", "--suite", "{tmp}/keys.toml"], "unknown key 'colour'"),
        (["plan", "--suite", "{suite}", "--select", "track"], "cannot read selection term 'track'"),
        (["plan", "--suite", "{suite}", "--select", "track=ptq"], "no cell of suite 'tiny' meets"),
        (["plan", "--suite", "{suite}", "--quantizer", "bogus"], "no quantizer is called 'bogus'"),
        (["plan", "--suite", "{suite}", "--quantizer", "uniform:bits=99"], "bits=99"),
        (["plan", "--suite", "{suite}", "--quantizer", "uniform(bits"], "cannot read 'uniform(bits'"),
        (["run", "--suite", "{suite}", "--workers", "0"], "workers"),
        (["run", "--suite", "{suite}", "--device", "abacus"], "abacus"),
        (["run", "--suite", "{suite}", "--time-budget", "soon"], "time_budget='soon'"),
        (["run", "--suite", "{suite}", "--timeout", "0"], "timeout='0'"),
        (["run", "--suite", "{suite}", "--memory", "lots"], "memory='lots'"),
        (["run", "--suite", "{suite}", "--registry", "{tmp}"], "is a folder"),
        (["run", "--suite", "{suite}", "--registry", "{tmp}/keys.toml"], "is not a DuckDB file"),
        (["run", "--suite", "{suite}", "--registry", "{tmp}/none/r.duckdb"], "there is no folder"),
        (["results", "--registry", "{tmp}/none.duckdb"], "no registry at"),
        (["results", "--registry", "{registry}", "--where", "colour=red"], "unknown key 'colour'"),
        (["results", "--registry", "{registry}", "--limit", "0"], "limit"),
        (["show", "zzz", "--registry", "{registry}"], "no result 'zzz'"),
        (["show", "", "--registry", "{registry}"], "no result ''"),
        (["show"], "RESULT"),
        (["export", "{tmp}/none/x.parquet", "--registry", "{registry}"], "cannot export"),
        (["export", "{tmp}", "--registry", "{registry}"], "cannot export"),
        (
            ["merge", "{tmp}/keys.toml", "--registry", "{tmp}/m.duckdb"],
            "neither a Parquet file nor a registry",
        ),
        (["merge", "{tmp}/none", "--registry", "{tmp}/m.duckdb"], "none"),
        (["fetch", "bogus"], "no dataset is called 'bogus'"),
        (["fetch", "gaussian"], "nothing to fetch"),
        (["measure", "{tmp}/none", "--quantizer", "uniform"], "no such file"),
        (["measure", "{tmp}", "--quantizer", "uniform"], "not a file"),
        (["measure", "{tmp}/keys.toml", "--quantizer", "uniform"], "not a whole safetensors file"),
        (["measure", "{tmp}/keys.toml"], "--quantizer"),
    ],
)
def test_bad_input_is_one_line_and_code_2(ran: Ran, tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "keys.toml").write_text("colour = 'red'\n" + SUITE)
    before = qb("results", "--registry", ran.registry, "--all", "--json").out
    given = [w.format(tmp=tmp_path, suite=ran.suite, registry=ran.registry) for w in words]
    if given[0] in ("run", "plan") and "--registry" not in given:
        given += ["--registry", str(tmp_path / "r.duckdb")]
    refused(qb(*given), says)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.toml", "keys.toml"]
    assert qb("results", "--registry", ran.registry, "--all", "--json").out == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_bad_input(ran: Ran, tmp_path: Path) -> None:
    words = ["--suite", ran.suite, "--registry", tmp_path / "r.duckdb", "--device", "cuda"]
    refused(qb("run", *words), "no CUDA device")


def test_a_registry_of_a_newer_version_is_refused_and_left_alone(ran: Ran, tmp_path: Path) -> None:
    newer = tmp_path / "newer.duckdb"
    newer.write_bytes(ran.registry.read_bytes())
    with contextlib.closing(duckdb.connect(str(newer))) as connection:
        connection.execute("INSERT INTO migrations VALUES (999, 'later', current_timestamp::TIMESTAMP)")
    content = newer.read_bytes()
    for words in (["results"], ["run", "--suite", ran.suite, "--device", "cpu"], ["show", "0"]):
        refused(qb(*words, "--registry", newer), "schema version 999")
    assert newer.read_bytes() == content


def test_a_damaged_weights_file_is_refused(weights: Path) -> None:
    whole = weights.read_bytes()
    for size in (4, 100, len(whole) - 10):
        weights.write_bytes(whole[:size])
        refused(qb("measure", weights, "--quantizer", "uniform"), "not a whole safetensors file")


# --- results, show, export, merge ---


def test_results_as_json_have_exactly_the_stated_keys(ran: Ran) -> None:
    rows = qb("results", "--registry", ran.registry, "--json").json
    assert len(rows) == 10
    assert all(set(row) == KEYS for row in rows)
    assert {row["suite"] for row in rows} == {"tiny"}
    assert all(set(metric) == {"value", "unit", "n"} for row in rows for metric in row["metrics"].values())
    assert {row["status"] for row in rows if row["quantizer"] == "refuses"} == {"error"}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--where", "quantizer=uniform"], 4),
        (["--where", "quantizer=uniform", "--where", "bits=2 dataset=laplacian"], 1),
        (["--where", "status=error"], 2),
        (["--suite", "tiny"], 10),
        (["--suite", "other"], 0),
        (["--limit", "3"], 3),
    ],
)
def test_results_are_selected(ran: Ran, words: list[str], count: int) -> None:
    assert len(qb("results", "--registry", ran.registry, "--json", *words).json) == count


def test_results_for_people(ran: Ran) -> None:
    out = qb("results", "--registry", ran.registry).out
    assert re.search(
        r"^[0-9a-f]{10}  uniform\(bits=2\) +gaussian +2\.\d{3} +\d\.\d\d dB +ok$", out, re.MULTILINE
    )
    assert re.search(r"refuses +gaussian +- +- +error", out)
    assert "10 results, track rate-distortion, seed 0" in out
    assert qb("results", "--registry", ran.registry, "--suite", "other").out == "no results\n"


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


def test_show_tells_everything_and_how_to_do_it_again(ran: Ran, tmp_path: Path) -> None:
    row = qb(
        "results", "--registry", ran.registry, "--json", "--where", "quantizer=lloyd-max dataset=gaussian"
    ).json[0]
    shown = qb("show", row["result_id"][:8], "--registry", ran.registry).out
    mse = row["metrics"]["mse"]
    assert re.search(rf"^mse +{mse['value']:.6g} +mse +2 ", shown, re.MULTILINE)
    for text in (row["cell_id"], row["run_id"], "rate_class", f"torch {torch.__version__.split('+')[0]}"):
        assert text in shown
    again = qb("show", row["result_id"], "--registry", ran.registry, "--json").json[0]["command"]
    assert again in shown
    words = again.split()[1:]
    words[words.index("tiny")] = str(ran.suite)
    words[words.index(str(ran.registry))] = str(tmp_path / "r.duckdb")
    assert words.pop(0) == "run"
    plan = qb("plan", *(word.strip("'") for word in words), "--json").json
    assert [cell["cell_id"] for cell in plan] == [row["cell_id"]]


def test_show_prints_a_failure_without_obeying_it(ran: Ran) -> None:
    row = qb("results", "--registry", ran.registry, "--json", "--where", "status=error").json[0]
    shown = qb("show", row["result_id"], "--registry", ran.registry).out
    assert "[bold]x[/bold]\\x1b[2J" in shown
    assert "Traceback" in shown
    assert "\x1b" not in shown


def test_export_and_merge_go_round(ran: Ran, tmp_path: Path) -> None:
    parquet, copy = tmp_path / "out.parquet", tmp_path / "copy.duckdb"
    assert "10 results written" in qb("export", parquet, "--registry", ran.registry).out
    first = qb("merge", parquet, "--registry", copy, "--json").json
    assert first == [{"added": 10, "present": 0, "rejected": 0, "reason": None}]
    second = qb("merge", parquet, ran.registry, "--registry", copy)
    assert second.code == 0
    assert "0 new, 20 known, 0 rejected" in second.out
    theirs, ours = (qb("results", "--registry", path, "--json").json for path in (copy, ran.registry))
    assert sorted(theirs, key=lambda row: str(row["result_id"])) == sorted(
        ours, key=lambda row: str(row["result_id"])
    )


def test_a_reader_that_leaves_is_no_error(ran: Ran) -> None:
    command = [sys.executable, "-m", "qbench.cli", "results", "--registry", str(ran.registry), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


# --- measure ---


def test_measure_counts_what_the_library_counts(weights: Path) -> None:
    ended = qb("measure", weights, "--quantizer", "uniform:bits=4", "--json")
    rows = {row["tensor"]: row for row in ended.json}
    assert ended.code == 0
    assert set(rows) == {"a.weight", "b.weight", "b.bias", "steps", None}
    assert (rows["steps"]["status"], rows["steps"]["rate"]) == ("skipped", None)
    quantizer, total, size = qbench.quantizer("uniform", bits=4), Distortion(0, 0, 0, 0, 0), 0
    generator = torch.Generator().manual_seed(0)
    drawn = {"a.weight": torch.randn(32, 16, generator=generator)}
    drawn["b.weight"] = 3 * torch.randn(8, 64, generator=generator)
    drawn["b.bias"] = torch.randn(64, generator=generator)
    for name, x in drawn.items():
        found = qbench.measure(quantizer, x)
        assert rows[name]["mse"] == found.mse
        assert rows[name]["bytes"] == found.rate * x.numel() / 8
        total, size = total + Distortion.between(x, found.reconstruction), size + rows[name]["bytes"]
    assert rows[None]["bytes"] == size
    assert rows[None]["rate"] == 8 * size / 1088
    assert math.isclose(rows[None]["sqnr_db"], total.sqnr_db, rel_tol=1e-12)


def test_measure_draws_a_table_per_quantizer(weights: Path) -> None:
    ended = qb(
        "measure", weights, "--quantizer", "uniform:bits=8", "--quantizer", "binary", "--tensor", "*.weight"
    )
    assert ended.code == 0
    assert ended.out.count("a.weight  32 x 16") == 2
    assert ended.out.count("total     1,024 elements") == 2
    assert "bias" not in ended.out


def test_measure_skips_what_it_cannot_take_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    tensors = {HOSTILE: torch.ones(2, 2), "nan": torch.tensor([math.nan]), "none": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "w.safetensors")
    ended = qb("measure", tmp_path / "w.safetensors", "--quantizer", "uniform", "--channel-axis", 0)
    assert ended.code == 1
    assert re.search(r"error: nan 1: 1 of 1 elements are NaN", ended.out)
    assert "skipped: none 0 x 2: it is empty" in ended.out
    assert "[bold]x[/bold]\\x1b[2J" in ended.out
    assert "\x1b" not in ended.out + ended.err
    ended = qb("measure", tmp_path / "w.safetensors", "--quantizer", "uniform", "--channel-axis", 1, "--json")
    assert {row["tensor"]: row["error"] for row in ended.json}["nan"] == "it has no axis 1"


def test_a_tensor_that_loses_nothing_has_no_sqnr_in_json(tmp_path: Path) -> None:
    save_file({"zero": torch.zeros(8)}, tmp_path / "w.safetensors")
    row = qb("measure", tmp_path / "w.safetensors", "--quantizer", "uniform", "--json").json[0]
    assert (row["mse"], row["sqnr_db"]) == (0.0, None)


def test_an_unknown_tensor_says_which_there_are(weights: Path) -> None:
    refused(
        qb("measure", weights, "--quantizer", "uniform", "--tensor", "c.*"),
        "it holds a.weight, b.bias, b.weight",
    )


# --- plugins, doctor, fetch ---


def test_plugins_lists_components_and_what_is_broken(distribution: Any) -> None:
    distribution(f"raise ImportError({HOSTILE!r})", name="ill")
    rows = qb("plugins", "--json").json
    assert all(set(r) == {"kind", "name", "distribution", "version", "entry_point", "error"} for r in rows)
    uniform = [row for row in rows if (row["kind"], row["name"]) == ("quantizer", "uniform")]
    assert [(row["distribution"], row["error"]) for row in uniform] == [("qbench-suite", None)]
    shown = qb("plugins")
    assert shown.code == 0
    assert "entry point ill of ill 1.0: ImportError: [bold]x[/bold]\\x1b[2J" in shown.out
    assert "\x1b" not in shown.out


def test_doctor_has_a_line_for_everything(ran: Ran, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(tmp_path))
    ended = qb("doctor", "--registry", ran.registry, "--json")
    assert ended.code == 0
    assert all(set(row) == {"check", "status", "detail", "remedy"} for row in ended.json)
    found = {row["check"]: row for row in ended.json}
    assert {"python", "torch", "duckdb", "device", "cores", "plugins", "data folder", "cache"} <= set(found)
    assert "10 results (8 ok) of 1 runs" in found["registry"]["detail"]
    data = {row["detail"].split(":")[0]: row for row in ended.json if row["check"] == "data set"}
    assert data["digits"]["status"] == "ok"
    assert (data["mnist"]["status"], data["mnist"]["remedy"]) == ("warn", "qbench fetch mnist (11.6 MB)")


def test_doctor_finds_an_unusable_registry(tmp_path: Path) -> None:
    (tmp_path / "r.duckdb").write_text("no registry")
    shown = qb("doctor", "--registry", tmp_path / "r.duckdb").out
    assert re.search(r"^bad +registry ", shown, re.MULTILINE), shown
    ended = qb("doctor", "--registry", tmp_path / "r.duckdb", "--json")
    assert ended.code == 1
    (bad,) = [row for row in ended.json if row["status"] == "bad"]
    assert "is not a DuckDB file" in bad["detail"]


def test_fetch_leaves_what_is_whole(fashion_mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(fashion_mnist_root))
    assert qb("fetch", "fashion-mnist", "digits").out.count("there and whole") == 2


def test_a_fetch_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(tmp_path))
    mnist = plugins.catalog().entry("dataset", "mnist").component

    def fails(self: Any, root: Path) -> None:
        raise DataError("cannot fetch mnist:\nnobody answers")

    monkeypatch.setattr(mnist, "fetch", fails)
    refused(qb("fetch", "mnist"), "cannot fetch mnist: nobody answers")


# --- rendering and comparison ---


def test_text_from_elsewhere_is_never_markup() -> None:
    assert rendering.text("[red]a[/red]\x1b[31m\u202eb").plain == "[red]a[/red]\\x1b[31m\\u202eb"
    assert isinstance(rendering.text(3), Text)


def test_the_front_is_what_nothing_beats_at_no_more_bits() -> None:
    points = [
        Point("a", "a", "fixed", {"x": 1.0}, {"x": 5.0}),
        Point("b", "b", "fixed", {"x": 2.0}, {"x": 4.0}),
        Point("c", "c", "fixed", {"x": 2.0}, {"x": 9.0}),
        Point("d", "d", "coded", {"x": 3.0}, {"x": 1.0}),
    ]
    mark_front(points, sign=1)
    assert [sorted(point.front) for point in points] == [["x"], [], ["x"], ["x"]]
    assert points[1].deficit == 5.0
    mark_front(points := [Point(p.label, p.method, p.rate_class, p.rate, p.value) for p in points], sign=-1)
    assert [sorted(point.front) for point in points] == [["x"], ["x"], [], ["x"]]


def test_a_long_table_keeps_the_front_and_the_best_of_every_method() -> None:
    front = [Point(f"good{i}", "good", "fixed", {"x": float(i)}, {"x": float(i)}) for i in range(20)]
    poor = [Point(f"poor{i}", "poor", "fixed", {"x": float(i)}, {"x": -float(i)}) for i in range(1, 20)]
    mark_front(front + poor, sign=1)
    assert worth_showing(front + poor) == [*front, poor[0]]
    assert worth_showing(poor) == poor


def test_columns_that_few_points_have_stand_apart() -> None:
    points = [Point(str(i), "m", "fixed", {}, {"x": 1.0, "y": 1.0}) for i in range(9)]
    points.append(Point("10", "m", "fixed", {}, {"y": 1.0, "z": 1.0}))
    assert alike(points, ["x", "y", "z"]) == [["x", "y"], ["z"]]


# --- tables of tracks ---


def cell(track: str, target: str, quantizer: str | None, seed: int = 0, **budget: Any) -> Cell:
    return Cell(
        track=track,
        track_version=1,
        target=target,
        quantizer=Spec.parse(quantizer) if quantizer else None,
        model=Spec.parse("mlp"),
        dataset=Spec.parse("digits"),
        optimizer=Spec.parse("adam"),
        seed=seed,
        budget=budget,
    )


def measured(one: Cell, **values: float) -> Measured:
    return Measured(one, {name: {"value": value} for name, value in values.items()})


def drawn(found: list[Measured]) -> str:
    """What the table at the end of a run looks like."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        summary.show(rendering.Screen(), found, lambda kind, spec: str(spec))
    assert max(map(len, out.getvalue().splitlines())) <= 100
    return out.getvalue()


def test_seeds_are_averaged_and_budgets_are_not() -> None:
    scores = {"baseline_accuracy": 90.0, "rate": 4.0}
    short = [
        measured(cell("ptq", "weight", "nf4", seed, epochs=1), accuracy=accuracy, accuracy_drop=1.0, **scores)
        for seed, accuracy in enumerate((88.0, 89.0))
    ]
    long = measured(cell("ptq", "weight", "nf4", epochs=2), accuracy=80.0, accuracy_drop=10.0, **scores)
    out = drawn([*short, long])
    assert re.search(r"^nf4 +4\.00 +88\.50 +\(1\.00\)\*$", out, re.MULTILINE)
    assert re.search(r"^nf4 +4\.00 +80\.00 +\(10\.00\)\*$", out, re.MULTILINE)
    assert out.count("float32") == 2
    assert [note in out for note in ("adam, epochs=1\n", "adam, epochs=2\n")] == [True, True]


def test_float_models_are_rows_beside_their_validation() -> None:
    out = drawn([measured(cell("float", "weight", None), accuracy=97.5, validation_accuracy=96.25)])
    assert re.search(r"^model, optimizer +digits$", out, re.MULTILINE)
    assert re.search(r"^mlp, adam +97\.50 \(96\.25\)$", out, re.MULTILINE)
    assert "bits/elem" not in out
    assert "float32" not in out


def test_text_is_scored_in_bits_per_character() -> None:
    values = {"accuracy": 40.0, "accuracy_drop": 3.0, "rate": 3.0}
    bits = {"bits_per_character": 2.5, "baseline_bits_per_character": 2.25}
    out = drawn([measured(cell("ptq", "weight", "nf4"), **values, **bits)])
    assert "bits per character (bits lost)" in out
    assert re.search(r"^nf4 +3\.00 +2\.500 \(0\.250\)\*$", out, re.MULTILINE)
    assert re.search(r"^float32 +32 +2\.250$", out, re.MULTILINE)
    further = {"bits_per_character": 2.5, "finetuned_bits_per_character": 2.0, "finetuned_accuracy": 50.0}
    out = drawn([measured(cell("qat", "weight", "nf4"), **values, **further)])
    assert re.search(r"^nf4 +3\.00 +2\.500 \(0\.500\)\*$", out, re.MULTILINE)
    # a loss of ln 4 nats is 2 bits
    out = drawn(
        [
            measured(
                cell("float", "weight", None),
                accuracy=40.0,
                bits_per_character=2.5,
                validation_loss=math.log(4),
            )
        ]
    )
    assert re.search(r"^mlp, adam +2\.500 \(2\.000\)$", out, re.MULTILINE)


def test_activations_have_bits_of_both_kinds_and_a_row_for_every_setting() -> None:
    given = [("nf4", "static", 8.0, 89.0), ("nf4", "dynamic", 8.0, 88.0), (None, "static", 32.0, 90.0)]
    found = [
        measured(
            cell("ptq", "activation", "mxfp4", weights=weights, mode=mode),
            accuracy=accuracy,
            accuracy_drop=90.0 - accuracy,
            baseline_accuracy=90.0,
            rate=4.0,
            weight_rate=bits,
        )
        for weights, mode, bits, accuracy in given
    ]
    out = drawn(found)
    assert re.search(r"^quantizer +W bits +A bits +digits$", out, re.MULTILINE)
    assert re.search(
        r"^mxfp4, weights nf4, mode=static +8\.00 +4\.00 +89\.00 +\(1\.00\)\*$", out, re.MULTILINE
    )
    assert re.search(
        r"^mxfp4, weights nf4, mode=dynamic +8\.00 +4\.00 +88\.00 +\(2\.00\)$", out, re.MULTILINE
    )
    assert re.search(r"^mxfp4, weights float32, mode=static +32\.00 +4\.00 +90\.00 ", out, re.MULTILINE)
    assert "adam, weights nf4\n" in drawn(found[:1])


def test_no_more_bits_is_said_of_weights_and_of_activations() -> None:
    points = [
        Point("w", "w", "fixed", {"x": 8.0}, {"x": 5.0}, weight_rate={"x": 2.0}),
        Point("a", "a", "fixed", {"x": 2.0}, {"x": 4.0}, weight_rate={"x": 8.0}),
        Point("wa", "wa", "fixed", {"x": 8.0}, {"x": 4.5}, weight_rate={"x": 8.0}),
    ]
    mark_front(points, sign=1)
    assert [sorted(point.front) for point in points] == [["x"], ["x"], []]


def test_mixed_precision_names_its_method_and_not_the_bits_that_play_no_part() -> None:
    found = [
        measured(
            cell("mixed-precision", "weight", "uniform(bits=4,range=mse)", method=method, rate=3.0),
            accuracy=accuracy,
            accuracy_drop=90.0 - accuracy,
            kl=kl,
            rate=bits,
        )
        for method, accuracy, kl, bits in [("greedy", 89.0, 0.0125, 2.99), ("uniform", 85.0, 0.25, 2.5)]
    ]
    out = drawn(found)
    assert re.search(
        r"^greedy, uniform\(range=mse\) +2\.99 +89\.00 +\(1\.00, 0\.0125\)\*$", out, re.MULTILINE
    )
    assert re.search(
        r"^uniform, uniform\(range=mse\) +2\.50 +85\.00 +\(5\.00, 0\.2500\)\*$", out, re.MULTILINE
    )


def test_saved_activations_show_the_share_of_bytes_that_is_left() -> None:
    values = {"accuracy": 89.0, "accuracy_drop": 1.0, "baseline_accuracy": 90.0, "rate": 4.5}
    kept = {"saved_bytes": 250.0, "float_saved_bytes": 1000.0}
    out = drawn([measured(cell("saved-activations", "activation", "nf4"), **values, **kept)])
    assert re.search(r"^nf4 +4\.50 +89\.00 +\(1\.00, 25\)\*$", out, re.MULTILINE)
    assert re.search(r"^float +- +90\.00$", out, re.MULTILINE)


def test_another_data_set_that_was_tested_on_is_a_column() -> None:
    found = measured(
        cell("ptq", "weight", "nf4", transfer="gaussian"),
        accuracy=89.0,
        accuracy_drop=1.0,
        baseline_accuracy=90.0,
        transfer_accuracy=70.0,
        baseline_transfer_accuracy=75.0,
        rate=4.0,
    )
    out = drawn([found])
    assert "tested on gaussian" in out
    assert re.search(r"^nf4 +4\.00 +89\.00 +\(1\.00\)\* +70\.00 +\(5\.00\)\*$", out, re.MULTILINE)
    assert re.search(r"^float32 +32 +90\.00 +75\.00$", out, re.MULTILINE)


def row(result_id: str, budget: dict[str, Any], model: dict[str, Any], weights: float | None = None) -> Any:
    metrics = {"rate": {"value": 4.0}} | ({} if weights is None else {"weight_rate": {"value": weights}})
    plain = {"result_id": result_id, "track": "ptq", "target": "weight", "seed": 0, "status": "ok"}
    named = {"quantizer": "nf4", "parameters": {}, "model": "mlp", "dataset": "digits", "optimizer": None}
    settings = {"model": model, "dataset": {}, "optimizer": {}}
    return {**plain, **named, "metrics": metrics, "settings": settings, "budget": budget}


def test_results_that_differ_in_budget_or_model_only_do_not_look_alike() -> None:
    rows = [
        row("a", {"method": "greedy", "rate": 4.0}, {"width": 8}),
        row("b", {"method": "uniform", "rate": 4.0}, {"width": 8}),
        row("c", {"method": "greedy", "rate": 4.0}, {"width": 16}, weights=8.0),
    ]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        results._list(rendering.Screen(), rows, 3, {})
    shown = [line.rstrip() for line in out.getvalue().splitlines()]
    assert shown[2:5] == [
        "a       nf4, method=greedy   mlp(width=8) digits       4.000        -",
        "b       nf4, method=uniform  mlp(width=8) digits       4.000        -",
        "c       nf4                  mlp(width=16) digits  W8.0 A4.0        -",
    ]
    assert "3 results, track ptq, seed 0, status ok" in out.getvalue()
