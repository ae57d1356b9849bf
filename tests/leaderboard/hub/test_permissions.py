"""Refusals, pull requests, and names of repositories."""

from pathlib import Path

import pytest

from qbench.leaderboard.faults import HubError
from qbench.leaderboard.hub import Repository

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from loopback_hub import READER, WRITER, LoopbackHub
    from pushing import COMMIT, DATASET, SPACE, Pushed, commits, published, refusal, rows

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
