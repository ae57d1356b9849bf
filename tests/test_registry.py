"""The file of results: what is written comes back, nothing written is lost, nobody blocks anybody."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

import qbench
from qbench import migrations, registry_file
from qbench.environment import environment_id
from qbench.errors import RegistryError, SuiteError
from qbench.registry import Key, Known, Merged, Registry, RunCell, open_registry
from qbench.schema import MAX_SAMPLES, Cell, Measurement, Result, Spec, Status

ENVIRONMENT = {"python": "3.11.7", "packages": {"torch": "2.11.0"}}
STARTED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ROOT = str(Path(qbench.__file__).parents[1])


def make_cell(seed: int = 0, quantizer: str = "uniform(bits=4,range=mse)", **changes: Any) -> Cell:
    given = {
        "track": "rate-distortion",
        "track_version": 1,
        "target": "source",
        "dataset": Spec.parse("gaussian"),
    }
    return Cell(**{**given, "quantizer": Spec.parse(quantizer), "seed": seed, **changes})


def make_result(cell: Cell | None = None, run_id: str = "r", **changes: Any) -> Result:
    given: dict[str, Any] = {
        "cell": cell or make_cell(),
        "fingerprint": "f" * 16,
        "device_kind": "cpu",
        "device": "cpu",
        "environment_id": environment_id(ENVIRONMENT),
        "run_id": run_id,
        "status": "ok",
        "measurements": {"mse": Measurement.mean([0.25, 0.75], "mse")},
        "started": STARTED,
        "seconds": 1.5,
    }
    if changes.get("status", "ok") != "ok":
        given |= {"error": "ValueError: boom", "measurements": {}}
    return Result(**given | changes)


def begin(registry: Registry, cells: list[Cell], suite: str = "smoke", **reused: str) -> str:
    places = [RunCell(cell.cell_id, cell.track, "d" * 64, reused.get(cell.cell_id)) for cell in cells]
    return registry.begin_run(suite, ENVIRONMENT, places)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "results.duckdb")


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """Two runs, four cells: two that succeeded, one that failed, one that is pending."""
    cells = [make_cell(seed) for seed in range(4)]
    run_id = begin(registry, cells)
    registry.write([make_result(cell, run_id) for cell in cells[:2]])
    registry.write([make_result(cells[2], run_id, status="timeout")])
    registry.finish_run(run_id)
    return registry


HARD_MEASUREMENTS = {
    "extremes": Measurement(
        value=1.7976931348623157e308, unit="x", samples=[5e-324, -0.0, 0.1, 1e308], n=2**62
    ),
    "nothing": Measurement(value=None, unit=""),
    "full": Measurement.mean([i / 3 for i in range(MAX_SAMPLES)], "é𝄞", timing=True),
    "name with 'quotes' \x00 and ünïcode": Measurement(value=-1.0, unit="\x00"),
}


HARD_RESULTS = [
    make_result(),
    make_result(make_cell(1, "entropy-coded(inner=uniform(bits=4),levels=[1,2.5,a],x=none)")),
    make_result(make_cell(-(2**62), dataset=None, model=Spec.parse("mlp(width=3)"))),
    make_result(
        Cell(track="t", track_version=7, target="gradient", budget={"lr": 1e-05, "deep": [1, {"a": "\x00"}]})
    ),
    make_result(
        make_cell(4), status="error", error="\x00 'é' \"𝄞\"", device_kind="cuda", device="GPU; DROP TABLE"
    ),
    make_result(make_cell(5), measurements=HARD_MEASUREMENTS),
    make_result(make_cell(6), facts={"a": None, "b": True, "c": 0.1, "d": "x\x00y", "e": 3}),
    make_result(attempt=3, baseline_id="b" * 64, baseline_sha256="c" * 64, seconds=1e-9),
    make_result(make_cell(8), started=STARTED.astimezone(timezone(timedelta(hours=5, minutes=30)))),
]


def test_what_is_written_comes_back(registry: Registry, tmp_path: Path) -> None:
    assert registry.write(HARD_RESULTS)
    registry.export(tmp_path / "out.parquet")
    other = Registry(tmp_path / "other.duckdb")
    assert other.merge(tmp_path / "out.parquet") == Merged(added=len(HARD_RESULTS))
    for result in HARD_RESULTS:
        assert registry.result(result.result_id) == result
        assert other.result(result.result_id) == result


def test_a_long_batch_keeps_every_sample(registry: Registry) -> None:
    """Samples that only the last of thousands of rows has: their type is not guessed from the first rows."""
    bare = {f"m{i}": Measurement(value=float(i), unit="x") for i in range(100)}
    results = [make_result(make_cell(seed), measurements=bare) for seed in range(50)]
    last = {"late": Measurement(value=None, unit="y", samples=[0.5, 1.0])}
    results.append(make_result(make_cell(50), measurements=last))
    registry.write(results)
    ((count, total),) = registry.sql("SELECT count(*), sum(value) FROM measurements").fetchall()
    assert (count, total) == (5001, 50 * sum(range(100)))
    assert registry.result(results[-1].result_id).measurements == last


def test_flat_records_have_the_documented_keys(registry: Registry) -> None:
    cell = make_cell(seed=7, quantizer="uniform(bits=4,inner=kmeans(bits=2))")
    run_id = begin(registry, [cell])
    result = make_result(cell, run_id)
    registry.write([result])
    (row,) = registry.results().rows()
    assert row == {
        "result_id": result.result_id,
        "cell_id": cell.cell_id,
        "run_id": run_id,
        "suite": "smoke",
        "digest": "d" * 64,
        "track": "rate-distortion",
        "quantizer": "uniform",
        "parameters": {"bits": 4, "inner": {"name": "kmeans", "parameters": {"bits": 2}}},
        "model": None,
        "dataset": "gaussian",
        "optimizer": None,
        "seed": 7,
        "target": "source",
        "device": "cpu",
        "status": "ok",
        "error": None,
        "metrics": {"mse": {"value": 0.5, "unit": "mse", "n": 2}},
    }
    json.dumps(row, allow_nan=False)


def test_the_data_frame_has_a_column_per_parameter_and_metric(registry: Registry) -> None:
    measurements = {"rate": Measurement(value=4.5, unit="bit"), "seed": Measurement(value=9.0, unit="1")}
    registry.write(
        [make_result(make_cell(quantizer="uniform(bits=4,status=odd)"), measurements=measurements)]
    )
    registry.write([make_result(make_cell(1, quantizer="topk(share=0.5,rate=2)"), measurements=measurements)])
    frame = registry.results().df().set_index("quantizer")
    assert frame.loc["uniform", ["bits", "parameter_status", "status", "metric_seed", "seed"]].tolist() == [
        *(4.0, "odd", "ok", 9.0, 0)
    ]
    assert frame.loc["topk", ["share", "rate", "metric_rate"]].tolist() == [0.5, 2.0, 4.5]
    assert len(registry.results("track=ptq").df()) == 0


def test_the_newest_attempt_counts(registry: Registry) -> None:
    cell = make_cell()
    first = make_result(cell, status="error")
    second = make_result(cell, attempt=2, started=STARTED + timedelta(hours=1))
    other_code = make_result(cell, fingerprint="0" * 16, started=STARTED + timedelta(minutes=30))
    registry.write([second, first, other_code])
    assert [row["result_id"] for row in registry.results()] == [second.result_id]
    every = [row["result_id"] for row in registry.results(all=True)]
    assert every == [first.result_id, other_code.result_id, second.result_id]
    assert len(registry.results("status=error")) == 0
    assert len(registry.results("status=error", all=True)) == 1


def test_a_reused_result_belongs_to_both_runs(registry: Registry) -> None:
    cell = make_cell()
    first = begin(registry, [cell])
    result = make_result(cell, first)
    registry.write([result])
    second = begin(registry, [cell], "standard", **{cell.cell_id: result.result_id})
    assert [(row["run_id"], row["suite"]) for row in registry.results()] == [(first, "smoke")]
    for where, run_id in ((f"run_id={second}", second), ("suite=standard", second), ("suite=smoke", first)):
        assert [(row["run_id"], row["result_id"]) for row in registry.results(where)] == [
            (run_id, result.result_id)
        ]
    assert len(registry.results(all=True)) == 1
    assert registry.sql("SELECT run_id, reused FROM history ORDER BY reused").fetchall() == [
        *((first, False), (second, True))
    ]


def test_a_run_knows_what_it_waits_for(filled: Registry) -> None:
    rows = filled.sql("SELECT position, result_id IS NULL FROM run_cells ORDER BY position").fetchall()
    assert rows == [(0, False), (1, False), (2, False), (3, True)]
    (run,) = filled.sql("SELECT suite, status, finished >= started, version FROM runs").fetchall()
    assert run == ("smoke", "finished", True, qbench.__version__)


def test_the_second_writer_of_a_result_changes_nothing(registry: Registry) -> None:
    first = make_result()
    second = make_result(run_id="other", measurements={"mse": Measurement.mean([9.0], "mse")})
    registry.write([first])
    registry.write([second, second, make_result(make_cell(1))])
    assert registry.result(first.result_id) == first
    assert registry.sql("SELECT count(*) FROM results").fetchall() == [(2,)]
    assert registry.sql("SELECT count(*) FROM measurements").fetchall() == [(2,)]


def test_what_a_resumed_run_goes_by(registry: Registry) -> None:
    ok, failed, mended, broken, unknown = (make_cell(seed) for seed in range(5))
    results = [
        make_result(ok),
        make_result(failed, status="crashed"),
        make_result(failed, status="timeout", attempt=2),
        make_result(mended, status="error"),
        make_result(mended, attempt=2),
        make_result(broken),
        make_result(broken, attempt=2, status="error"),
    ]
    keys = {cell.seed: Key(cell.cell_id, "f" * 16, "cpu") for cell in (ok, failed, mended, broken, unknown)}
    assert registry.latest(keys.values()) == {}
    registry.write(results)
    assert registry.latest(keys.values()) == {
        keys[0]: Known(results[0].result_id, Status.OK, 1),
        keys[1]: Known(results[2].result_id, Status.TIMEOUT, 2),
        keys[2]: Known(results[4].result_id, Status.OK, 2),
        keys[3]: Known(results[5].result_id, Status.OK, 2),
    }
    assert registry.latest([keys[0]._replace(device_kind="cuda"), keys[0]._replace(fingerprint="0")]) == {}
    assert registry.latest([]) == {}


def test_a_result_by_the_beginning_of_its_name(filled: Registry) -> None:
    names = sorted(name for (name,) in filled.sql("SELECT result_id FROM results").fetchall())
    assert filled.result(names[0][:12].upper()).result_id == names[0]
    with pytest.raises(RegistryError, match=r"no result 'zz'.*qbench results"):
        filled.result("zz")
    with pytest.raises(RegistryError, match="no result ''"):
        filled.result("")


def test_an_ambiguous_beginning_is_an_error(registry: Registry) -> None:
    """Of 17 hexadecimal names two begin alike."""
    registry.write([make_result(make_cell(seed)) for seed in range(17)])
    starts = [name[0] for (name,) in registry.sql("SELECT result_id FROM results").fetchall()]
    twice = next(start for start in starts if starts.count(start) > 1)
    with pytest.raises(RegistryError, match=f"'{twice}' is ambiguous: {twice}"):
        registry.result(twice)


def test_the_environment_of_a_result(filled: Registry) -> None:
    (row,) = filled.sql("SELECT DISTINCT environment_id FROM results").fetchall()
    assert filled.environment(row[0]) == ENVIRONMENT
    with pytest.raises(RegistryError, match="no environment 'x'"):
        filled.environment("x")


def test_views_of_the_tracks(registry: Registry) -> None:
    measurements = {"rate": Measurement(value=4.0, unit="bit"), "odd": Measurement(value=1.0, unit="x")}
    facts = {"rate_class": "fixed"}
    registry.write(
        [
            make_result(measurements=measurements, facts=facts),
            make_result(make_cell(1), status="impossible"),
            make_result(make_cell(2, track="ptq", target="weight"), measurements=measurements),
        ]
    )
    columns = "quantizer, bits, rate, mse, metrics['odd'], rate_class"
    assert registry.sql(f"SELECT {columns} FROM rate_distortion").fetchall() == [
        ("uniform", 4.0, 4.0, None, 1.0, "fixed")
    ]
    assert registry.sql("SELECT rate, accuracy FROM ptq").fetchall() == [(4.0, None)]
    assert registry.sql("SELECT count(*) FROM latest").fetchall() == [(3,)]


def test_gradient_statistics_in_rows(registry: Registry) -> None:
    """A figure of a window a row, its interval beside it; what has no dot in its name is none."""
    names = {
        "early.shape": 0.5,
        "early.shape.low": 0.4,
        "early.shape.high": 0.7,
        "late.update.shape": 1.5,
        "accuracy": 9.0,
    }
    measurements = {name: Measurement(value=value, unit="1") for name, value in names.items()}
    registry.write(
        [make_result(make_cell(1, track="gradient-statistics", target="gradient"), measurements=measurements)]
    )
    found = registry.sql(
        "SELECT part, figure, value, low, high FROM gradient_statistics ORDER BY part"
    ).fetchall()
    assert found == [("early", "shape", 0.5, 0.4, 0.7), ("late", "update.shape", 1.5, None, None)]


@pytest.mark.parametrize(
    "track", ["float", "qat", "mixed-precision", "saved-activations", "gradient-compression"]
)
def test_every_trained_track_has_a_view_of_accuracies(registry: Registry, track: str) -> None:
    accuracy = Measurement(value=97.5, unit="%")
    registry.write(
        [make_result(make_cell(2, track=track, target="weight"), measurements={"accuracy": accuracy})]
    )
    view = track.replace("-", "_")
    assert registry.sql(f"SELECT seed, accuracy, metrics['accuracy'] FROM {view}").fetchall() == [
        (2, 97.5, 97.5)
    ]


def test_sql_takes_parameters_and_gives_tables(filled: Registry) -> None:
    rows = filled.sql("SELECT seed, status FROM latest WHERE status = ? ORDER BY seed", ["ok"])
    assert rows.columns == ["seed", "status"]
    assert rows.fetchall() == [(0, "ok"), (1, "ok")]
    named = filled.sql("SELECT seed, status FROM latest WHERE seed = $seed", {"seed": 2})
    assert named.df().to_dict("records") == [{"seed": 2, "status": "timeout"}]
    assert "timeout" in repr(named)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY results TO '/tmp/qbench-never.csv'",
        "ATTACH '/tmp/qbench-never.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "DELETE FROM results",
        "DROP TABLE results",
        "CREATE TABLE x (a INTEGER)",
        "SELECT nonsense",
        "not sql",
        "",
    ],
)
def test_sql_reads_the_registry_and_nothing_else(filled: Registry, query: str) -> None:
    with pytest.raises(RegistryError):
        filled.sql(query).fetchall()
    assert filled.sql("SELECT count(*) FROM results").fetchall() == [(3,)]


@pytest.mark.parametrize(
    "query", ["SELECT * FROM read_text('/etc/passwd')", "SET enable_external_access = true"]
)
def test_writing_connections_are_closed_off_as_well(registry: Registry, query: str) -> None:
    with registry._file.transaction() as connection:
        for name in ("autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"):
            assert connection.execute("SELECT current_setting(?)", [name]).fetchone() == (False,)
    with pytest.raises(RegistryError), registry._file.transaction() as connection:
        connection.execute(query)


def test_an_unknown_key_of_a_selection_is_an_error(filled: Registry) -> None:
    with pytest.raises(SuiteError, match=r"unknown key 'trak'.*bits, range"):
        filled.results("trak=ptq")
    assert len(filled.results(["quantizer=uniform(bits=4)", "seed=0,1,2 status=ok"])) == 2


def test_an_answer_stays_as_it_was_and_holds_nobody_up(filled: Registry) -> None:
    before = filled.sql("SELECT count(*) FROM results")
    assert filled.write([make_result(make_cell(9))], wait=0)
    assert filled.sql("SELECT count(*) FROM results").fetchall() == [(4,)]
    assert before.fetchall() == [(3,)]


def test_nothing_is_left_beside_the_file(filled: Registry, tmp_path: Path) -> None:
    filled.export(tmp_path / "out.parquet")
    filled.results()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["out.parquet", "results.duckdb", "results.duckdb.lock"]
    assert Path(f"{filled.path}.lock").stat().st_size == 0


def test_reading_needs_no_lock_file_and_makes_none(filled: Registry, tmp_path: Path) -> None:
    Path(f"{filled.path}.lock").unlink()
    assert len(Registry(filled.path).results()) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["results.duckdb"]


def test_files_can_be_read_by_the_older_line_of_duckdb(filled: Registry) -> None:
    with duckdb.connect(str(filled.path), read_only=True) as connection:
        query = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'results'"
        found = connection.execute(query).fetchone()
    assert found is not None
    assert found[0].startswith("v1.4.0")


def test_it_imports_no_torch() -> None:
    code = "import sys, qbench.registry, qbench.selection; assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def make_text(path: Path) -> None:
    path.write_text("no database\n" * 1000)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_foreign(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE migrations (number INTEGER)")


def make_newer(path: Path) -> None:
    begin(Registry(path), [])
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'm099', now())")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_text, "not a DuckDB file"),
        (make_empty, "not a DuckDB file"),
        (make_folder, "is a folder"),
        (make_foreign, "no registry"),
        (make_newer, rf"schema version 99.*up to {len(migrations.MIGRATIONS)}.*upgrade"),
    ],
)
def test_what_is_no_registry_is_told_in_one_line_and_left_alone(
    registry: Registry, make: Callable[[Path], None], message: str
) -> None:
    make(registry.path)
    before = registry.path.read_bytes() if registry.path.is_file() else None
    actions: list[Callable[[], object]] = [
        lambda: registry.results(),
        lambda: open_registry(registry.path),
        lambda: registry.write([make_result()]),
        lambda: begin(registry, []),
        lambda: registry.latest([("a", "b", "cpu")]),
    ]
    for action in actions:
        with pytest.raises(RegistryError, match=message) as raised:
            action()
        assert "\n" not in str(raised.value)
        assert str(registry.path) in str(raised.value)
    assert (registry.path.read_bytes() if registry.path.is_file() else None) == before


def test_a_damaged_file_is_told_in_one_line(filled: Registry) -> None:
    """Overwritten from the first block on, as a broken disk or a copy that was cut short would."""
    content = filled.path.read_bytes()
    filled.path.write_bytes(content[:12288] + bytes(len(content) - 12288))
    with pytest.raises(RegistryError, match=filled.path.name) as raised:
        filled.results()
    assert "\n" not in str(raised.value)
    filled.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RegistryError, match=filled.path.name):
        filled.results()


def test_an_absent_registry_says_where_it_was_looked_for(registry: Registry, tmp_path: Path) -> None:
    for action in (
        lambda: registry.results(),
        lambda: open_registry(registry.path),
        lambda: registry.export("x"),
    ):
        with pytest.raises(RegistryError, match=rf"no registry at {registry.path}: run `qbench run`"):
            action()
    assert not registry.path.exists()
    with pytest.raises(RegistryError, match=r"there is no folder .*nowhere; make it first"):
        begin(Registry(tmp_path / "nowhere" / "r.duckdb"), [])


def test_the_default_place(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QBENCH_REGISTRY", str(filled.path))
    assert len(open_registry().results()) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_file_without_permission_is_told(filled: Registry) -> None:
    filled.path.chmod(0o400)
    assert len(Registry(filled.path).results()) == 3
    with pytest.raises(RegistryError, match="no permission"):
        filled.write([make_result(make_cell(9))])
    filled.path.chmod(0)
    with pytest.raises(RegistryError, match="no permission"):
        Registry(filled.path).results()


def test_an_older_registry_is_read_as_it_is_and_upgraded_by_a_writer(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
        patch.setattr(registry_file, "MIGRATIONS", migrations.MIGRATIONS[:1])
        registry.write([make_result()])
    before = registry.path.read_bytes()
    assert len(registry.results()) == 1
    assert registry.path.read_bytes() == before
    registry.write([make_result(make_cell(1))])
    assert len(registry.results()) == 2
    applied = registry.sql("SELECT number, name FROM migrations ORDER BY number").fetchall()
    assert applied == [(number, step.__name__) for number, step in enumerate(migrations.MIGRATIONS, 1)]


def test_numbers_at_the_end_of_their_range_come_back(registry: Registry) -> None:
    cell = make_cell(8).model_copy(update={"seed": -(2**63) + 1, "track_version": 2**31 - 1})
    huge = make_result(
        cell, measurements={"mse": Measurement(value=1.0, unit="x", n=2**63 - 1)}, attempt=2**31 - 1
    )
    registry.write([huge])
    assert registry.result(huge.result_id) == huge


COMMON = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_registry import *
"""


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", COMMON + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


