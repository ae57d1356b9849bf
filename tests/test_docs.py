"""The documentation's examples run and print what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def test_the_contract_page_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    example, offer = blocks("docs/contract.md")
    namespace: dict[str, object] = {}
    exec(example, namespace)
    exec(offer, namespace)
    said = re.search(r"print\(.*# (.*)", example)
    assert said
    assert capsys.readouterr().out.strip() == said.group(1)


def test_the_example_is_fifteen_lines() -> None:
    body = blocks("docs/contract.md")[0].split("class ThreeLevels")[1].split("\n\n\nr = ")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15
