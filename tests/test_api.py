"""The Python functions: quantizers by name, runs from anywhere, registries."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import qbench
from qbench import api
from qbench.errors import (
    ParameterError,
    QBenchError,
    RegistryError,
    SpecError,
    SuiteError,
    UnknownComponentError,
)

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from brief_runs import tiny

# As a user types it: no function, no __main__ guard, read from stdin.
PROGRAM = """
import qbench
summary = qbench.run(suite="tiny.toml", registry="r.duckdb", device="cpu", workers=1)
assert summary.exit_code == 0 and summary.statuses == {"ok": 2}, summary
registry = qbench.open_registry("r.duckdb")
frame = registry.results().df()
assert list(frame.bits) == [2, 4] and (frame.status == "ok").all(), frame
print(registry.sql("SELECT count(*) FROM results WHERE quantizer = 'uniform'").fetchall())
again = qbench.run(suite="tiny.toml", registry="r.duckdb", device="cpu", report=lambda progress: None)
assert (again.reused, again.exit_code) == (2, 0), again
"""


def test_the_examples_of_the_front_page() -> None:
    q = qbench.quantizer("uniform", bits=4)
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    r = qbench.measure(q, x, seed=0, samples=None)
    assert r.rate > r.entropy_rate > 0
    error = (x - r.reconstruction).double().square().mean()
    assert r.mse == pytest.approx(float(error), rel=1e-12)
    assert r.sqnr_db == pytest.approx(float(10 * torch.log10(x.double().square().mean() / error)), rel=1e-9)
    assert torch.equal(qbench.decode(r.payload), r.reconstruction)


def test_a_quantizer_by_specification_and_by_name_is_the_same() -> None:
    by_name = qbench.quantizer("uniform", bits=3, range="mse")
    assert qbench.quantizer("uniform(bits=3,range=mse)").spec == by_name.spec
    assert qbench.quantizer("uniform:bits=3", range="mse").spec == by_name.spec


@pytest.mark.parametrize(
    ("name", "parameters", "error", "says"),
    [
        ("unifrom", {}, UnknownComponentError, "installed: .*uniform"),
        ("uniform", {"bit": 4}, ParameterError, "it has: bits"),
        ("uniform", {"bits": 99}, ParameterError, "less than or equal to 16"),
        ("uniform(", {}, SpecError, "cannot read"),
    ],
)
def test_wrong_quantizers_say_what_is_allowed(
    name: str, parameters: Any, error: type[QBenchError], says: str
) -> None:
    with pytest.raises(error, match=says):
        qbench.quantizer(name, **parameters)


def test_a_run_needs_no_main_guard(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny(["uniform(bits=2)", "uniform(bits=4)"]))
    environment = {**os.environ, "QBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-"],
        input=PROGRAM,
        text=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(2,)]\n"
    assert "2/2" in done.stderr


def test_options_read_durations_sizes_and_single_texts(tmp_path: Path) -> None:
    given = api.options(
        suite=Path("mine.toml"),
        registry=str(tmp_path / "r.duckdb"),
        select="track=ptq",
        quantizers=[qbench.quantizer("uniform", bits=3), "binary"],
        time_budget="1h30m",
        timeout=90,
        memory="4GiB",
        workers=2,
    )
    assert (given.suite, given.registry) == ("mine.toml", tmp_path / "r.duckdb")
    assert given.select == ("track=ptq",)
    assert given.quantizers[0].startswith("uniform(bits=3,")
    assert given.quantizers[1] == "binary"
    assert (given.time_budget, given.timeout, given.memory, given.workers) == (5400.0, 90.0, 4 * 2**30, 2)


def test_none_means_the_default() -> None:
    assert api.options(time_budget=None, workers=None, memory=None, timeout=None).timeout == 600.0


def test_plugins_left_out_add_to_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBENCH_DISABLE_PLUGINS", "first,second")
    assert set(api.options(disabled="third").disabled) == {"first", "second", "third"}
    assert api.options(disabled=()).disabled == ()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"colour": "red"}, "no option 'colour'; it has: suite, registry"),
        ({"device": "abacus"}, "device='abacus' is not one of auto, cpu, cuda"),
        ({"workers": 0}, "workers=0"),
        ({"workers": 1.5}, "workers=1.5"),
        ({"workers": True}, "workers=True"),
        ({"time_budget": "soon"}, "time_budget='soon'"),
        ({"timeout": -1}, "timeout=-1"),
        ({"memory": "lots"}, "memory='lots'"),
        ({"force": "yes"}, "force='yes' must be True or False"),
        ({"quantizers": [3]}, "quantizers="),
        ({"select": 3}, "select=3"),
        ({"suite": 3}, "suite=3 must be a path or a name"),
        ({"registry": 3}, "registry=3 must be a path"),
        ({"registry": ""}, "registry='' must be a path"),
    ],
)
def test_wrong_options_name_themselves(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        qbench.run(**wrong)


def test_a_wrong_suite_or_folder_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError, match="no suite is called 'bogus'"):
        qbench.run("bogus")
    with pytest.raises(RegistryError, match="there is no folder"):
        qbench.run("smoke", registry="none/r.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_an_absent_registry_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no registry at"):
        qbench.open_registry(tmp_path / "none.duckdb")


def test_a_registry_opens_without_torch() -> None:
    program = (
        "import sys, qbench; qbench.open_registry; import qbench.registry; print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
