"""Pushing with the real client against a Hub in this process: no lost rows, no double commits, no token anywhere."""

import copy
import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qbench.cli import publishing as commands
from qbench.environment import environment_id
from qbench.leaderboard import faults
from qbench.leaderboard.faults import TRIES, HubError, persistently
from qbench.leaderboard.hub import Hub, Repository, connect
from qbench.leaderboard.published import FILE, write
from qbench.leaderboard.publishing import Wanted, push
from qbench.registry import Registry, RunCell
from qbench.schema import Cell, Measurement, Result, Spec

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    import loopback_hub
    from loopback_hub import READER, WRITER, LoopbackHub, Repo

ENVIRONMENT = {"python": "3.11.7", "packages": {"torch": "2.11.0"}}
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SPACE, DATASET = "alice/board", "alice/board-results"
WANTED = Wanted(Repository.named("space", SPACE), Repository.named("dataset", DATASET))
COMMIT = {"dataset": f"POST /api/datasets/{DATASET}/commit", "space": f"POST /api/spaces/{SPACE}/commit"}


def make_result(seed: int, run_id: str) -> Result:
    cell = Cell(
        track="rate-distortion",
        track_version=1,
        target="source",
        dataset=Spec.parse("gaussian"),
        quantizer=Spec.parse("uniform(bits=4)"),
        seed=seed,
    )
    return Result(
        cell=cell,
        fingerprint="f" * 16,
        device_kind="cpu",
        device="cpu",
        environment_id=environment_id(ENVIRONMENT),
        run_id=run_id,
        status="ok",
        measurements={"mse": Measurement.mean([0.25, 0.75], "mse")},
        started=STARTED + timedelta(seconds=seed),
        seconds=1.5,
    )


@functools.cache
def rows(folder: Path, *seeds: int) -> Path:
    """The results of these seeds in a file, as a push takes them."""
    registry, path = Registry(folder / f"{seeds}.duckdb"), folder / f"{seeds}.parquet"
    cells = [RunCell(make_result(seed, "r").cell_id, "rate-distortion", "d" * 64) for seed in seeds]
    run_id = registry.begin_run("smoke", ENVIRONMENT, cells)
    registry.write([make_result(seed, run_id) for seed in seeds])
    registry.finish_run(run_id)
    write(registry, path)
    return path


