"""The command as a whole: its helps, what it imports, bad input and interruptions."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import torch

import qbench
from qbench import cli
from qbench.cli import interrupts


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
def test_short_helps_are_the_commands_own(qb: Callable[..., Any], name: str) -> None:
    command = cli.command_line.get_command(click.Context(cli.command_line), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(100) == cli.COMMANDS[name][1]
    assert qb(name, "--help").code == 0


def test_version_and_no_command(qb: Callable[..., Any]) -> None:
    assert qb("--version").out == f"qbench {qbench.__version__}\n"
    assert qb().out == qb("--help").out


def test_reading_results_loads_no_torch(ran: Any) -> None:
    program = (
        "import sys, qbench.cli\n"
        f"try:\n    qbench.cli.command_line(args=['results', '--registry', {str(ran.registry)!r}])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


def test_output_is_plain_and_at_most_100_columns_wide(qb: Callable[..., Any], ran: Any) -> None:
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bogus"], "No such command 'bogus'. See"),
        (["resluts"], "No such command 'resluts'; did you mean 'results'? See"),
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
        (["export", "{tmp}/x.csv", "--registry", "{registry}"], "name a file that ends in .parquet"),
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
def test_bad_input_is_one_line_and_code_2(
    qb: Callable[..., Any], refused: Callable[..., Any], ran: Any, tmp_path: Path, words: list[str], says: str
) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    (tmp_path / "keys.toml").write_text("colour = 'red'\n" + ran.suite.read_text())
    before = qb("results", "--registry", ran.registry, "--all", "--json").out
    given = [w.format(tmp=tmp_path, suite=ran.suite, registry=ran.registry) for w in words]
    if given[0] in ("run", "plan") and "--registry" not in given:
        given += ["--registry", str(tmp_path / "r.duckdb")]
    refused(qb(*given), says)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.toml", "keys.toml"]
    assert qb("results", "--registry", ran.registry, "--all", "--json").out == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_bad_input(
    qb: Callable[..., Any], refused: Callable[..., Any], ran: Any, tmp_path: Path
) -> None:
    words = ["--suite", ran.suite, "--registry", tmp_path / "r.duckdb", "--device", "cuda"]
    refused(qb("run", *words), "no CUDA device")


def test_a_registry_of_a_newer_version_is_refused_and_left_alone(
    qb: Callable[..., Any], refused: Callable[..., Any], ran: Any, tmp_path: Path
) -> None:
    newer = tmp_path / "newer.duckdb"
    newer.write_bytes(ran.registry.read_bytes())
    with contextlib.closing(duckdb.connect(str(newer))) as connection:
        connection.execute("INSERT INTO migrations VALUES (999, 'later', current_timestamp::TIMESTAMP)")
    content = newer.read_bytes()
    for words in (["results"], ["run", "--suite", ran.suite, "--device", "cpu"], ["show", "0"]):
        refused(qb(*words, "--registry", newer), "schema version 999")
    assert newer.read_bytes() == content


def test_a_reader_that_leaves_is_no_error(ran: Any) -> None:
    command = [sys.executable, "-m", "qbench.cli", "results", "--registry", str(ran.registry), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


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
