"""What a registry says of the trust of its results, and what it does not take over from a file."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from qbench.environment import environment_id
from qbench.registry import Registry, Reproduction, RunCell
from qbench.schema import Cell, Measurement, Result, Spec, Status

HERE, ELSEWHERE = {"python": "3.12"}, {"python": "3.13"}
CELL = Cell(track="ptq", track_version=1, target="weight", quantizer=Spec(name="uniform"))


def written(registry: Registry, attempt: int = 1, environment: dict[str, str] = HERE) -> Result:
    """A result that the registry measured itself."""
    run_id = registry.begin_run("tiny", environment, [RunCell(CELL.cell_id, "ptq", "d")])
    result = Result(
        cell=CELL,
        attempt=attempt,
        fingerprint="f",
        device_kind="cpu",
        device="cpu",
        environment_id=environment_id(environment),
        run_id=run_id,
        status=Status.OK,
        measurements={"rate": Measurement(value=4.0, unit="bit/element")},
        started=datetime(2026, 1, attempt, tzinfo=UTC),
        seconds=1.0,
    )
    registry.write([result])
    return result


def test_a_merge_notes_where_results_come_from(tmp_path: Path) -> None:
    there, here = Registry(tmp_path / "there.duckdb"), Registry(tmp_path / "here.duckdb")
    result = written(there)
    there.export(tmp_path / "out.parquet")
    here.merge(tmp_path / "out.parquet")
    assert here.imported(result.result_id) == "out.parquet"
    assert there.imported(result.result_id) is None
    named = Registry(tmp_path / "named.duckdb")
    named.merge(there.path, source="someone/results")
    assert named.imported(result.result_id) == "someone/results"


def test_what_was_measured_here_stays_ones_own(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.duckdb")
    result = written(registry)
    registry.export(tmp_path / "out.parquet")
    assert registry.merge(tmp_path / "out.parquet").present == 1
    assert registry.imported(result.result_id) is None


@pytest.mark.parametrize(
    ("imported", "environment", "holds", "trust"),
    [
        (True, ELSEWHERE, True, "reproduced"),
        (True, ELSEWHERE, False, "self-reported"),
        (True, ELSEWHERE, None, "self-reported"),
        (False, ELSEWHERE, True, "self-reported"),
        (True, HERE, True, "self-reported"),
    ],
)
def test_only_what_came_from_elsewhere_and_holds_is_reproduced(
    tmp_path: Path, imported: bool, environment: dict[str, str], holds: bool | None, trust: str
) -> None:
    """In the environment that it is run again in it may be one's own result that came back."""
    there, here = Registry(tmp_path / "there.duckdb"), Registry(tmp_path / "here.duckdb")
    result = written(there if imported else here, environment=environment)
    if imported:
        here.merge(there.path)
    again = written(here, attempt=2)
    assert here.trust() == {result.result_id: "self-reported", again.result_id: "self-reported"}
    here.add_reproduction(Reproduction(result.result_id, again, holds, {"why": "it was run again"}))
    assert here.trust() == {result.result_id: trust, again.result_id: trust}
    assert here.trust([again.result_id]) == {again.result_id: trust}
    counted = here.sql(
        "SELECT trust, reproductions FROM trust WHERE result_id = ?", [result.result_id]
    ).fetchall()
    assert counted == [(trust, int(trust == "reproduced"))]
    known = here.sql("SELECT result_id, again_id, holds, independent, details->>'$.why' FROM reproductions")
    assert known.fetchall() == [
        (result.result_id, again.result_id, holds, imported and environment == ELSEWHERE, "it was run again")
    ]


def reproduced(tmp_path: Path) -> tuple[Registry, Result]:
    there, here = Registry(tmp_path / "there.duckdb"), Registry(tmp_path / "here.duckdb")
    result = written(there, environment=ELSEWHERE)
    here.merge(there.path)
    here.add_reproduction(Reproduction(result.result_id, written(here, attempt=2), True, {}))
    return here, result


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
def test_trust_does_not_travel(tmp_path: Path, kind: str) -> None:
    here, result = reproduced(tmp_path)
    assert here.trust()[result.result_id] == "reproduced"
    submission = here.path
    if kind == "parquet":
        submission = tmp_path / "out.parquet"
        here.export(submission)
        query = "SELECT name FROM (DESCRIBE SELECT * FROM read_parquet(?)) AS d(name, a, b, c, d, e)"
        names = {name for (name,) in duckdb.execute(query, [str(submission)]).fetchall()}
        assert not names & {"trust", "reproductions", "imports", "holds", "independent", "source"}
    another = Registry(tmp_path / "another.duckdb")
    assert another.merge(submission).added == 2
    assert set(another.trust().values()) == {"self-reported"}
    assert another.sql("SELECT count(*) FROM reproductions").fetchall() == [(0,)]


def test_a_forged_file_gives_nothing(tmp_path: Path) -> None:
    there = Registry(tmp_path / "there.duckdb")
    written(there)
    plain, forged = tmp_path / "plain.parquet", tmp_path / "forged.parquet"
    there.export(plain)
    duckdb.execute(f"""
        COPY (
            SELECT *, 'reproduced' AS trust, 7 AS reproductions, true AS independent, true AS holds,
                   [{{'result_id': result_id, 'holds': true, 'independent': true}}] AS imports
            FROM read_parquet('{plain}')
        ) TO '{forged}' (FORMAT parquet)
    """)
    here = Registry(tmp_path / "here.duckdb")
    assert here.merge(forged).added == 1
    assert set(here.trust().values()) == {"self-reported"}
    assert here.sql("SELECT count(*) FROM reproductions").fetchall() == [(0,)]


def test_registries_of_the_schema_before_are_read_and_written(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "old.duckdb")
    result = written(registry)
    with duckdb.connect(str(registry.path)) as connection:
        connection.execute("DROP VIEW trust; DROP TABLE reproductions; DROP TABLE imports")
        connection.execute("DELETE FROM migrations WHERE number > 3")
    assert Registry(registry.path).trust() == {result.result_id: "self-reported"}
    with duckdb.connect(str(registry.path), read_only=True) as connection:
        assert connection.execute("SELECT max(number) FROM migrations").fetchall() == [(3,)]
    again = written(Registry(registry.path), attempt=2)
    assert set(Registry(registry.path).trust()) == {result.result_id, again.result_id}


def test_a_registry_of_ones_own_takes_reproductions_over(tmp_path: Path) -> None:
    here, result = reproduced(tmp_path)
    page = Registry(tmp_path / "page.duckdb")
    page.merge(here.path)
    page.adopt_reproductions(here)
    page.adopt_reproductions(here)
    assert page.trust() == here.trust()
    assert page.trust()[result.result_id] == "reproduced"
