"""Pushes that meet lose no row."""

import subprocess
import sys
from pathlib import Path

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from loopback_hub import LoopbackHub
    from pushing import COMMIT, DATASET, Pushed, commits, published, rows


@pytest.mark.parametrize(
    "moment",
    [
        "GET /api/spaces/alice/board$",
        "GET /api/datasets/alice/board-results$",
        "HEAD /datasets/.*resolve",
        COMMIT["dataset"],
        COMMIT["space"],
    ],
)
@pytest.mark.usefixtures("started")
def test_another_push_at_any_moment_loses_no_row(
    moment: str, server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    server.fail(moment, before=lambda: Pushed(server, rows(place, 2)))
    pushed = Pushed(server, rows(place, 1))
    assert published(server, tmp_path) == [0, 1, 2]
    assert pushed.done[0] == "updated"
    assert (
        server.dataset(DATASET).main[-1].title
        == "Publish 3 results" + server.dataset(DATASET).main[-1].title[17:]
    )


@pytest.mark.parametrize(
    "moment", ["POST /api/repos/create", "GET /api/spaces/alice/board/tree", COMMIT["dataset"]]
)
def test_two_first_pushes_at_once_lose_no_row(
    moment: str, server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    server.fail(moment, before=lambda: Pushed(server, rows(place, 2)))
    Pushed(server, rows(place, 1))
    assert published(server, tmp_path) == [1, 2]
    assert commits(server) == (2, 2)


SCRIPT = """
import sys
sys.path[:0] = {folders!r}
from pathlib import Path
from loopback_hub import WRITER
from pushing import WANTED, build
from qbench.leaderboard.hub import Hub
from qbench.leaderboard.published import write
from qbench.leaderboard.publishing import push
from qbench.registry import Registry
registry = Registry({registry!r})
write(registry, Path({registry!r} + ".parquet"))
sys.stdin.readline()
pushed = push(Hub({address!r}, WRITER), WANTED, Path({registry!r} + ".parquet"), build, print)
print(*pushed, sep="\\n")
"""


def test_processes_that_push_at_once_lose_no_row(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    pushers = []
    for seed in (1, 2):
        rows(place, seed)
        script = SCRIPT.format(
            folders=[str(folder) for folder in Path(__file__).parents[:3]],
            registry=str(place / f"{(seed,)}.duckdb"),
            address=server.address,
        )
        pushers.append(
            subprocess.Popen(
                [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    for pusher in pushers:
        assert pusher.stdin is not None
        pusher.stdin.write("go\n")
        pusher.stdin.flush()
    told = [pusher.communicate()[0] for pusher in pushers]
    assert [pusher.returncode for pusher in pushers] == [0, 0], told
    assert published(server, tmp_path) == [1, 2]
    assert commits(server)[0] == 2  # each added its row, once
