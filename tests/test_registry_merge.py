"""Merges of what a stranger may have written, in several transactions, in parts, and cut short."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qbench.registry import Merged, Registry
from qbench.registry_incoming import Validator

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    patch.syspath_prepend(str(Path(__file__).parent / "registry"))
    from sample_registry import begin, make_cell, make_result

ROWS = 7
TABLES = ("environments", "runs", "run_cells", "results", "measurements")


@pytest.fixture
def source(tmp_path: Path) -> Registry:
    """Seven results of one run that lists four of them, and a second that lists all."""
    registry = Registry(tmp_path / "source.duckdb")
    cells = [make_cell(seed) for seed in range(ROWS)]
    run_id = begin(registry, cells[:4])
    results = [make_result(cell, run_id) for cell in cells]
    registry.write(results)
    begin(registry, cells, **{one.cell_id: one.result_id for one in results})
    return registry


@pytest.fixture
def exported(source: Registry, tmp_path: Path) -> Path:
    source.export(tmp_path / "source.parquet")
    return tmp_path / "source.parquet"


@pytest.fixture
def target(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "target.duckdb")


def contents(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    return {table: registry.sql(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in TABLES}


def rewritten(path: Path, change: str) -> Path:
    """The export with every row changed."""
    with duckdb.connect() as connection:
        connection.read_parquet(str(path)).select(change).write_parquet(
            str(path.with_name("changed.parquet"))
        )
    return path.with_name("changed.parquet")


@pytest.mark.parametrize("held", [200_000_000, 1])
def test_several_transactions_write_what_one_does(
    exported: Path, target: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    whole = Registry(tmp_path / "whole.duckdb")
    assert whole.merge(exported) == Merged(added=ROWS)
    monkeypatch.setattr("qbench.registry_exchange.PORTION", 2)
    monkeypatch.setattr("qbench.registry_exchange.BATCH", 4)
    monkeypatch.setattr("qbench.registry_exchange.HELD", held)
    assert target.merge(exported) == Merged(added=ROWS)
    assert contents(target) == contents(whole)
    assert target.merge(exported) == Merged(present=ROWS)
    assert contents(target) == contents(whole)


def test_a_registry_is_read_in_parts(
    source: Registry, exported: Path, target: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Registry(tmp_path / "whole.duckdb")
    whole.merge(exported)
    monkeypatch.setattr("qbench.registry_exchange.parts.__defaults__", (5_000,))
    assert target.merge(source.path) == Merged(added=ROWS)
    assert contents(target) == contents(whole)


def test_a_merge_that_is_cut_short_keeps_what_it_wrote(
    exported: Path, target: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming, seen = Validator.incoming, []

    def dies(self: Validator, row: dict[str, Any]) -> Any:
        seen.append(row)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return incoming(self, row)

    with monkeypatch.context() as patch:
        patch.setattr("qbench.registry_exchange.PORTION", 1)
        patch.setattr("qbench.registry_exchange.BATCH", 2)
        patch.setattr(Validator, "incoming", dies)
        with pytest.raises(KeyboardInterrupt):
            target.merge(exported)
    both = "SELECT count(*), count(DISTINCT result_id) FROM {}"
    assert target.sql(both.format("results")).fetchall() == [(2, 2)]
    assert target.sql(both.format("measurements")).fetchall() == [(2, 2)]
    assert target.sql(both.format("imports")).fetchall() == [(2, 2)]
    assert target.merge(exported) == Merged(added=ROWS - 2, present=2)


def of_run(name: str, value: str) -> str:
    """A change of every run that a row names."""
    return f"* REPLACE (list_transform(runs, lambda run: struct_update(run, {name} := {value})) AS runs)"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (of_run("arguments", "'{\"a\": NaN}'"), "JSON compliant"),
        (of_run("arguments", '\'{"a": "\\ud800"}\''), "surrogates"),
        (of_run("environment", "'{\"a\": NaN}'"), "JSON compliant"),
        (of_run("environment", '\'{"a": "\\ud800"}\''), "surrogates"),
        (of_run("environment", "'[]'"), "environment"),
        (of_run("started", "'9999-12-31T23:59:59-10:00'"), "out of range"),
        (of_run("digest", "repeat('d', 65)"), "digest"),
        (of_run("more", "1"), "more"),
        ('* REPLACE (\'{"a": "\\ud800"}\' AS facts)', "surrogates"),
    ],
)
def test_a_row_that_no_table_can_hold_is_rejected_alone(
    exported: Path, target: Registry, tmp_path: Path, change: str, reason: str
) -> None:
    merged = target.merge([rewritten(exported, change), exported])
    assert (merged.added, merged.present, merged.rejected) == (ROWS, 0, ROWS)
    assert reason in str(merged.reason)


def test_an_environment_that_is_known_is_still_held_against_each_row(
    exported: Path, target: Registry
) -> None:
    change = "* REPLACE (CASE WHEN seed % 2 = 1 THEN 'e' ELSE environment_id END AS environment_id)"
    merged = target.merge(rewritten(exported, change))
    assert (merged.added, merged.rejected) == (4, 3)
    assert "not the one it names, e" in str(merged.reason)


def test_what_the_first_row_says_of_a_run_stays(exported: Path, target: Registry) -> None:
    """Every row names another version for the same run."""
    changed = rewritten(exported, of_run("version", "'version-' || seed"))
    assert target.merge(changed).added == ROWS
    ((seed,),) = target.sql("SELECT seed FROM results ORDER BY started, result_id LIMIT 1").fetchall()
    whole = "SELECT version FROM runs WHERE run_id = (SELECT run_id FROM run_cells GROUP BY ALL HAVING count(*) = 7)"
    assert target.sql(whole).fetchall() == [(f"version-{seed}",)]


def test_of_two_results_for_one_place_the_first_has_it(target: Registry, tmp_path: Path) -> None:
    cell, other = make_cell(), Registry(tmp_path / "other.duckdb")
    run_id = begin(other, [cell])
    first, second = make_result(cell, run_id), make_result(cell, run_id, attempt=2)
    other.write([first])
    other.export(tmp_path / "first.parquet")
    shutil.copyfile(tmp_path / "first.parquet", tmp_path / "both.parquet")
    change = f"* REPLACE ('{second.result_id}' AS result_id, 2 AS attempt)"
    changed = rewritten(tmp_path / "first.parquet", change)
    with duckdb.connect() as connection:
        both = connection.read_parquet([str(tmp_path / "first.parquet"), str(changed)])
        both.write_parquet(str(tmp_path / "both.parquet"))
    assert target.merge(tmp_path / "both.parquet") == Merged(added=2)
    assert target.sql("SELECT result_id FROM run_cells").fetchall() == [(first.result_id,)]
    assert target.merge(tmp_path / "both.parquet") == Merged(present=2)
    assert target.sql("SELECT result_id FROM run_cells").fetchall() == [(first.result_id,)]
