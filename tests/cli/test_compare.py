"""``qbench compare``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

UPDATE = "UPDATE measurements SET value = value + {change} WHERE name = '{name}' AND result_id = '{result}'"


@pytest.fixture
def uniform(qb: Callable[..., Any], ran: Any) -> str:
    """A result of the tiny suite."""
    where = "quantizer=uniform bits=2 dataset=gaussian"
    (row,) = qb("results", "--registry", ran.registry, "--where", where, "--json").json
    return str(row["result_id"])


@pytest.fixture
def altered(ran: Any, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the registry of the tiny suite in which a query changed something."""

    def alter(query: str) -> Path:
        path = tmp_path / "altered.duckdb"
        path.write_bytes(Path(ran.registry).read_bytes())
        with duckdb.connect(str(path)) as connection:
            connection.execute(query)
        return path

    return alter


def test_a_registry_agrees_with_itself(qb: Callable[..., Any], ran: Any) -> None:
    ended = qb("compare", ran.registry, ran.registry)
    assert ended.code == 0
    assert "8 rows agree exactly, 0 within noise, 0 moved" in ended.out
    assert "10 in both, 0 only in A, 0 only in B" in ended.out
    assert "2 failed in both" in ended.out


def test_a_registry_agrees_with_its_export_and_its_run(
    qb: Callable[..., Any], ran: Any, tmp_path: Path
) -> None:
    exported = tmp_path / "out.parquet"
    qb("export", exported, "--registry", ran.registry)
    assert qb("compare", exported, ran.registry).code == 0
    (run_id,) = {row["run_id"] for row in qb("results", "--registry", ran.registry, "--json").json}
    ended = qb("compare", run_id[:15], exported, "--registry", ran.registry, "--json")
    assert ended.code == 0
    (summary,) = ended.json
    assert (summary["kind"], summary["cells"], summary["exactly"], summary["moved"]) == ("summary", 10, 8, 0)


def test_one_altered_rate_is_found(
    qb: Callable[..., Any], ran: Any, uniform: str, altered: Callable[..., Path]
) -> None:
    other = altered(UPDATE.format(change=0.25, name="rate", result=uniform))
    ended = qb("compare", ran.registry, other, "--json")
    assert ended.code == 1
    difference, summary = ended.json
    assert difference["result_a"] == difference["result_b"] == uniform
    assert (difference["quantity"], difference["method"], difference["verdict"]) == ("rate", "exact", "moved")
    assert difference["difference"] == pytest.approx(0.25)
    assert (summary["exactly"], summary["moved"]) == (7, 1)
    out = qb("compare", ran.registry, other).out
    row = rf"{uniform[:10]}  rate-distortion/source.* rate +2\.\d+ +\d\.\d+ +\+0\.25 +exact"
    assert re.search(row, out)
    assert "7 rows agree exactly, 0 within noise, 1 moved" in out


def test_cells_of_one_side_and_changed_endings(
    qb: Callable[..., Any], ran: Any, uniform: str, altered: Callable[..., Path]
) -> None:
    failed = f"UPDATE results SET status = 'timeout', error = 'slow' WHERE result_id = '{uniform}';"
    gone = "DELETE FROM run_cells; DELETE FROM results WHERE quantizer = 'lloyd-max'"
    ended = qb("compare", ran.registry, altered(failed + gone), "--json")
    assert ended.code == 1
    kinds = [row["kind"] for row in ended.json]
    assert kinds == ["status", "only", "only", "summary"]
    assert (ended.json[0]["a"], ended.json[0]["b"]) == ("ok", "timeout")
    assert {row["in"] for row in ended.json[1:3]} == {"a"}


def test_a_selection_is_compared(
    qb: Callable[..., Any], ran: Any, uniform: str, altered: Callable[..., Path]
) -> None:
    other = altered(UPDATE.format(change=1, name="rate", result=uniform))
    assert qb("compare", ran.registry, other, "--where", "dataset=laplacian").code == 0
    assert qb("compare", ran.registry, other, "--where", "quantizer=uniform").code == 1


def test_timings_only_on_request(
    qb: Callable[..., Any], ran: Any, uniform: str, altered: Callable[..., Path]
) -> None:
    other = altered(UPDATE.format(change=9, name="encode_throughput", result=uniform))
    assert "8 rows agree exactly" in qb("compare", ran.registry, other).out
    ended = qb("compare", ran.registry, other, "--timing")
    assert ended.code == 0
    assert "7 rows agree exactly, 0 within noise, 0 moved, 1 differ untested" in ended.out


def test_other_machines_and_code_are_named(
    qb: Callable[..., Any], ran: Any, altered: Callable[..., Path]
) -> None:
    query = """
        INSERT INTO environments SELECT 'elsewhere', json_merge_patch(content, '{"python": "3.99"}') FROM environments;
        UPDATE results SET environment_id = 'elsewhere', device = 'another'
    """
    out = qb("compare", ran.registry, altered(query)).out
    assert re.search(r"environment +another in 10 of 10: python 3\.\d+\.\d+ and 3\.99\n", out)
    assert re.search(r"device +cpu in A, another in B", out)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.duckdb", "no file 'nowhere.duckdb'"),
        ("19990101", "no run of registry"),
        (".", "is a folder"),
    ],
)
def test_bad_sides(
    qb: Callable[..., Any], refused: Callable[..., None], ran: Any, name: str, words: str
) -> None:
    refused(qb("compare", ran.registry, name, "--registry", ran.registry), words)


def test_files_that_are_neither(
    qb: Callable[..., Any], refused: Callable[..., None], ran: Any, tmp_path: Path
) -> None:
    text = tmp_path / "a.txt"
    text.write_text("hello")
    refused(qb("compare", ran.registry, text), "not a DuckDB file")


def test_nothing_in_common(
    qb: Callable[..., Any], refused: Callable[..., None], ran: Any, altered: Callable[..., Path]
) -> None:
    other = altered("UPDATE results SET device_kind = 'cuda'")
    refused(qb("compare", ran.registry, other), "10 are on cpu in A and on cuda in B")


def test_a_value_that_one_side_lacks_is_named_where_nothing_is_paired(
    qb: Callable[..., Any], refused: Callable[..., None], ran: Any, altered: Callable[..., Path]
) -> None:
    other = altered("DELETE FROM run_cells; DELETE FROM results WHERE quantizer = 'lloyd-max'")
    ended = qb("compare", ran.registry, other, "--where", "quantizer=lloyd-max")
    refused(ended, "selection quantizer=lloyd-max: no result of altered.duckdb has it")
    both = qb("compare", ran.registry, other, "--where", "quantizer=lloyd-max,uniform", "--json")
    assert both.json[-1]["only_a"] == 2
    none = qb("compare", ran.registry, other, "--where", "status=timeout")
    refused(none, "holds no result that meets 'status=timeout'")


def test_a_hostile_label_does_not_steer_the_terminal(
    qb: Callable[..., Any], ran: Any, uniform: str, altered: Callable[..., Path]
) -> None:
    hostile = f"UPDATE results SET status = 'error', error = 'x\x1b[2J' WHERE result_id = '{uniform}'"
    assert "\x1b" not in qb("compare", ran.registry, altered(hostile)).out
