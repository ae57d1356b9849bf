"""A finished run, and commands run in this process."""

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qbench import cli, plugins

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    from brief_runs import tiny

QUANTIZERS = ("uniform(bits=2)", "uniform(bits=4)", "lloyd-max(bits=3)", "ecsq(rate=2.0)")
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


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def command(*words: object) -> Ended:
    """Run a command in this process, stdout and stderr apart, neither a terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.command_line(args=[str(word) for word in words], prog_name="qbench")
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def qb() -> Callable[..., Ended]:
    """A command of words; how it ended."""
    return command


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """Sees that a command ended as bad input does."""

    def check(ended: Ended, words: str = "") -> None:
        """Exit code 2, nothing on stdout, one line on stderr."""
        assert ended.code == 2
        assert ended.out == ""
        assert re.fullmatch(r"qbench: [^\n]*\n", ended.err)
        assert words in ended.err

    return check


@dataclass(frozen=True)
class Ran:
    """A finished run of the tiny suite with one quantizer that fails."""

    ended: Ended
    registry: Path
    suite: Path


@contextlib.contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """The plugin and the cache of ``folder``, in this process and in those started from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("QBENCH_CACHE", str(folder / "cache"))
        plugins.catalog.cache_clear()
        yield
    plugins.catalog.cache_clear()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, make_distribution: Callable[..., Path]) -> Ran:
    folder = tmp_path_factory.mktemp("cli")
    make_distribution(folder, STRANGER)
    suite, registry = folder / "tiny.toml", folder / "r.duckdb"
    suite.write_text(tiny(QUANTIZERS, ["gaussian", "laplacian"]))
    common = ["--suite", suite, "--registry", registry, "--device", "cpu"]
    with surroundings(folder):
        return Ran(command("run", *common, "--quantizer", "refuses", "--workers", 1), registry, suite)


@pytest.fixture(scope="module")
def ran(finished: Ran) -> Iterator[Ran]:
    """Made once; nothing writes new results into its registry."""
    with surroundings(finished.suite.parent):
        yield finished
