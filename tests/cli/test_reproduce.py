"""``qbench reproduce``: real cells in a worker's process."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qbench.environment import environment_id
from qbench.registry import Registry, RunCell
from qbench.schema import Cell, Measurement, Result, Spec, Status

HELD = {"sqnr_db", "gap_db", "rate", "static_bytes"}


@pytest.fixture
def own(ran: Any, tmp_path: Path) -> Path:
    """A copy of the registry that measured the tiny suite."""
    return Path(shutil.copy(ran.registry, tmp_path / "own.duckdb"))


def uniform(qb: Callable[..., Any], registry: Path) -> str:
    where = "quantizer=uniform bits=4 dataset=gaussian"
    (row,) = qb("results", "--registry", registry, "--where", where, "--json").json
    return str(row["result_id"])


def elsewhere(connection: duckdb.DuckDBPyConnection) -> None:
    """Let what a registry holds have been measured on another processor."""
    for before, text in connection.execute("SELECT environment_id, content FROM environments").fetchall():
        content = json.loads(text) | {"cpu": "Abacus 9000"}
        after = environment_id(content)
        connection.execute("INSERT INTO environments VALUES (?, ?)", [after, json.dumps(content)])
        for table in ("results", "runs"):
            change = f"UPDATE {table} SET environment_id = ? WHERE environment_id = ?"
            connection.execute(change, [after, before])


def submitted(own: Path, change: str = "", *, moved: bool = True) -> Path:
    """A registry that took everything over from a file; before, ``change`` was made to what it says.

    Unless ``moved`` is false, it was measured on another machine.
    """
    exported, theirs = own.parent / "submission.parquet", own.parent / "theirs.duckdb"
    with duckdb.connect(str(own)) as connection:
        connection.execute(change or "SELECT 1")
        if moved:
            elsewhere(connection)
    Registry(own).export(exported)
    Registry(theirs).merge(exported)
    return theirs


def test_a_result_of_ones_own_holds_exactly_and_stays_self_reported(
    qb: Callable[..., Any], own: Path
) -> None:
    result_id = uniform(qb, own)
    ended = qb("reproduce", result_id, "--registry", own, "--json")
    assert ended.code == 0
    (found,) = ended.json
    assert (found["verdict"], found["independent"], found["same_code"]) == ("holds", False, True)
    assert {check["quantity"]: check["difference"] for check in found["quantities"]} == dict.fromkeys(
        HELD, 0.0
    )
    rows = qb("results", "--registry", own, "--all", "--where", f"cell_id={found['cell_id']}", "--json").json
    assert [row["result_id"] for row in rows] == [result_id, found["again_id"]]
    assert {row["suite"] for row in rows} == {"tiny"}
    assert len({row["digest"] for row in rows}) == 1
    assert set(Registry(own).trust().values()) == {"self-reported"}


def test_a_result_from_elsewhere_is_reproduced(qb: Callable[..., Any], own: Path) -> None:
    theirs = submitted(own)
    result_id = uniform(qb, theirs)
    assert re.search(r"^trust +self-reported$", qb("show", result_id, "--registry", theirs).out, re.MULTILINE)
    ended = qb("reproduce", result_id[:10], "--registry", theirs)
    assert ended.code == 0
    assert "holds: every quantity is equal" in ended.out
    assert re.search(r"^from +submission\.parquet$", ended.out, re.MULTILINE)
    assert re.search(r"^trust +reproduced$", qb("show", result_id, "--registry", theirs).out, re.MULTILINE)
    (shown,) = qb("show", result_id, "--registry", theirs, "--json").json
    assert shown["trust"] == "reproduced"
    assert list(Registry(theirs).trust().values()).count("reproduced") == 2


def test_ones_own_result_that_came_back_is_not_reproduced(qb: Callable[..., Any], own: Path) -> None:
    """It came from a file, and was measured in the very environment that it is run again in."""
    theirs = submitted(own, moved=False)
    result_id = uniform(qb, theirs)
    ended = qb("reproduce", result_id, "--registry", theirs)
    assert ended.code == 0
    said = r"^trust +it holds; measured in the same environment, so it stays self-reported$"
    assert re.search(said, ended.out, re.MULTILINE)
    (found,) = qb("reproduce", result_id, "--registry", theirs, "--json").json
    assert (found["source"], found["same_environment"], found["independent"]) == (
        "submission.parquet",
        True,
        False,
    )
    assert set(Registry(theirs).trust().values()) == {"self-reported"}


def test_a_tampered_rate_does_not_hold(qb: Callable[..., Any], own: Path) -> None:
    result_id = uniform(qb, own)
    change = f"UPDATE measurements SET value = value - 0.5 WHERE name = 'rate' AND result_id = '{result_id}'"
    theirs = submitted(own, change)
    ended = qb("reproduce", result_id, "--registry", theirs, "--json")
    assert ended.code == 1
    (found,) = ended.json
    assert found["verdict"] == "does not hold"
    assert found["why"] == "further off than allowed: rate"
    (rate,) = [check for check in found["quantities"] if check["quantity"] == "rate"]
    assert (rate["difference"], rate["tolerance"], rate["holds"]) == (pytest.approx(0.5), 0.0, False)
    assert Registry(theirs).trust([result_id]) == {result_id: "self-reported"}
    written = Registry(theirs).sql("SELECT holds, independent FROM reproductions").fetchall()
    assert written == [(False, True)]


def foreign(registry: Path, **changed: Any) -> str:
    """Writes a result whose cell is not of this installation; returns its identifier."""
    fields: dict[str, Any] = {"track": "rate-distortion", "track_version": 2, "target": "source"}
    fields |= {
        "quantizer": Spec(name="uniform"),
        "dataset": Spec(name="gaussian"),
        "budget": {"elements": 256},
    }
    cell, held = Cell(**fields | changed), Registry(registry)
    run_id = held.begin_run("tiny", {}, [RunCell(cell.cell_id, cell.track, "d")])
    result = Result(
        cell=cell,
        fingerprint="f",
        device_kind="cpu",
        device="cpu",
        environment_id=environment_id({}),
        run_id=run_id,
        status=Status.OK,
        measurements={"rate": Measurement(value=4.0, unit="bit/element")},
        started=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
    )
    held.write([result])
    return result.result_id


CELLS: list[tuple[dict[str, Any], str]] = [
    ({"quantizer": Spec(name="absent")}, "no quantizer is called 'absent'"),
    ({"dataset": Spec(name="absent")}, "no dataset is called 'absent'"),
    ({"track": "absent"}, "no track is called 'absent'"),
    ({"track_version": 1}, "version 1 of track 'rate-distortion', and version 2 is installed"),
    ({"budget": {"absent": 1}}, "absent"),
    (
        {
            "track": "float",
            "track_version": 1,
            "target": "weight",
            "quantizer": None,
            "model": Spec(name="cnn"),
            "dataset": Spec(name="cifar10"),
            "optimizer": Spec(name="adam"),
            "budget": {},
        },
        "cifar10",
    ),
]


@pytest.mark.parametrize(("changed", "words"), CELLS)
def test_what_is_missing_here_is_one_line_and_nothing_is_written(
    qb: Callable[..., Any],
    refused: Callable[..., None],
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    words: str,
) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(own.parent / "no-data"))
    result_id = foreign(own, **changed)
    before = own.read_bytes()
    refused(qb("reproduce", result_id, "--registry", own, "--offline"), words)
    assert own.read_bytes() == before


def test_a_failed_result_cannot_hold(qb: Callable[..., Any], refused: Callable[..., None], own: Path) -> None:
    where = "quantizer=refuses dataset=gaussian"
    (row,) = qb("results", "--registry", own, "--where", where, "--json").json
    refused(qb("reproduce", row["result_id"], "--registry", own), "ended as error")


def test_an_unknown_result(qb: Callable[..., Any], refused: Callable[..., None], own: Path) -> None:
    refused(qb("reproduce", "nothing", "--registry", own), "no result 'nothing'")
