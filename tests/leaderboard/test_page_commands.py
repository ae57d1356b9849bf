"""Every command that the page names is one that the command line takes."""

import re
import shlex
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import click
import pytest

from qbench.cli import command_line
from qbench.errors import SuiteError
from qbench.leaderboard.build import build
from qbench.leaderboard.charts import all_charts
from qbench.leaderboard.points import points_of
from qbench.registry import Registry
from qbench.selection import Selection

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from browsing import until


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry without a result."""
    registry = Registry(tmp_path_factory.mktemp("commands") / "empty.duckdb")
    registry.begin_run("smoke", {}, [])
    return registry


def taken(command: click.Command, words: list[str]) -> dict[str, Any]:
    """What a command makes of its words.

    Raises:
        click.UsageError: an option or argument that it does not have, or a value that it does not take.
    """
    if isinstance(command, click.Group):
        name, *rest = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"there is no command {name}"
        return taken(found, rest)
    return command.make_context(command.name, words).params


def understood(line: str) -> None:
    """Asserts that a command is taken, that its suite is there, and that some track of the suite meets its terms."""
    name, *words = shlex.split(line)
    assert name == "qbench"
    params = taken(command_line, words)
    if words[0] != "run":
        return
    terms = Selection.parse(params["select"], parameters=()).terms
    if "synthetic" in words:
        return
    suite = tomllib.loads(resources.files("qbench.suites").joinpath(f"{params['suite']}.toml").read_text())
    tracks = {grid["track"] for grid in suite["grid"]}
    assert {value for term in terms if term.key == "track" for value in term.values} <= tracks


def test_hints_of_charts_name_commands_that_are_there(empty: Registry) -> None:
    charts = all_charts(empty, *points_of(empty, {}), {})
    commands = {chart.id: re.findall(r"`(qbench [^`]*)`", chart.empty) for chart in charts}
    assert [name for name, found in commands.items() if not found] == []
    for line in {line for found in commands.values() for line in found}:
        understood(line)


def test_commands_in_the_text_of_the_page_are_there(empty: Registry, tmp_path: Path) -> None:
    text = (build(empty, tmp_path / "board", {}).folder / "index.html").read_text(encoding="utf-8")
    commands = re.findall(r"<code>(qbench [^<]*)</code>", text)
    assert len(commands) >= 2
    for line in commands:
        understood(line)


def test_commands_of_a_row_are_there(page: Any) -> None:
    page.locator("#rows > tr.row", has_text="method-2").get_by_role("button").click()
    until(page, "document.querySelector('#detail')")
    commands = page.locator("#detail code").all_text_contents()
    assert len(commands) == 2
    for line in commands:
        understood(line)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("qbench run --suite standard --track ptq", click.UsageError),
        ("qbench run --device tpu", click.UsageError),
        ("qbench sun", AssertionError),
        ("qbench run --suite standard --select track=nothing", AssertionError),
        ("qbench run --suite standard --select trick=ptq", SuiteError),
    ],
)
def test_what_is_no_command_is_found(line: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        understood(line)
