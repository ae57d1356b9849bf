"""The command line as a whole program, on real data and on data that is not as it should be."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbench.registry import Registry

PTQ = """
name = "real"
version = 1
[[grid]]
track = "ptq"
target = "weight"
quantizer = ["uniform(bits=8,granularity=channel)", "uniform(bits=4,granularity=channel)",
             "uniform(bits=2,granularity=channel)"]
model = "mlp"
dataset = "{dataset}"
optimizer = "adam"
[grid.budget]
training = {{ epochs = 8, batch_size = 256 }}
"""

SOURCES = """
[[grid]]
track = "rate-distortion"
target = "source"
quantizer = "binary"
dataset = "gaussian"
[grid.budget]
elements = 512
draws = 2
fit_elements = 512
"""


def qbench(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"QBENCH_CACHE": str(folder / "cache"), "QBENCH_DATA": str(folder / "data"), **environment}
    command = [sys.executable, "-m", "qbench.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, **settings}
    )


def one_line(run: subprocess.CompletedProcess[str]) -> str:
    """The error: the last line, with no traceback before it."""
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr + run.stdout
    return run.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_fashion_mnist_from_its_files_to_rows(fashion_mnist_root: Path, tmp_path: Path) -> None:
    """A float mlp of at least 88 %; 8 bits per channel within 0.3 points of it; the ladder down is monotone."""
    (tmp_path / "real.toml").write_text(PTQ.format(dataset="fashion-mnist"))
    run = qbench(tmp_path, "run", "--suite", "./real.toml", "--offline", QBENCH_DATA=str(fashion_mnist_root))
    assert run.returncode == 0, run.stderr
    found = Registry(tmp_path / "qbench.duckdb").results().rows()
    metrics = {r["parameters"]["bits"]: {k: m["value"] for k, m in r["metrics"].items()} for r in found}
    assert {row["status"] for row in found} == {"ok"}
    assert metrics[8]["baseline_accuracy"] >= 88
    assert abs(metrics[8]["accuracy_drop"]) <= 0.3
    assert metrics[8]["kl"] < metrics[4]["kl"] < metrics[2]["kl"]
    # 5 hidden layers of 256: 784 x 256 + 4 x 256 x 256 + 256 x 10 weights; 8 bits and a 16-bit scale per channel
    weights, channels = 784 * 256 + 4 * 256 * 256 + 2560, 5 * 256 + 10
    assert metrics[8]["rate"] == pytest.approx(8 + 16 * channels / weights, rel=1e-3)


def test_a_data_file_cut_short_is_named_and_left_alone(tmp_path: Path) -> None:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    short = raw / "train-images-idx3-ubyte"
    short.write_bytes(
        b"\x00\x00\x08\x03" + (60000).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2 + bytes(1000)
    )
    before = short.read_bytes()
    (tmp_path / "real.toml").write_text(PTQ.format(dataset="fashion-mnist"))
    line = one_line(qbench(tmp_path, "run", "--suite", "./real.toml", "--offline"))
    assert "train-images-idx3-ubyte" in line
    assert "1016" in line
    assert "47040016" in line
    assert short.read_bytes() == before
    assert not (tmp_path / "qbench.duckdb").exists()
    # with something else to run it is a note in the summary, and no error
    (tmp_path / "both.toml").write_text(PTQ.format(dataset="fashion-mnist") + SOURCES)
    run = qbench(tmp_path, "run", "--suite", "./both.toml", "--offline")
    assert run.returncode == 0, run.stderr
    assert "unavailable" in run.stdout
    assert len(Registry(tmp_path / "qbench.duckdb").results()) == 1


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    for connection in kept:
        connection.close()


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(tmp_path: Path, silent_server: str) -> None:
    (tmp_path / "real.toml").write_text(PTQ.format(dataset="mnist"))
    proxies = {"http_proxy": silent_server, "https_proxy": silent_server, "no_proxy": ""}
    line = one_line(qbench(tmp_path, "run", "--suite", "./real.toml", **proxies))
    assert "cannot fetch mnist" in line
    assert "timed out" in line
    assert "put its four files into" in line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("only root may mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        while shutil.disk_usage(path.parent).free:
            with contextlib.suppress(OSError):
                file.write(bytes(4096))


def test_a_full_disk_ends_the_run_in_one_line_and_harms_nothing(tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "first.toml").write_text('name = "first"\nversion = 1\n' + SOURCES)
    (tmp_path / "second.toml").write_text(
        'name = "second"\nversion = 1\n' + SOURCES.replace('"gaussian"', '["laplacian", "uniform"]')
    )
    registry = small_disk / "r.duckdb"
    assert qbench(tmp_path, "run", "--suite", "./first.toml", "--registry", str(registry)).returncode == 0
    ballast = small_disk / "ballast"
    fill(ballast)
    line = one_line(qbench(tmp_path, "run", "--suite", "./second.toml", "--registry", str(registry)))
    assert "r.duckdb" in line
    ballast.unlink()
    shown = qbench(tmp_path, "results", "--registry", str(registry), "--json")
    assert [json.loads(row)["dataset"] for row in shown.stdout.splitlines()] == ["gaussian"]
    again = qbench(tmp_path, "run", "--suite", "./second.toml", "--registry", str(registry))
    assert again.returncode == 0, again.stderr
    assert len(Registry(registry).results()) == 3
