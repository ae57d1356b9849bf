"""Faults of the Hub: those that pass do not matter, no commit is made twice, and what stays is one line."""

import re
from pathlib import Path
from typing import Any

import pytest

from qbench.leaderboard import faults
from qbench.leaderboard.faults import TRIES, HubError, persistently
from qbench.leaderboard.hub import Hub
from qbench.leaderboard.publishing import push

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from loopback_hub import WRITER, LoopbackHub
    from pushing import COMMIT, DATASET, SPACE, WANTED, Pushed, build, commits, published, refusal, rows

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


def test_errors_know_nothing_of_the_client() -> None:
    """A fault never seen is a line all the same."""
    asked = faults.Asked("read", "Space a/b", "http://h", "hf_abc", reached=True)
    for error, words in (
        (KeyError("hf_abc"), "cannot read Space a/b: '[token]'; is http://h a Hub?"),
        (ValueError("two\nlines /home/alice/x"), "cannot read Space a/b: two lines ~/x; is http://h a Hub?"),
        (RuntimeError(""), "cannot read Space a/b: RuntimeError; is http://h a Hub?"),
    ):
        assert str(faults.explain(error, asked)) == words