HOLD = """
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_writer_that_finds_the_file_held_says_so_and_writes_later(filled: Registry) -> None:
    result = make_result(make_cell(9))
    with start(HOLD, filled.path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert filled.write([result], wait=0) is False
        with pytest.raises(RegistryError, match="held by another process"):
            filled._file.copy(wait=0.1)
        holder.communicate("\n")
    assert filled.write([result])
    assert len(filled.results()) == 4


def test_a_connection_of_the_same_process_in_the_way_is_told(filled: Registry) -> None:
    with duckdb.connect(str(filled.path)):
        assert filled.write([make_result(make_cell(9))], wait=0) is False
    assert filled.write([make_result(make_cell(9))], wait=0) is True


TURN = """
from filelock import FileLock
lock = FileLock(f"{sys.argv[1]}.lock")
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


def test_writers_take_turns_and_a_dead_one_gives_its_turn_back(filled: Registry) -> None:
    """The turn is taken before DuckDB looks into the file; readers need none."""
    with start(TURN, filled.path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert filled.write([make_result(make_cell(9))], wait=0) is False
        with pytest.raises(RegistryError, match="held by another process"), filled._file.transaction(0.05):
            pass
        assert len(Registry(filled.path).results()) == 3
        holder.kill()
    assert filled.write([make_result(make_cell(9))], wait=0) is True


def late(path: Path, newer: bytes, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let DuckDB open ``path`` once and then put ``newer`` there; gives how often it was opened.

    It is how the file looks to a process that waited for its lock: DuckDB has read where everything is, then
    another process wrote ``newer``. What is opened here for that stays open: closing it would give up the lock.
    """
    opened, connect = [os.open(path, os.O_RDWR)], duckdb.connect

    def slow(name: str, **options: Any) -> duckdb.DuckDBPyConnection:
        if name != str(path):
            return connect(name, **options)
        try:
            return connect(name, **options)
        finally:
            if len(opened) == 1:
                os.pwrite(opened[0], newer, 0)
            opened.append(0)

    monkeypatch.setattr(duckdb, "connect", slow)
    return lambda: len(opened) - 1


def test_a_file_that_changed_while_it_was_opened_is_opened_again(
    filled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer's results are neither overlooked nor overwritten."""
    before = filled.path.read_bytes()
    filled.write([make_result(make_cell(seed)) for seed in range(10, 60)])
    newer = filled.path.read_bytes()
    filled.path.write_bytes(before)
    opened = late(filled.path, newer, monkeypatch)
    assert filled.write([make_result(make_cell(9))])
    assert opened() == 2
    assert len(filled.results()) == 54


def test_a_reader_that_finds_a_file_half_new_looks_again(
    filled: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB calls a file damaged whose header is older than the rest."""
    newer = filled.path.read_bytes()
    filled.path.write_bytes(newer[:12288] + bytes(len(newer) - 12288))
    opened = late(filled.path, newer, monkeypatch)
    assert len(filled.results()) == 3
    assert opened() == 2


KILLED = """
first = duckdb.connect(sys.argv[1])
second = first.cursor()
second.begin()
second.execute("INSERT INTO environments VALUES ('late', '{}')")
first.execute("INSERT INTO environments VALUES ('x', '{}')")
first.execute("SET debug_checkpoint_sleep_ms = 60000")
import threading
threading.Thread(target=first.execute, args=("CHECKPOINT",), daemon=True).start()
time.sleep(0.5)
second.commit()
print("committed", flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_reader_sees_what_was_committed_during_a_checkpoint_that_was_cut_short(filled: Registry) -> None:
    """DuckDB keeps such commits in a log of their own until the checkpoint ends."""
    with start(KILLED, filled.path) as process:
        written = process.communicate()[0]
    if not Path(f"{filled.path}.wal.checkpoint").exists():
        pytest.skip("this DuckDB commits nothing during a checkpoint")
    assert written == "committed\n"
    query = "SELECT environment_id FROM environments WHERE content = '{}' ORDER BY ALL"
    for _ in range(2):
        assert filled.sql(query).fetchall() == [("late",), ("x",)]
        assert filled.write([make_result(make_cell(9))])


WRITE = """
registry, first = Registry(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
cells = [make_cell(seed) for seed in range(60)]
run_id = begin(registry, cells)
for start in range(0, 60, 6):
    chosen = [cells[(seed + first) % 60] for seed in range(start, start + 6)]
    assert registry.write([make_result(cell, run_id) for cell in chosen])
registry.finish_run(run_id)
"""


def test_two_writers_and_a_reader_share_a_file(registry: Registry) -> None:
    """Both write the same 60 cells, in different orders, from before the file exists.

    A read waits for at most one short write; 5 s leave room for a machine that is busy otherwise.
    """
    writers = [start(WRITE, registry.path, first) for first in (0, 30)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    seen, waits = [0], [0.0]
    while any(writer.poll() is None for writer in writers):
        began = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            if registry.path.exists():
                seen.append(len(registry.results()))
        waits.append(time.monotonic() - began)
        time.sleep(0.02)
    assert [writer.communicate()[0] for writer in writers] == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen == sorted(seen)
    assert max(waits) < 5
    counts = "SELECT count(*), count(DISTINCT cell_id), (SELECT count(*) FROM measurements) FROM results"
    assert registry.sql(counts).fetchall() == [(60, 60, 60)]
    assert registry.sql("SELECT count(*), count(result_id) FROM run_cells").fetchall() == [(120, 120)]
    assert registry.sql("SELECT DISTINCT status FROM runs").fetchall() == [("finished",)]


ENDLESS = """
registry, attempt = Registry(sys.argv[1]), 0
samples = [i / 7 for i in range(2000)]
measurements = {str(i): Measurement.mean(samples, "x") for i in range(10)}
while True:
    attempt += 1
    changes = {"measurements": measurements, "attempt": attempt}
    chosen = [make_result(make_cell(seed, sys.argv[2]), **changes) for seed in range(3)]
    assert registry.write(chosen)
    print(attempt, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_had_written(registry: Registry) -> None:
    for round_, delay in enumerate((0.0, 0.011, 0.037)):
        with start(ENDLESS, registry.path, f"uniform(bits={round_})") as writer:
            assert writer.stdout is not None
            lines = [int(writer.stdout.readline()) for _ in range(4)]
            time.sleep(delay)
            writer.kill()
            lines += [int(line) for line in writer.stdout.read().split()]
        counts = """SELECT count(*), min(measured), max(measured) FROM (
            SELECT r.result_id, sum(len(samples)) AS measured
            FROM results AS r LEFT JOIN measurements AS m ON m.result_id = r.result_id
            WHERE parameters->>'$.bits' = ? GROUP BY r.result_id)"""
        ((count, least, most),) = registry.sql(counts, [str(round_)]).fetchall()
        assert count in (3 * lines[-1], 3 * lines[-1] + 3)
        assert (least, most) == (20000, 20000)
    assert registry.write([make_result()])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if (
        os.geteuid() != 0
        or not shutil.which("mount")
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk, and not everywhere")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_nothing_that_was_written(small_disk: Path) -> None:
    registry = Registry(small_disk / "r.duckdb")
    measurements = {str(k): Measurement.mean([(i * k) ** 0.5 for i in range(4096)], "x") for k in range(10)}
    written, refusal = 0, ""
    while not refusal and written < 100:
        try:
            written += registry.write([make_result(make_cell(written), measurements=measurements)])
        except RegistryError as error:
            refusal = str(error)
    assert re.fullmatch(r"the disk of .*r\.duckdb is full.*", refusal)
    assert written > 1
    for _ in range(2):
        with pytest.raises(RegistryError, match="full"):
            registry.write([make_result(make_cell(1000), measurements=measurements)])
    total = "SELECT count(DISTINCT result_id), sum(len(samples)) FROM measurements"
    assert Registry(registry.path).sql(total).fetchall() == [(written, written * 40960)]
    with pytest.raises(RegistryError, match="full"):
        registry.export(small_disk / "out.parquet")
    with pytest.raises(RegistryError, match=r"other.duckdb is full"):
        begin(Registry(small_disk / "other.duckdb"), [])
    assert {path.name for path in small_disk.iterdir()} <= {
        "r.duckdb",
        "r.duckdb.wal",
        "r.duckdb.lock",
        "other.duckdb.lock",
    }
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    registry.write([make_result(make_cell(1000), measurements=measurements)])
    assert len(registry.results()) == written + 1


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


@pytest.mark.parametrize("make", [make_text, make_empty, make_folder, make_foreign, make_newer])
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