def build(registry: Registry, folder: Path) -> None:
    """A page that says which seeds it knows."""
    folder.mkdir()
    seeds = [seed for (seed,) in registry.sql("SELECT seed FROM results ORDER BY seed").fetchall()]
    (folder / "index.html").write_text(f"<p>{seeds}")
    (folder / "README.md").write_text("---\nsdk: static\n---\n")
    (folder / "results.csv").write_text("seed\n" + "".join(f"{seed}\n" for seed in seeds))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits for long, here or in the client; the pauses that were asked for."""
    asked: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (asked.append(seconds), sleep(min(seconds, 0.002))))
    return asked


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    """A Hub where nothing is."""
    with loopback_hub.running() as hub:
        yield hub
        assert all(not 0 < fault.times < 50 for fault in hub.faults), "a fault was never met"


@pytest.fixture(scope="module")
def first(place: Path) -> dict[tuple[str, str], Repo]:
    with loopback_hub.running() as hub:
        Pushed(hub, rows(place, 0))
        return hub.repos


@pytest.fixture
def started(server: LoopbackHub, first: dict[tuple[str, str], Repo]) -> LoopbackHub:
    """A Hub where the result of seed 0 was published."""
    server.repos = copy.deepcopy(first)
    return server


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


# What is pushed


def test_a_push_creates_both(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    pushed = Pushed(server, rows(place, 0, 1))
    assert pushed.done == ["created", "created"]
    assert pushed.said == []
    assert str(pushed.outcomes[0]).startswith("data set alice/board-results: created, 2 results (")
    assert (
        str(pushed.outcomes[1])
        == f"Space alice/board: created, page of 2 results: {server.address}/spaces/alice/board"
    )
    space, dataset = server.space(SPACE), server.dataset(DATASET)
    assert (space.sdk, space.private, dataset.private) == ("static", False, False)
    assert published(server, tmp_path) == [0, 1]
    assert commits(server) == (1, 1)
    assert set(space.main[-1].files) == {".gitattributes", "index.html", "README.md", "results.csv", FILE}
    assert set(dataset.main[-1].files) == {".gitattributes", "README.md", FILE}
    assert dataset.main[-1].files[FILE].content == rows(place, 0, 1).read_bytes()
    card = dataset.main[-1].files["README.md"].content.decode()
    assert card.startswith("---\npretty_name: board-results\n")
    assert "data_files: results.parquet" in card
    assert "qbench leaderboard pull --repo alice/board " in card
    assert f"{server.address}/spaces/alice/board" in card


def test_a_second_push_adds_its_rows(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    Pushed(server, rows(place, 0, 1))
    server.put(server.dataset(DATASET), README__md=b"my own card")
    assert Pushed(server, rows(place, 1, 2)).done == ["updated", "updated"]
    assert published(server, tmp_path) == [0, 1, 2]
    assert commits(server) == (3, 2)
    assert server.dataset(DATASET).main[-1].files["README.md"].content == b"my own card"


def test_what_is_unchanged_is_not_committed(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    Pushed(server, rows(place, 0, 1))
    server.requests.clear()
    fewer = tmp_path / "fewer.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT * FROM '{rows(place, 0, 1)}' WHERE seed = 1) TO '{fewer}'")
    assert Pushed(server, rows(place, 0, 1)).done == ["unchanged", "unchanged"]
    assert Pushed(server, fewer, create_pr=True, token=READER).done == ["unchanged", "unchanged"]
    assert commits(server) == (1, 1)
    assert server.asked("^(POST|PUT)") == 0


def test_a_result_of_a_further_run_is_news(server: LoopbackHub, place: Path) -> None:
    Pushed(server, rows(place, 0, 1))
    assert Pushed(server, rows(place, 1)).done[0] == "updated"
    with duckdb.connect() as connection:
        (tmp := place / "further.parquet").write_bytes(server.dataset(DATASET).main[-1].files[FILE].content)
        found = connection.execute(f"SELECT seed, len(runs) FROM '{tmp}' ORDER BY seed").fetchall()
    assert found == [(0, 1), (1, 2)]


def test_the_same_rows_in_other_bytes_are_unchanged(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    """Another version may write the file otherwise: that is no reason for a commit."""
    Pushed(server, rows(place, 0, 1))
    other = tmp_path / "other.parquet"
    with duckdb.connect() as connection:
        query = f"SELECT * FROM read_parquet('{rows(place, 0, 1)}') ORDER BY seed DESC"
        connection.execute(f"COPY ({query}) TO '{other}' (FORMAT parquet, COMPRESSION snappy)")
    server.put(server.dataset(DATASET), results__parquet=other.read_bytes())
    assert Pushed(server, rows(place, 0, 1)).done == [
        "unchanged",
        "updated",
    ]  # the link on the page: the same bytes
    assert Pushed(server, rows(place, 0, 1)).done == ["unchanged", "unchanged"]
    assert published(server, tmp_path) == [0, 1]


@pytest.mark.usefixtures("started")
def test_another_page_of_the_same_rows(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    server.put(server.space(SPACE), index__html=b"an older look", extra__txt=b"stays")
    assert Pushed(server, rows(place, 0)).done == ["unchanged", "updated"]
    assert published(server, tmp_path) == [0]
    assert server.space(SPACE).main[-1].files["extra.txt"].content == b"stays"
    assert server.asked(COMMIT["dataset"]) == 0


def test_nothing_to_publish(server: LoopbackHub, tmp_path: Path) -> None:
    empty = Registry(tmp_path / "empty.duckdb")
    empty.write([])
    write(empty, tmp_path / FILE)
    assert "there are no results to publish; make some with `qbench run`" in str(
        refusal(server, tmp_path / FILE)
    )
    assert server.repos == {}


@pytest.mark.parametrize(
    "how", [{"lfs": r"$^"}, {"lfs": r"\."}, {"part_size": 2000}], ids=["plain", "all", "parts"]
)
def test_every_way_of_uploading(how: dict[str, Any], place: Path, tmp_path: Path) -> None:
    with loopback_hub.running(**how) as server:
        Pushed(server, rows(place, 0))
        assert Pushed(server, rows(place, 1)).done == ["updated", "updated"]
        assert published(server, tmp_path) == [0, 1]
        assert Pushed(server, rows(place, 1)).done == ["unchanged", "unchanged"]
        assert commits(server) == (2, 2)


def test_private_repositories(server: LoopbackHub, place: Path) -> None:
    Pushed(server, rows(place, 0), private=True)
    assert server.space(SPACE).private
    assert server.dataset(DATASET).private
    assert Pushed(server, rows(place, 1), private=True).done == ["updated", "updated"]
    server.space(SPACE).private = False
    line = str(refusal(server, rows(place, 2), private=True))
    assert line == "Space alice/board is public; make it private in its settings, or leave out --private"
    assert commits(server) == (2, 2)


def test_a_page_from_a_folder(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "mine.duckdb")
    registry.merge(rows(place, 0, 1))
    build(registry, tmp_path / "page")
    assert Pushed(server, rows(place, 0, 1), page=tmp_path / "page").done == ["created", "created"]
    assert published(server, tmp_path) == [0, 1]
    server.repos.clear()
    Pushed(server, rows(place, 2))
    line = str(refusal(server, rows(place, 0, 1), page=tmp_path / "page"))
    assert "data set alice/board-results holds results that the page in " in line
    assert "`qbench leaderboard pull --repo alice/board`" in line
    assert published(server, tmp_path) == [2]
    (tmp_path / "page" / "results.csv").unlink()
    assert "has no results.csv; make it with" in str(refusal(server, rows(place, 2), page=tmp_path / "page"))


def test_published_rows_that_are_not_valid_stop_a_push(
    server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    """Another version may know them: nobody's rows are dropped unasked."""
    Pushed(server, rows(place, 0, 1))
    bad = tmp_path / "bad.parquet"
    with duckdb.connect() as connection:
        change = "if(seed = 0, 'better', status) AS status"
        query = f"SELECT 'reproduced' AS trust, * REPLACE ({change}) FROM read_parquet('{rows(place, 0, 1)}')"
        connection.execute(f"COPY ({query}) TO '{bad}' (FORMAT parquet)")
    server.put(server.dataset(DATASET), results__parquet=bad.read_bytes())
    line = str(refusal(server, rows(place, 2)))
    assert "1 published rows of data set alice/board-results are not valid for this version (result '" in line
    assert "upgrade qbench-suite, or leave them out with --drop-rejected" in line
    server.put(server.dataset(DATASET), results__parquet=b"PAR1 broken")
    assert "results.parquet of data set alice/board-results at " in str(refusal(server, rows(place, 2)))
    server.put(server.dataset(DATASET), results__parquet=bad.read_bytes())
    assert Pushed(server, rows(place, 2), drop_rejected=True).done == ["updated", "updated"]
    assert published(server, tmp_path) == [1, 2]
    assert b"trust" not in server.dataset(DATASET).main[-1].files[FILE].content


