"""The file on disk: what stands beside it, what is no registry, what is damaged, older or on a full disk."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from qbench import migrations, registry_file
from qbench.errors import RegistryError
from qbench.registry import Registry, open_registry
from qbench.schema import Measurement

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_registry import (
        ROOT,
        begin,
        make_cell,
        make_empty,
        make_folder,
        make_foreign,
        make_newer,
        make_result,
        make_text,
    )


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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_without_permission_is_told(
    filled: Registry, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nobody named the file that could not be locked: the registry and its folder are named."""

    def denied(lock: object, **how: object) -> None:
        raise OSError(number, os.strerror(number), f"{filled.path}.lock")

    monkeypatch.setattr("qbench.registry_file.FileLock.acquire", denied)
    with pytest.raises(RegistryError, match="--registry") as raised:
        filled.write([make_result(make_cell(9))])
    assert f"no permission for the folder {filled.path.parent} " in str(raised.value)
    assert ".lock" not in str(raised.value)
    assert len(filled.results()) == 3


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
