"""Exports and merges: the same rows again, bad ones counted, and nothing of a run redirected."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qbench.errors import RegistryError
from qbench.registry import Merged, Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_registry import NO_REGISTRIES, begin, make_cell, make_result


def contents(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    tables = ("environments", "runs", "run_cells", "results", "measurements")
    return {table: registry.sql(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in tables}


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
def test_a_merged_registry_is_the_same_again(filled: Registry, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "it's [1]*?.parquet" if kind == "parquet" else filled.path
    if kind == "parquet":
        assert filled.export(source) == 3
    other = Registry(tmp_path / "other.duckdb")
    assert other.merge(source) == Merged(added=3)
    before = contents(other)
    assert {table: before[table] for table in before if table != "run_cells"} == {
        table: rows for table, rows in contents(filled).items() if table != "run_cells"
    }
    assert other.results().rows() == filled.results().rows()
    assert other.merge([source, source]) == Merged(present=6)
    assert contents(other) == before


def test_results_of_several_runs_meet_in_one_registry(tmp_path: Path) -> None:
    """Two machines measured overlapping cells; each cell is there once, each run knows its results."""
    halves = [Registry(tmp_path / f"{name}.duckdb") for name in "ab"]
    for registry, seeds in zip(halves, (range(3), range(2, 5))):
        cells = [make_cell(seed) for seed in seeds]
        run_id = begin(registry, cells)
        registry.write([make_result(cell, run_id) for cell in cells])
    whole = Registry(tmp_path / "whole.duckdb")
    assert whole.merge([half.path for half in halves]) == Merged(added=5, present=1)
    assert whole.sql("SELECT count(*), count(result_id) FROM run_cells").fetchall() == [(6, 6)]
    for half in halves:
        ((run_id,),) = half.sql("SELECT run_id FROM runs").fetchall()
        assert [row["seed"] for row in whole.results(f"run_id={run_id}")] == [
            row["seed"] for row in half.results()
        ]


def rewritten(path: Path, change: str) -> Path:
    """A copy of an exported file with every row changed."""
    changed = path.with_name("changed.parquet")
    with duckdb.connect() as connection:
        connection.read_parquet(str(path)).select(change).write_parquet(str(changed))
    return changed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("* REPLACE (attempt + 1 AS attempt)", "result_id .* is not that of its contents"),
        ("* REPLACE ('nonsense' AS status)", "status"),
        ("* REPLACE (NULL AS started)", "started"),
        ("* REPLACE (-1.0 AS seconds)", "seconds"),
        ("* REPLACE ('{' AS cell)", "Expecting"),
        ("* REPLACE (repeat('[', 100000) AS cell)", "result"),
        ("* REPLACE ('{\"a\": NaN}' AS facts, 'x' AS environment_id)", "facts"),
        ('* REPLACE (\'{"python": "2.7"}\' AS environment)', "its environment is not the one it names"),
        (
            "* REPLACE ([{'name': 'mse', 'value': 'nan'::DOUBLE, 'unit': 'x', 'n': 1, 'timing': false, "
            "'samples': []}] AS measurements)",
            "finite",
        ),
        ("* REPLACE ([{'run_id': 'x', 'position': -1}] AS runs)", "suite"),
        ("* EXCLUDE (measurements)", "lacks 'measurements'"),
        ("1 AS a", "lacks"),
    ],
)
def test_bad_rows_are_counted_and_harm_nothing(
    filled: Registry, tmp_path: Path, change: str, reason: str
) -> None:
    filled.export(tmp_path / "out.parquet")
    other = Registry(tmp_path / "other.duckdb")
    other.write([make_result(make_cell(9))])
    before = contents(other)
    merged = other.merge(rewritten(tmp_path / "out.parquet", change))
    assert (merged.added, merged.present, merged.rejected) == (0, 0, 3)
    assert re.search(reason, str(merged.reason))
    assert "\n" not in str(merged.reason)
    assert contents(other) == before


def test_good_rows_among_bad_ones_are_taken(filled: Registry, tmp_path: Path) -> None:
    filled.export(tmp_path / "out.parquet")
    change = "* REPLACE (CASE WHEN seed = 1 THEN 'nonsense' ELSE status END AS status)"
    merged = Registry(tmp_path / "other.duckdb").merge(rewritten(tmp_path / "out.parquet", change))
    assert (merged.added, merged.rejected) == (2, 1)


def test_a_stranger_cannot_redirect_my_run(filled: Registry, tmp_path: Path) -> None:
    """A row that claims a place in a run that is here already leaves that run as it is."""
    other = Registry(tmp_path / "other.duckdb")
    shutil.copyfile(filled.path, other.path)
    ((run_id,),) = filled.sql("SELECT run_id FROM runs").fetchall()
    other.write([make_result(make_cell(0), run_id, attempt=9)])
    before = filled.sql("SELECT * FROM run_cells ORDER BY ALL").fetchall()
    assert filled.merge(other.path).added == 1
    assert filled.sql("SELECT * FROM run_cells ORDER BY ALL").fetchall() == before


def test_a_pending_cell_is_filled_by_a_merge(filled: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other.duckdb")
    shutil.copyfile(filled.path, other.path)
    ((run_id,),) = filled.sql("SELECT run_id FROM runs").fetchall()
    other.write([make_result(make_cell(3), run_id)])
    filled.merge(other.path)
    assert filled.sql("SELECT count(*) FROM run_cells WHERE result_id IS NULL").fetchall() == [(0,)]


@pytest.mark.parametrize("make", NO_REGISTRIES)
def test_what_cannot_be_merged_is_told_in_one_line(
    filled: Registry, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "other")
    with pytest.raises(RegistryError, match="other") as raised:
        filled.merge(tmp_path / "other")
    assert "\n" not in str(raised.value)
    assert len(filled.results()) == 3


def test_a_parquet_file_cut_short_is_told(filled: Registry, tmp_path: Path) -> None:
    filled.export(tmp_path / "out.parquet")
    content = (tmp_path / "out.parquet").read_bytes()
    (tmp_path / "out.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(RegistryError, match=r"out\.parquet") as raised:
        filled.merge(tmp_path / "out.parquet")
    assert "\n" not in str(raised.value)
    with pytest.raises(RegistryError, match="absent"):
        filled.merge(tmp_path / "absent")


def test_an_export_overwrites_exports_only(filled: Registry, tmp_path: Path) -> None:
    filled.export(tmp_path / "out.parquet")
    filled.export(tmp_path / "out.parquet")
    precious = tmp_path / "precious.py"
    precious.write_text("thesis = 42\n")
    for path in (filled.path, precious, tmp_path, tmp_path / "nowhere" / "out.parquet"):
        with pytest.raises(RegistryError, match="cannot export to"):
            filled.export(path)
    assert precious.read_text() == "thesis = 42\n"
    assert len(filled.results()) == 3
