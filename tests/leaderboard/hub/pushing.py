"""Pushes of a few results to a Hub in this process, and what it holds afterwards."""

import functools
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from loopback_hub import WRITER, LoopbackHub
from sample_results import STARTED, result_of, write_run

from qbench.leaderboard.faults import HubError
from qbench.leaderboard.hub import Hub, Repository
from qbench.leaderboard.published import FILE, write
from qbench.leaderboard.publishing import Wanted, push
from qbench.registry import Registry
from qbench.schema import Cell, Measurement, Result, Spec

SPACE, DATASET = "alice/board", "alice/board-results"
WANTED = Wanted(Repository.named("space", SPACE), Repository.named("dataset", DATASET))
COMMIT = {"dataset": f"POST /api/datasets/{DATASET}/commit", "space": f"POST /api/spaces/{SPACE}/commit"}


def make_result(seed: int) -> Result:
    cell = Cell(
        track="rate-distortion",
        track_version=1,
        target="source",
        dataset=Spec.parse("gaussian"),
        quantizer=Spec.parse("uniform(bits=4)"),
        seed=seed,
    )
    measured = {"mse": Measurement.mean([0.25, 0.75], "mse")}
    return result_of(cell, measurements=measured, started=STARTED + timedelta(seconds=seed))


@functools.cache
def rows(folder: Path, *seeds: int) -> Path:
    """The results of these seeds in a file, as a push takes them."""
    registry, path = Registry(folder / f"{seeds}.duckdb"), folder / f"{seeds}.parquet"
    write_run(registry, [make_result(seed) for seed in seeds], ["d" * 64] * len(seeds), "smoke")
    write(registry, path)
    return path


def build(registry: Registry, folder: Path) -> None:
    """A page that says which seeds it knows."""
    folder.mkdir()
    seeds = [seed for (seed,) in registry.sql("SELECT seed FROM results ORDER BY seed").fetchall()]
    (folder / "index.html").write_text(f"<p>{seeds}")
    (folder / "README.md").write_text("---\nsdk: static\n---\n")
    (folder / "results.csv").write_text("seed\n" + "".join(f"{seed}\n" for seed in seeds))


class Pushed:
    """What a push said and did."""

    def __init__(
        self, server: LoopbackHub, own: Path, token: str = WRITER, page: Any = build, **wanted: bool
    ) -> None:
        self.said: list[str] = []
        options = Wanted(WANTED.space, WANTED.dataset, **wanted)
        self.outcomes = push(Hub(server.address, token), options, own, page, self.said.append)
        assert all("\n" not in line for line in map(str, [*self.said, *self.outcomes]))

    @property
    def done(self) -> list[str]:
        assert [one.repository for one in self.outcomes] == [WANTED.dataset, WANTED.space]
        return [one.done for one in self.outcomes]


def published(server: LoopbackHub, tmp_path: Path) -> list[int]:
    """The seeds of the rows in the data set; the page has the same."""
    path = tmp_path / "published.parquet"
    path.write_bytes(server.dataset(DATASET).main[-1].files[FILE].content)
    with duckdb.connect() as connection:
        found = sorted(seed for (seed,) in connection.execute(f"SELECT seed FROM '{path}'").fetchall())
    page = server.space(SPACE).main[-1].files
    assert page["index.html"].content.decode() == f"<p>{found}"
    assert page[FILE].content == path.read_bytes()
    return found


def commits(server: LoopbackHub) -> tuple[int, int]:
    """Commits on top of the first one: of the data set, of the Space."""
    return len(server.dataset(DATASET).main) - 1, len(server.space(SPACE).main) - 1


def refusal(server: LoopbackHub, own: Path, **how: Any) -> HubError:
    with pytest.raises(HubError) as raised:
        Pushed(server, own, **how)
    line = str(raised.value)
    assert "\n" not in line
    assert "\x1b" not in line
    assert not re.search("hf_|signature", line)
    cause: Any = raised.value.__context__
    assert cause is None or not re.search(
        "hf_|Bearer", f"{cause!r} {cause.__context__!r} {cause.__cause__!r}"
    )
    return raised.value
