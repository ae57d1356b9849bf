"""Several processes at one file: nothing written is lost, nobody blocks anybody."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from qbench.errors import RegistryError
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_registry import ROOT, make_cell, make_result

COMMON = f"""
import os, sys, time
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]}
import duckdb
from sample_registry import begin, make_cell, make_result
from qbench.registry import Registry
from qbench.schema import Measurement
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
