"""A stranger's package, installed into a clean environment, appears in the catalog and in a run."""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "plugins" / "qbench-example"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that sees this one's packages and has the example installed by pip."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    binary = folder / "bin" / "python"
    site = subprocess.check_output(
        [binary, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    (Path(site.strip()) / "shared.pth").write_text("\n".join(lines) + "\n")
    install = [binary, "-m", "pip", "install", "--quiet", "--no-deps", str(PACKAGE)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("no package index is reached, so hatchling cannot be installed to build the example")
    assert done.returncode == 0, done.stderr
    return binary


def qbench(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "QBENCH_CACHE": str(folder / "cache"), "QBENCH_DATA": str(folder / "data")}
    command = [python, "-m", "qbench.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.slow
def test_a_strangers_quantizer_lands_in_a_smoke_run(python: Path, tmp_path: Path) -> None:
    listed = [json.loads(line) for line in qbench(python, tmp_path, "plugins", "--json").stdout.splitlines()]
    (row,) = [row for row in listed if row["name"] == "mu-law"]
    assert (row["distribution"], row["version"], row["error"]) == ("qbench-example", "1.0.0", None)
    run = qbench(python, tmp_path, "run", "--suite", "smoke", "--select", "quantizer=mu-law")
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in qbench(python, tmp_path, "results", "--json").stdout.splitlines()]
    assert {(row["track"], row["target"]) for row in found} == {
        ("rate-distortion", "source"),
        ("ptq", "weight"),
    }
    assert {row["status"] for row in found} == {"ok"}
    eight = [r for r in found if r["parameters"]["bits"] == 8 and r["track"] == "rate-distortion"]
    # Fine cells give 6.02 b + 4.77 - 20 lg ln(1 + mu) - 10 lg(1 + 1.6 r + r^2) = 37.94 dB, r = peak / (mu sigma); draws
    # beyond the fitted peak, at least 3.5 sigma for 8192 values, add up to 6e-5 sigma^2 of overload: 1.4 dB.
    assert 37.94 - 1.4 < eight[0]["metrics"]["sqnr_db"]["value"] < 37.94 + 0.1


@pytest.mark.slow
def test_a_stranger_can_be_switched_off(python: Path, tmp_path: Path) -> None:
    run = qbench(python, tmp_path, "plan", "--suite", "smoke", "--no-plugin", "qbench-example", "--json")
    assert run.returncode == 0, run.stderr
    assert "mu-law" not in run.stdout
