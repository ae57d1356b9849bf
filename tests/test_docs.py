"""The documentation's examples run and print what they say."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from qbench import plugins, suite

ROOT = Path(__file__).resolve().parents[1]


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def test_the_contract_page_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    example, offer = blocks("docs/contract.md")
    namespace: dict[str, Any] = {}
    exec(example, namespace)
    exec(offer, namespace)
    said = re.search(r"print\(.*# (.*)", example)
    assert said
    assert capsys.readouterr().out.strip() == said.group(1)


def test_the_example_is_fifteen_lines() -> None:
    body = blocks("docs/contract.md")[0].split("class ThreeLevels")[1].split("\n\n\nr = ")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


def test_the_readme_shows_the_same_quantizer() -> None:
    shown = blocks("README.md")[3].replace("qbench.Stream", "Stream")
    assert shown.strip() in blocks("docs/contract.md")[0]


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, measure, gradients, _ = blocks("README.md")
    namespace: dict[str, Any] = {}
    exec(measure, namespace)
    exec(gradients, namespace)
    monkeypatch.chdir(tmp_path)
    from qbench.registry import Registry

    Registry("qbench.duckdb").begin_run("empty", {}, [])
    exec(registry, {})


def test_the_readmes_suite_expands(tmp_path: Path) -> None:
    (text,) = blocks("README.md", "toml")
    assert tomllib.loads(text)["name"] == "mine"
    (tmp_path / "mine.toml").write_text(text)
    # two quantizers, two models, three seeds
    assert len(suite.expand(suite.parse(tmp_path / "mine.toml"), plugins.load(["all"]))) == 12


def test_the_readme_names_what_is_installed() -> None:
    readme, found = (ROOT / "README.md").read_text(), plugins.load(["all"])
    here = readme.split("## What is here")[1]
    for kind in ("quantizer", "dataset", "model", "optimizer", "track"):
        assert [name for name in found.names(kind) if f"`{name}`" not in here] == []


def test_ci_runs_the_readmes_test_command() -> None:
    (command,) = re.findall(
        r"^    (pip install tox.*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE
    )
    install, run = command.split(" && ")
    script = (ROOT / ".ci" / "run").read_text()
    assert install in script.replace("--quiet ", "")
    assert f"&& {run}" in script