# Two at once


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
sys.path.insert(0, {here!r})
import test_hub as test
from pathlib import Path
registry = test.Registry({registry!r})
test.write(registry, Path({registry!r} + ".parquet"))
sys.stdin.readline()
pushed = test.push(test.Hub({address!r}, test.WRITER), test.WANTED, Path({registry!r} + ".parquet"), test.build, print)
print(*pushed, sep="\\n")
"""


def test_processes_that_push_at_once_lose_no_row(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    pushers = []
    for seed in (1, 2):
        rows(place, seed)
        script = SCRIPT.format(
            here=str(Path(__file__).parent), registry=str(place / f"{(seed,)}.duckdb"), address=server.address
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


# Faults

STEPS = {
    "look at the Space": "GET /api/spaces/alice/board$",
    "list the data set": "GET /api/datasets/alice/board-results/tree",
    "check the card": "POST /api/validate-yaml",
    "prepare an upload": "POST /api/datasets/.*preupload",
    "ask where to upload": r"POST /datasets/.*\.git/info/lfs/objects/batch",
    "upload": "PUT /lfs/",
    "verify": "POST /lfs-verify",
    "commit results": COMMIT["dataset"],
    "commit the page": COMMIT["space"],
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_faults_that_pass_do_not_matter(step: str, server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    server.make("space", SPACE, sdk="static")
    server.make("dataset", DATASET)
    server.fail(step, 429, headers={"Retry-After": "0"})
    server.fail(step, 500, after=True)
    server.fail(step)
    server.fail(step, 503)
    times = 3 if "commit" in step else 4  # one that did what was asked leaves no more to ask
    for fault in server.faults[times:]:
        fault.times = 0
    if "commit" in step:
        server.faults[1], server.faults[2] = server.faults[2], server.faults[1]
    Pushed(server, rows(place, 0))
    assert published(server, tmp_path) == [0]
    assert commits(server) == (1, 1)


@pytest.mark.parametrize("which", ["space", "dataset"])
def test_faults_of_creating(which: str, server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    step = "POST /api/repos/create"
    server.make("dataset" if which == "space" else "space", DATASET if which == "space" else SPACE)
    server.fail(step, 429)
    server.fail(step, 502)
    server.fail(step)
    server.fail(step, 500, after=True)  # it was created all the same
    Pushed(server, rows(place, 0))
    assert published(server, tmp_path) == [0]
    assert commits(server) == (1, 1)


@pytest.mark.parametrize(("which", "status"), [("space", 412), ("dataset", 409)])
def test_a_conflict_is_tried_again(
    which: str, status: int, server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    server.fail(COMMIT[which], status)
    pushed = Pushed(server, rows(place, 0))
    assert published(server, tmp_path) == [0]
    assert commits(server) == (1, 1)
    (line,) = pushed.said
    assert re.search(rf"was changed by somebody else meanwhile \({status}\); trying again in [01] s$", line)


@pytest.mark.parametrize(
    ("which", "status"), [("space", None), ("dataset", None), ("space", 500), ("dataset", 504)]
)
@pytest.mark.usefixtures("started")
def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    which: str, status: int | None, server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    server.fail(COMMIT[which], status, after=True)
    assert Pushed(server, rows(place, 1)).done == ["updated", "updated"]
    assert published(server, tmp_path) == [0, 1]
    assert commits(server) == (2, 2)
    assert server.asked(COMMIT[which]) == 1


@pytest.mark.usefixtures("started")
def test_a_lost_answer_and_somebody_elses_commit(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    """One's own commit is no longer the head: its rows are found all the same."""
    server.fail(COMMIT["dataset"], after=True)
    server.fail("GET /api/spaces/alice/board$", times=0)
    again = server.faults[-1]
    server.faults[0].headers = {}

    def other() -> None:
        Pushed(server, rows(place, 2))

    again.before, again.times = other, 0
    original = server.fault

    def late(request: str) -> Any:
        found = original(request)
        if found is server.faults[0]:
            again.times = 1  # as soon as the first commit got through
        return found

    server.fault = late  # type: ignore[method-assign]
    Pushed(server, rows(place, 1))
    assert published(server, tmp_path) == [0, 1, 2]
    assert commits(server)[0] == 3


