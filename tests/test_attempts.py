"""Which attempt counts: the page, its CSV file, tables, citations, results and views say the same."""

import csv
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from qbench import attempts, citation, migrations, registry_file
from qbench.leaderboard.exports import write_csv
from qbench.leaderboard.points import points_of
from qbench.registry import Registry
from qbench.registry_file import RegistryFile

DAY = 86_400
START = 1.75e9
COMMON: dict[str, Any] = {"quantizers": 2, "models": 1, "datasets": 1}


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "leaderboard"))
    yield importlib.import_module("synthetic").add
    sys.modules.pop("synthetic", None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.duckdb"


def change(path: Path, query: str) -> None:
    with RegistryFile(path).transaction() as connection:
        connection.execute(query)


def merged(path: Path, attempt: int) -> None:
    """Say of the results of that attempt that they were measured elsewhere."""
    change(
        path,
        "INSERT INTO imports SELECT result_id, 'elsewhere', TIMESTAMP '2026-01-01' FROM results "
        f"WHERE attempt = {attempt}",
    )


def counted(path: Path) -> list[tuple[int, str]]:
    """Attempts and ends of what counts, without repetitions."""
    query = f"SELECT DISTINCT attempt, status FROM ({attempts.counting()}) ORDER BY ALL"
    return [(int(attempt), status) for attempt, status in Registry(path).sql(query).fetchall()]


def test_the_newest_counts(path: Path, add: Any) -> None:
    add(path, **COMMON)
    add(path, **COMMON, attempt=2, started=START - DAY)
    assert counted(path) == [(1, "ok")]
    add(path, **COMMON, attempt=3, started=START + DAY)
    assert counted(path) == [(3, "ok")]


def test_of_one_moment_the_later_attempt_counts(path: Path, add: Any) -> None:
    add(path, **COMMON)
    add(path, **COMMON, attempt=2)
    change(path, f"UPDATE results SET started = make_timestamp({int(START * 1e6)})")
    assert counted(path) == [(2, "ok")]


def test_what_was_measured_here_comes_before_what_is_newer_from_elsewhere(path: Path, add: Any) -> None:
    add(path, **COMMON)
    add(path, **COMMON, attempt=2, started=START + DAY)
    merged(path, 2)
    assert counted(path) == [(1, "ok")]
    change(path, "DELETE FROM results WHERE attempt = 1")
    assert counted(path) == [(2, "ok")]


def test_nothing_stands_in_for_a_failure(path: Path, add: Any) -> None:
    add(path, **COMMON)
    add(path, **COMMON, attempt=2, started=START + 2 * DAY)
    merged(path, 2)
    add(path, **COMMON, attempt=3, started=START + DAY, status="crashed")
    assert counted(path) == [(3, "crashed")]


def test_digests_and_kinds_of_device_have_each_their_own(path: Path, add: Any) -> None:
    add(path, **COMMON, digest="a" * 64)
    add(path, **COMMON, digest="b" * 64, attempt=2, started=START + DAY)
    add(path, **COMMON, digest="b" * 64, attempt=3, started=START + DAY, device_kind="cuda")
    assert counted(path) == [(1, "ok"), (2, "ok"), (3, "ok")]


def test_a_condition_is_met_before_the_choice(path: Path, add: Any) -> None:
    add(path, **COMMON, suite="first")
    add(path, **COMMON, suite="second", attempt=2, started=START + DAY)
    query = f"SELECT DISTINCT attempt FROM ({attempts.counting('suite = ?')})"
    assert Registry(path).sql(query, ["first"]).fetchall() == [(1,)]


def of_everything(path: Path) -> dict[str, set[str]]:
    """The results that ended well of all that counts, by who says so."""
    from qbench.cli import comparable
    from qbench.leaderboard.build import numbers_of

    registry, lines = Registry(path), path.with_suffix(".csv")
    write_csv(registry, lines)
    with lines.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    table = [each.one.cell.cell_id for each in comparable.select(registry, [])]
    cells = dict(registry.sql("SELECT result_id, cell_id FROM results").fetchall())
    cited = set(citation.numbers(registry).ids)
    assert numbers_of(registry) == citation.numbers(registry)
    assert sorted(table) == sorted(cells[one] for one in cited)
    return {
        "page": set(points_of(registry, {})[1]["result_id"]),
        "csv": {row["result_id"] for row in rows},
        "cite": cited,
        "table": {row["result_id"] for row in citation.succeeded(citation.selected(registry, []))},
        "results": {row["result_id"] for row in registry.results() if row["status"] == "ok"},
        "view": {one for (one,) in registry.sql("SELECT result_id FROM ptq").fetchall()},
    }


def test_the_page_its_files_tables_citations_results_and_views_agree(path: Path, add: Any) -> None:
    """Bits 2: measured twice here. 3: here, then newer from elsewhere. 4: here, then a crash. 8: elsewhere, twice."""
    add(path, **COMMON, bits=(2, 3, 4))
    add(path, **COMMON, bits=(2,), attempt=2, started=START + DAY)
    add(path, **COMMON, bits=(3, 8), attempt=3, started=START + DAY)
    add(path, **COMMON, bits=(8,), attempt=4, started=START + 2 * DAY)
    merged(path, 3)
    merged(path, 4)
    add(path, **COMMON, bits=(4,), attempt=5, started=START + DAY, status="timeout")
    query = """
        SELECT result_id FROM results WHERE (parameters->>'$.bits', attempt) IN (('2', 2), ('3', 1), ('8', 4))
    """
    expected = {one for (one,) in Registry(path).sql(query).fetchall()}
    assert len(expected) == 6
    assert of_everything(path) == dict.fromkeys(("page", "csv", "cite", "table", "results", "view"), expected)


def listed(path: Path, *where: str) -> list[tuple[str, str]]:
    """Status and suite of what ``qbench results`` lists, without repetitions."""
    return sorted({(row["status"], row["suite"]) for row in Registry(path).results(where)})


def test_results_and_views_have_one_row_a_cell_and_the_page_has_it_too(path: Path, add: Any) -> None:
    count = add(path, **COMMON, suite="here", digest="a" * 64)
    add(path, **COMMON, suite="there", digest="b" * 64, attempt=2, started=START + DAY, device_kind="cuda")
    merged(path, 2)
    registry = Registry(path)
    latest = registry.sql("SELECT result_id, suite FROM latest ORDER BY result_id").fetchall()
    assert [suite for _, suite in latest] == ["here"] * count
    assert latest == sorted((row["result_id"], row["suite"]) for row in registry.results())
    shown = {one for (one,) in registry.sql(f"SELECT result_id FROM ({attempts.counting()})").fetchall()}
    assert len(shown) == 2 * count
    assert shown > {one for one, _ in latest}


def test_results_of_a_suite_are_those_that_count_in_it(path: Path, add: Any) -> None:
    add(path, **COMMON, suite="first")
    add(path, **COMMON, suite="second", attempt=2, started=START + DAY, status="crashed")
    assert listed(path) == [("crashed", "second")]
    assert listed(path, "suite=first") == [("ok", "first")]
    assert listed(path, "status=ok") == []
    merged(path, 2)
    assert listed(path) == [("ok", "first")]


def test_an_older_registry_goes_by_the_rule_as_well(
    path: Path, add: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose views were made before the rule was theirs: read as it is, and once it is written to."""
    with monkeypatch.context() as patch:
        for module in (migrations, registry_file):
            patch.setattr(module, "MIGRATIONS", migrations.MIGRATIONS[:4])
        add(path, **COMMON)
        add(path, **COMMON, attempt=2, started=START + DAY)
        merged(path, 2)
        views = "SELECT DISTINCT h.attempt FROM ptq JOIN history AS h USING (result_id)"
        assert Registry(path).sql(views).fetchall() == [(2,)]
    assert Registry(path).sql(views).fetchall() == [(1,)]
    change(path, "DELETE FROM results WHERE attempt = 1")
    assert Registry(path).sql(views).fetchall() == [(2,)]
