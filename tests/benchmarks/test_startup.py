"""Start-up beside an empty click group, as whole processes: the ratio counts, not the seconds."""

import subprocess
import sys

import pytest

EMPTY = "import click\n@click.group()\ndef main(): pass\nmain()"
COMMANDS = {
    "empty": ["-c", EMPTY, "--help"],
    "qbench": ["-c", "from qbench.cli import main; main()", "--help"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.benchmark(group="start-up", min_rounds=15)
def test_help(benchmark, name: str) -> None:
    benchmark(subprocess.run, [sys.executable, *COMMANDS[name]], check=True, stdout=subprocess.DEVNULL)
