"""The file of published results, and pulling it: whatever it holds, only valid rows get in, and nothing breaks."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from qbench.errors import RegistryError
from qbench.leaderboard import published, pulling
from qbench.leaderboard.faults import HubError
from qbench.leaderboard.hub import Hub, Repository
from qbench.leaderboard.published import FILE, absent, columns, count, same, sift, write
from qbench.leaderboard.pulling import pull
from qbench.registry import Merged, Registry
from qbench.schema import Cell, Measurement, Result, Spec

with pytest.MonkeyPatch.context() as patch:
    for folder in Path(__file__).parents[:2]:
        patch.syspath_prepend(str(folder))
    import loopback_hub
    from loopback_hub import LoopbackHub
    from sample_results import STARTED, result_of, write_run

RESULTS = Repository.named("dataset", "alice/board-results")


def make_result(seed: int) -> Result:
    cell = Cell(
        track="rate-distortion",
        track_version=1,
        target="source",
        dataset=Spec.parse("gaussian"),
        quantizer=Spec.parse("uniform(bits=4)"),
        seed=seed,
    )
    measured = {
        "mse": Measurement.mean([0.25, 0.75 + seed], "mse"),
        "rate": Measurement.mean([4.0], "bit"),
    }
    return result_of(cell, measurements=measured, started=STARTED + timedelta(seconds=seed))


def make_registry(path: Path, seeds: range) -> Registry:
    """A registry of one run with a result for each of ``seeds``."""
    registry = Registry(path)
    write_run(registry, [make_result(seed) for seed in seeds], ["d" * 64] * len(seeds), "smoke")
    return registry


def rewritten(source: Path, target: Path, select: str) -> bytes:
    """What ``select`` makes of the rows ``given``, as a Parquet file."""
    query = f"WITH given AS (SELECT * FROM read_parquet('{source}')) {select}"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)")
    return target.read_bytes()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three published results. Nobody writes into it."""
    folder = tmp_path_factory.mktemp("published")
    write(make_registry(folder / "source.duckdb", range(3)), folder / FILE)
    return folder / FILE


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub with an empty data set; nobody waits for long."""
    import time

    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.002)))
    with loopback_hub.running() as hub:
        hub.make("dataset", RESULTS.name)
        yield hub


@pytest.fixture
def publish(server: LoopbackHub) -> Callable[[bytes], None]:
    """Put these bytes where the results are."""
    return lambda content: server.put(server.dataset(RESULTS.name), results__parquet=content)


def taken(
    server: LoopbackHub, registry: Path, revision: str | None = None, token: str | None = None
) -> Merged:
    said: list[str] = []
    return pull(Hub(server.address, token), RESULTS, revision, Registry(registry), said.append)


def test_the_same_rows_are_the_same_bytes(file: Path, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other.duckdb")
    for seed in (2, 0, 1):  # one by one, in another order
        part = tmp_path / f"{seed}.parquet"
        rewritten(file, part, f"SELECT * FROM given WHERE seed = {seed}")
        assert other.merge(part) == Merged(added=1)
    assert write(other, tmp_path / "again.parquet") == 3
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()


def test_rows_are_compared_whatever_wrote_their_bytes(file: Path, tmp_path: Path) -> None:
    other, sifted = tmp_path / "other.parquet", tmp_path / "sifted.parquet"
    reversed_lists = (
        "SELECT * REPLACE (list_reverse(measurements) AS measurements) FROM given ORDER BY seed DESC"
    )
    assert rewritten(file, other, reversed_lists) != file.read_bytes()
    assert sift(other, sifted, "it") == 0
    assert same(sifted, file)
    assert absent(sifted, file, tmp_path / "new.parquet") == 0
    rewritten(file, other, "SELECT * REPLACE (seconds + seed // 2 AS seconds) FROM given")  # the last of them
    sift(other, sifted, "it")
    assert not same(sifted, file)
    assert absent(sifted, file, tmp_path / "new.parquet") == 1
    rewritten(file, other, "SELECT * FROM given WHERE seed < 2")
    sift(other, sifted, "it")
    assert not same(sifted, file)
    assert (count(sifted), absent(sifted, file, tmp_path / "none.parquet")) == (2, 0)


def test_columns_are_those_of_an_export(file: Path) -> None:
    assert {"result_id", "cell", "measurements", "environment", "runs"} <= columns().keys()
    assert "JSON" not in " ".join(columns().values())
    with duckdb.connect() as connection:
        found = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{file}')").fetchall()
    assert [name for name, *_ in found] == list(columns())


def test_unknown_columns_are_not_read(file: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.parquet"
    rewritten(file, more, "SELECT 'reproduced' AS trust, repeat('x', 1000) AS extra, * FROM given")
    sift(more, tmp_path / "sifted.parquet", "it")
    assert same(tmp_path / "sifted.parquet", file)
    assert b"trust" not in (tmp_path / "sifted.parquet").read_bytes()


def test_rows_too_large_to_be_a_result_are_left_out(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, sifted = tmp_path / "large.parquet", tmp_path / "sifted.parquet"
    rewritten(file, large, "SELECT * REPLACE (if(seed = 1, repeat('x', 100000), error) AS error) FROM given")
    monkeypatch.setattr(published, "MAX_ROW", 50_000)
    assert sift(large, sifted, "it") == 1
    assert count(sifted) == 2
    samples = (
        "list_transform(measurements, lambda m: struct_update(m, samples := range(seed * 9000)::DOUBLE[]))"
    )
    rewritten(file, large, f"SELECT * REPLACE ({samples} AS measurements) FROM given")
    assert sift(large, sifted, "it") == 2
    assert count(sifted) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: b"PAR1",
        lambda content: b"no Parquet at all",
        lambda content: content[: len(content) // 2],
        lambda content: content[:40] + bytes(200) + content[240:],
        lambda content: b"PAR1" + bytes(len(content)) + content[-8:],
    ],
    ids=["empty", "start", "text", "half", "hole", "zeros"],
)
def test_a_damaged_file_is_one_line_and_harms_nothing(
    spoil: Callable[[bytes], bytes],
    file: Path,
    tmp_path: Path,
    server: LoopbackHub,
    publish: Callable[[bytes], None],
) -> None:
    before = make_registry(tmp_path / "mine.duckdb", range(1))
    known = before.path.read_bytes()
    publish(spoil(file.read_bytes()))
    with pytest.raises(
        HubError, match=r"results.parquet of data set alice/board-results at \w+ is damaged"
    ) as raised:
        taken(server, before.path)
    assert "\n" not in str(raised.value)
    assert before.path.read_bytes() == known


def test_a_file_of_something_else_is_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    rewritten(file, other, "SELECT 1 AS a, 2 AS b")
    with pytest.raises(RegistryError, match="it holds no results: none of its columns is known"):
        sift(other, tmp_path / "sifted.parquet", "it")


def test_pull_takes_over_what_is_new(
    file: Path, tmp_path: Path, server: LoopbackHub, publish: Callable[[bytes], None]
) -> None:
    publish(file.read_bytes())
    mine = tmp_path / "mine.duckdb"
    make_registry(mine, range(2, 4))
    assert taken(server, mine) == Merged(added=2, present=1)
    assert taken(server, mine) == Merged(present=3)
    assert len(Registry(mine).results()) == 4
    assert taken(server, tmp_path / "new.duckdb") == Merged(added=3)
    write(Registry(tmp_path / "new.duckdb"), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == file.read_bytes()
    assert server.asked("^(POST|PUT)") == 0


HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\u202e"
REPLACED = {
    "another identifier": "'0123456789abcdef' AS result_id",
    "an identifier of another type": "7 AS result_id",
    "a cell that is no JSON": "'{' AS cell",
    "a cell of nothing": "'null' AS cell",
    "a cell as deep as possible": f"'{'[' * 5000}{']' * 5000}' AS cell",
    "another cell": "replace(cell::VARCHAR, 'gaussian', 'laplacian') AS cell",
    "a name outside the pattern": f"replace(cell::VARCHAR, 'gaussian', {json.dumps(HOSTILE)!r}) AS cell",
    "a status there is not": "'reproduced' AS status",
    "no measurements": "NULL AS measurements",
    "measurements of another type": "42 AS measurements",
    "a value that is no number": (
        "list_transform(measurements, lambda m: struct_update(m, value := 'NaN'::DOUBLE)) AS measurements"
    ),
    "a count below one": "list_transform(measurements, lambda m: struct_update(m, n := -1)) AS measurements",
    "another environment": '\'{"python":"4"}\' AS environment',
    "an environment that is no object": "'[]' AS environment",
    "a run without end": "list_transform(runs, lambda r: struct_update(r, status := 'trusted')) AS runs",
    "no time": "NULL AS started",
    "seconds below zero": "-1 AS seconds",
}


@pytest.mark.parametrize("change", REPLACED.values(), ids=REPLACED)
def test_a_row_that_is_not_valid_is_rejected_and_the_others_come(
    change: str, file: Path, tmp_path: Path, server: LoopbackHub, publish: Callable[[bytes], None]
) -> None:
    bad = f"SELECT * REPLACE ({change}) FROM given WHERE seed = 1"
    good = "SELECT * FROM given WHERE seed <> 1"
    # A column has one type: where that of the bad row is another one, all rows get it and all are bad.
    several = (
        f"{bad} UNION ALL BY NAME {good}"
        if " 42 " not in f" {change} "
        else f"SELECT * REPLACE ({change}) FROM given"
    )
    publish(rewritten(file, tmp_path / "bad.parquet", several))
    merged = taken(server, tmp_path / "mine.duckdb")
    assert (merged.added, merged.present, merged.rejected) == (
        (0, 0, 3) if " 42 " in f" {change} " else (2, 0, 1)
    )
    assert merged.reason is not None
    assert "\n" not in merged.reason
    assert merged.reason.startswith("result '")


def test_a_row_too_large_is_counted_as_rejected(
    file: Path,
    tmp_path: Path,
    server: LoopbackHub,
    publish: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = "SELECT * REPLACE (if(seed = 1, repeat('x', 100000), error) AS error) FROM given"
    publish(rewritten(file, tmp_path / "large.parquet", query))
    monkeypatch.setattr(published, "MAX_ROW", 50_000)
    expected = Merged(added=2, rejected=1, reason="a row is too large to be a result")
    assert taken(server, tmp_path / "mine.duckdb") == expected


def test_a_file_too_large_is_not_fetched(
    file: Path,
    tmp_path: Path,
    server: LoopbackHub,
    publish: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(file.read_bytes())
    monkeypatch.setattr(pulling, "MAX_FILE", 1000)
    with pytest.raises(HubError, match=r"has [\d.]+ kB; at most 1.0 kB are taken over"):
        taken(server, tmp_path / "mine.duckdb")
    assert server.asked("resolve|stored") == 0
    assert not (tmp_path / "mine.duckdb").exists()


def test_pull_of_a_revision(
    file: Path, tmp_path: Path, server: LoopbackHub, publish: Callable[[bytes], None]
) -> None:
    repo = server.dataset(RESULTS.name)
    publish(rewritten(file, tmp_path / "one.parquet", "SELECT * FROM given WHERE seed = 0"))
    first = repo.main[-1].name
    publish(file.read_bytes())
    repo.requests[1] = repo.main[1]
    assert taken(server, tmp_path / "a.duckdb", first).added == 1
    assert taken(server, tmp_path / "b.duckdb", "refs/pr/1").added == 1
    assert taken(server, tmp_path / "c.duckdb", "main").added == 3
    with pytest.raises(HubError, match=r"there is no such revision in data set alice/board-results \(404\)"):
        taken(server, tmp_path / "d.duckdb", "v9")


def test_pull_says_where_nothing_is(tmp_path: Path, server: LoopbackHub) -> None:
    with pytest.raises(HubError, match="holds no results.parquet: nothing was published there yet"):
        taken(server, tmp_path / "mine.duckdb")
    nowhere = Repository.named("dataset", "alice/nothing")
    for token, line in (
        (
            None,
            r"no data set alice/nothing that everybody may read \(401\); .* log in with `hf auth login`",
        ),
        (
            loopback_hub.READER,
            r"there is no data set alice/nothing at .* \(404\); check the name, or say .* --dataset",
        ),
        (
            "hf_unknownunknownunknown",
            r"does not take the token, asked to read data set alice/nothing \(401\); log in",
        ),
    ):
        with pytest.raises(HubError, match=line):
            pull(Hub(server.address, token), nowhere, None, Registry(tmp_path / "mine.duckdb"), print)
    assert not (tmp_path / "mine.duckdb").exists()


def test_a_private_data_set_is_read_with_a_token(
    file: Path, tmp_path: Path, server: LoopbackHub, publish: Callable[[bytes], None]
) -> None:
    publish(file.read_bytes())
    server.dataset(RESULTS.name).private = True
    with pytest.raises(HubError, match="that everybody may read"):
        taken(server, tmp_path / "mine.duckdb")
    assert taken(server, tmp_path / "mine.duckdb", token=loopback_hub.READER).added == 3


@pytest.mark.parametrize("step", ["GET /api/.*-results$", "GET /api/.*tree", "HEAD .*resolve", "GET /stored"])
def test_faults_that_pass_do_not_matter(
    step: str, file: Path, tmp_path: Path, server: LoopbackHub, publish: Callable[[bytes], None]
) -> None:
    publish(file.read_bytes())
    server.fail(step, 429, headers={"Retry-After": "0"})
    server.fail(step, 500)
    server.fail(step, 503, headers={"Retry-After": "1"})
    server.fail(step)
    assert taken(server, tmp_path / "mine.duckdb") == Merged(added=3)
    assert all(fault.times == 0 for fault in server.faults)


def test_a_file_that_arrives_in_parts_arrives_whole(
    file: Path, tmp_path: Path, server: LoopbackHub, publish: Callable[[bytes], None]
) -> None:
    publish(file.read_bytes())
    server.fail("GET /stored", part=0.5)
    server.fail("GET /stored", part=0.3)
    assert taken(server, tmp_path / "mine.duckdb") == Merged(added=3)
    server.fail("GET /stored", swap=True)
    assert taken(server, tmp_path / "mine.duckdb") == Merged(present=3)
    server.fail("GET /stored", swap=True, times=99)
    with pytest.raises(
        HubError, match=r"results.parquet of data set \S+ arrived damaged; gave up after 6 tries"
    ):
        taken(server, tmp_path / "other.duckdb")
    assert not (tmp_path / "other.duckdb").exists()
