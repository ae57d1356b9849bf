"""What a push publishes: both repositories, every row, nothing twice, and only what is valid."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from qbench.leaderboard.published import FILE, write
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    import loopback_hub
    from loopback_hub import READER, LoopbackHub
    from pushing import COMMIT, DATASET, SPACE, Pushed, build, commits, published, refusal, rows


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