@pytest.mark.parametrize(("which", "status"), [("space", None), ("dataset", 500), ("dataset", 412)])
@pytest.mark.usefixtures("started")
def test_a_fault_that_stays_ends_in_one_line(
    which: str, status: int | None, server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    server.requests.clear()
    server.fail(COMMIT[which], status, times=99)
    error = refusal(server, rows(place, 1))
    assert error.passing
    line = rf"{'Space alice/board' if which == 'space' else 'data set alice/board-results'}.*; gave up after 6 tries: "
    assert re.search(line + "run the same command later, it is safe to repeat$", str(error))
    assert server.asked(COMMIT[which]) == TRIES
    assert commits(server) == ((2, 1) if which == "space" else (1, 1))
    server.faults.clear()
    assert Pushed(server, rows(place, 1)).done == ["unchanged" if which == "space" else "updated", "updated"]
    assert published(server, tmp_path) == [0, 1]


def test_what_was_done_before_a_fault_is_said(server: LoopbackHub, place: Path) -> None:
    server.fail(COMMIT["space"], 403, times=99)
    said: list[str] = []
    with pytest.raises(HubError, match=r"no permission to write to Space alice/board \(403\)"):
        push(Hub(server.address, WRITER), WANTED, rows(place, 0), build, said.append)
    assert [line.partition(",")[0] for line in said] == ["data set alice/board-results: created"]


def test_a_hub_that_asks_for_patience_gets_it(
    server: LoopbackHub, place: Path, tmp_path: Path, impatient: list[float]
) -> None:
    server.fail(COMMIT["dataset"], 429, headers={"Retry-After": "37"})
    assert (
        "(429) when asked to write to data set alice/board-results; trying again in 37 s"
        in Pushed(server, rows(place, 0)).said[0]
    )
    assert 37.0 in impatient
    server.fail(COMMIT["dataset"], 429, headers={"Retry-After": "3600"})
    error = refusal(server, rows(place, 1))
    assert str(error) == "the Hub is busy (429) when asked to write to data set alice/board-results"
    assert error.passing


def test_pauses_grow_and_differ(impatient: list[float]) -> None:
    def fails() -> None:
        raise HubError("no", again=True)

    for _ in range(4):
        with pytest.raises(HubError, match="no; gave up after 6 tries"):
            persistently(fails, str)
    assert len(impatient) == 4 * (TRIES - 1)
    assert all(2.0 ** (n % 5) / 2 <= pause <= 2.0 ** (n % 5) for n, pause in enumerate(impatient))
    assert len(set(impatient)) == len(impatient)


# Permissions and names

REFUSALS = {
    "401": (
        401,
        "the Hub does not take the token, asked to {what} (401); log in with `hf auth login`, or set HF_TOKEN",
    ),
    "403": (403, "no permission to {what} (403); "),
    "400": (400, "the Hub refuses to {what} (400): no; "),
    "413": (413, "the Hub refuses to {what} (413): no; "),
    "507": (507, "the Hub refuses to {what} (507): no; "),
}
ASKED = {
    "GET /api/spaces/alice/board$": "read Space alice/board",
    "POST /api/repos/create": "create Space alice/board",
    "POST /api/datasets/.*preupload": "write to data set alice/board-results",
    "objects/batch": "write to data set alice/board-results",
    "PUT /lfs": "write to data set alice/board-results",
    COMMIT["dataset"]: "write to data set alice/board-results",
    COMMIT["space"]: "write to Space alice/board",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_one_line_that_says_what_to_do(status: str, server: LoopbackHub, place: Path) -> None:
    for step, what in ASKED.items() if status in ("401", "403") else list(ASKED.items())[-2:]:
        server.repos.clear()
        server.objects.clear()
        server.fail(step, REFUSALS[status][0], times=99)
        error = refusal(server, rows(place, 0))
        server.faults.clear()
        assert REFUSALS[status][1].format(what=what) in str(error)
        assert not error.passing
    assert server.asked(COMMIT["space"]) <= 1


def test_who_may_not_write_is_told_of_pull_requests(server: LoopbackHub, place: Path) -> None:
    line = str(refusal(server, rows(place, 0), token=READER))
    expected = "no permission to create Space alice/board (403); use a token with write access for that owner"
    assert line.startswith(expected)
    assert server.repos == {}
    Pushed(server, rows(place, 0))
    line = str(refusal(server, rows(place, 1), token=READER))
    assert line == (
        "no permission to write to data set alice/board-results (403); "
        "use a token with write access, or open a pull request with --create-pr"
    )
    line = str(refusal(server, rows(place, 0), token="hf_unknownunknownunknown1"))
    assert "does not take the token" in line
    assert commits(server) == (1, 1)


def test_pull_requests(server: LoopbackHub, place: Path, tmp_path: Path) -> None:
    line = str(refusal(server, rows(place, 0), token=READER, create_pr=True))
    assert line == "there is no Space alice/board to open a pull request on; push without --create-pr"
    Pushed(server, rows(place, 0))
    first = Pushed(server, rows(place, 1), token=READER, create_pr=True)
    assert first.done == ["proposed", "proposed"]
    assert [one.address for one in first.outcomes] == [
        f"{server.address}/datasets/alice/board-results/discussions/1",
        f"{server.address}/spaces/alice/board/discussions/1",
    ]
    assert ": pull request opened, 2 results (" in str(first.outcomes[0])
    again = Pushed(server, rows(place, 1), token=READER, create_pr=True)
    assert again.done == ["proposed before", "proposed before"]
    assert ": a pull request has this already, 2 results" in str(again.outcomes[0])
    assert [one.address for one in again.outcomes] == [one.address for one in first.outcomes]
    assert Pushed(server, rows(place, 2), token=READER, create_pr=True).done == ["proposed", "proposed"]
    assert commits(server) == (1, 1)
    assert published(server, tmp_path) == [0]
    requests = server.dataset(DATASET).requests
    assert len(requests) == len(server.space(SPACE).requests) == 2
    assert server.space(SPACE).requests[1].files["index.html"].content == b"<p>[0, 1]"
    assert server.space(SPACE).requests[2].files["index.html"].content == b"<p>[0, 2]"


@pytest.mark.parametrize("status", [None, 500])
@pytest.mark.usefixtures("started")
def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(
    status: int | None, server: LoopbackHub, place: Path
) -> None:
    for which in COMMIT.values():
        server.fail(which, status)
        server.fail(which, status, after=True)
    assert Pushed(server, rows(place, 1), token=READER, create_pr=True).done == ["proposed", "proposed"]
    assert len(server.dataset(DATASET).requests) == len(server.space(SPACE).requests) == 1


@pytest.mark.parametrize(
    "name",
    [
        *(
            "board",
            "",
            "/",
            "alice/",
            "/board",
            "a/b/c",
            "alice/bo ard",
            "alice/--",
            "alice/a--b",
            "alice/a..b",
        ),
        *(
            "alice/.b",
            "alice/b.",
            "alice/b-",
            "-alice/b",
            "alice/b.git",
            "../b",
            "alice/" + "b" * 97,
            "alice/b\n",
        ),
        *("https://huggingface.co/spaces/alice/board", "alice/b\x1b[31m", "ализа/b", "alice/b?token=x"),
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(HubError, match="cannot be the name of a repository; write OWNER/NAME") as raised:
        Repository.named("space", name)
    assert "\n" not in str(raised.value)


def test_a_token_in_place_of_a_name_is_not_repeated() -> None:
    with pytest.raises(HubError) as raised:
        Repository.named("space", WRITER)
    assert WRITER not in str(raised.value)


@pytest.mark.parametrize("name", ["alice/board", "a/b", "A-1.b_c/x.y_z-9", "alice/" + "b" * 96])
def test_good_names(name: str) -> None:
    from huggingface_hub.utils import validate_repo_id

    assert Repository.named("space", name).name == name
    validate_repo_id(name)  # the client agrees


# The commands


@pytest.fixture
def signed_in(server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", WRITER)


def told(command: Any, *words: object) -> int:
    """The exit code of a command in this process; an error of the input is one."""
    return int(command.main([str(word) for word in words], standalone_mode=False) or 0)


@pytest.mark.usefixtures("signed_in")
def test_the_commands(
    server: LoopbackHub,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows(place, 0, 1)
    mine = place / "(0, 1).duckdb"
    owners = []

    def build_page(registry: Registry, folder: Path, own: Registry) -> None:
        owners.append(own.path)
        build(registry, folder)

    monkeypatch.setattr(commands, "build_page", build_page)
    assert told(commands.push_command, "--repo", SPACE, "--registry", mine) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in out] == [
        f"data set {DATASET}: created",
        f"Space {SPACE}: created",
    ]
    assert set(owners) == {mine}  # whose word on trust the page shows
    other = tmp_path / "other.duckdb"
    assert told(commands.pull_command, "--repo", SPACE, "--registry", other, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"added": 2, "present": 0, "rejected": 0, "reason": None}
    assert told(commands.pull_command, "--repo", SPACE, "--registry", other) == 0
    assert capsys.readouterr().out == f"0 new, 2 known, 0 rejected; now in {other}\n"
    assert told(commands.push_command, "--repo", SPACE, "--registry", mine, "--dataset", "bob/rows") == 0
    assert "data set bob/rows: created" in capsys.readouterr().out
    assert (
        b"pull --repo alice/board --dataset bob/rows "
        in server.dataset("bob/rows").main[-1].files["README.md"].content
    )
    server.fail("GET /api/datasets", 500, times=99)
    assert told(commands.pull_command, "--repo", SPACE, "--registry", other) == 1
    assert told(commands.push_command, "--repo", SPACE, "--registry", mine) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 * TRIES
    assert all(line.startswith("qbench: the Hub failed (500) when asked to read data set") for line in lines)


def test_without_a_token(monkeypatch: pytest.MonkeyPatch, server: LoopbackHub, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(
        HubError, match=r"^no token to push with; log in with `hf auth login`, or set HF_TOKEN to one"
    ):
        connect(must_write=True)
    connect(must_write=False)


def test_without_a_network(place: Path, impatient: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    hub = Hub(f"http://127.0.0.1:{port}", WRITER)
    with pytest.raises(HubError) as raised:
        push(hub, WANTED, rows(place, 0), build, print)
    assert re.fullmatch(
        rf"cannot reach http://127.0.0.1:{port} to read Space {SPACE} \(.*refused\); check the network and HF_ENDPOINT",
        str(raised.value),
    )
    assert raised.value.passing
    assert impatient == []


def test_something_that_is_no_hub(server: LoopbackHub, place: Path) -> None:
    server.fail("GET /api/spaces", swap=True, times=99)
    server.make("space", SPACE)
    error = refusal(server, rows(place, 0))
    assert re.search(r"^cannot read Space alice/board: .*; is http://127.0.0.1:\d+ a Hub\?$", str(error))


def processed(home: Path, address: str, *words: object, token: str = WRITER, **variables: str) -> Any:
    """A command in a process of its own, at home in ``home``."""
    keep = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    home.mkdir(exist_ok=True)
    scratch = home.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    root = str(Path(commands.__file__).parents[2])
    script = f"import sys; sys.path.insert(0, {root!r}); from qbench.cli import main; main()"
    surroundings = keep | {
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "HF_ENDPOINT": address,
        "HF_TOKEN": token,
    }
    return subprocess.run(
        [sys.executable, "-c", script, "leaderboard", *map(str, words)],
        env=surroundings | {"OMP_NUM_THREADS": "1"} | variables,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_process_leaves_nothing_behind_and_keeps_the_token(
    server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    """Everything that was written anywhere, and every word on the terminal, is searched for the token."""
    page, home, registry = tmp_path / "page", tmp_path / "home", tmp_path / "mine.duckdb"
    Registry(registry).merge(rows(place, 0, 1))
    build(Registry(registry), page)
    write(Registry(registry), page / FILE)
    server.fail(COMMIT["dataset"], 429, headers={"Retry-After": "0"})
    server.fail("PUT /lfs", 500)
    options = ("--repo", SPACE, "--folder", page)
    ended = [processed(home, server.address, "push", *options, HF_DEBUG="1")]
    ended += [processed(home, server.address, "push", "--repo", SPACE, "--folder", page, token=READER)]
    ended += [
        processed(home, server.address, "pull", "--repo", SPACE, "--registry", tmp_path / "theirs.duckdb")
    ]
    server.fail("GET /api/spaces", 400, times=99)
    ended += [processed(home, server.address, "push", *options)]
    ended += [processed(home, server.address, "push", *options, HF_HUB_OFFLINE="1")]
    assert [one.returncode for one in ended] == [0, 0, 0, 2, 2], ended
    assert ended[0].stdout.count(": created, ") == 2
    assert ended[0].stderr.count("\n") == 1
    assert "the Hub is busy (429)" in ended[0].stderr
    assert ended[1].stdout.count(": unchanged, ") == 2
    assert ended[2].stdout.startswith("2 new, 0 known, 0 rejected; now in ")
    assert re.fullmatch(
        r"qbench: the Hub refuses to read Space alice/board \(400\): no; [^\n]*\n", ended[3].stderr
    )
    assert (
        ended[4].stderr == "qbench: cannot read Space alice/board: offline mode is on; unset HF_HUB_OFFLINE\n"
    )
    assert not any(word in one.stdout + one.stderr for one in ended for word in (WRITER, READER, "signature"))
    assert list(home.rglob("*")) == []
    assert list((tmp_path / "scratch").rglob("*")) == []
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert WRITER.encode() not in path.read_bytes(), path
        assert READER.encode() not in path.read_bytes(), path
    assert [one for one in server.requests if re.search("whoami|telemetry|harness", one)] == []


def test_help_does_not_load_the_client() -> None:
    code = (
        "import sys, qbench.cli.publishing, qbench.leaderboard.publishing\n"
        "print(*({'huggingface_hub', 'torch', 'altair'} & sys.modules.keys()))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )


def test_errors_know_nothing_of_the_client() -> None:
    """A fault never seen is a line all the same."""
    asked = faults.Asked("read", "Space a/b", "http://h", "hf_abc", reached=True)
    for error, words in (
        (KeyError("hf_abc"), "cannot read Space a/b: '[token]'; is http://h a Hub?"),
        (ValueError("two\nlines /home/alice/x"), "cannot read Space a/b: two lines ~/x; is http://h a Hub?"),
        (RuntimeError(""), "cannot read Space a/b: RuntimeError; is http://h a Hub?"),
    ):
        assert str(faults.explain(error, asked)) == words
