"""A registry becomes a folder: which files, what is in them, and that nothing else there is touched."""

import csv
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from qbench import citation, registry_exchange
from qbench.cli import leaderboard as command
from qbench.errors import QBenchError, RegistryError
from qbench.leaderboard import build as building
from qbench.leaderboard import exports, serve
from qbench.leaderboard.own_files import refuse_others
from qbench.leaderboard.page import TITLE
from qbench.registry import Merged, Registry
from qbench.registry_exchange import parts
from qbench.registry_file import RegistryFile

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from synthetic import CATALOG, add

FILES = ["README.md", "index.html", "results.csv", "results.parquet"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Three quantizers at four rates on four units with two seeds, and a failure of one. Nobody writes there."""
    path = tmp_path_factory.mktemp("registry") / "registry.duckdb"
    add(path, quantizers=3, bits=(2, 3, 4, 8), gains=(0, 0.5, -0.5), seeds=2)
    add(path, quantizers=1, bits=(5,), models=1, datasets=1, status="timeout", error="=slow()")
    return Registry(path)


@pytest.fixture(scope="module")
def built(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    """Its page, in a folder that was made for it. Nobody writes there."""
    return building.build(registry, tmp_path_factory.mktemp("built") / "new" / "board", CATALOG)


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_files_and_their_sizes(built: building.Built) -> None:
    assert sorted(path.name for path in built.folder.iterdir()) == FILES
    assert built.sizes == {name: (built.folder / name).stat().st_size for name in FILES}
    assert built.results == len(lines(built.folder / "results.csv"))


def test_the_same_registry_makes_the_same_bytes(
    built: building.Built, registry: Registry, tmp_path: Path
) -> None:
    again = building.build(Registry(registry.path), tmp_path / "again", CATALOG)
    assert [
        name for name in FILES if (built.folder / name).read_bytes() != (again.folder / name).read_bytes()
    ] == []


def test_only_what_is_wrong_is_written_again(
    built: building.Built, registry: Registry, tmp_path: Path
) -> None:
    """Files that are right keep their place on disk, files of others stay. The page was one of another version."""
    board = tmp_path / "board"
    shutil.copytree(built.folder, board)
    (board / "notes.txt").write_text("mine")
    (board / "index.html").write_text(f"<!doctype html>\n<title>{TITLE}</title>")
    before = {path.name: path.stat().st_ino for path in board.iterdir()}
    building.build(registry, board, CATALOG)
    after = {path.name: path.stat().st_ino for path in board.iterdir()}
    assert {name for name in after if before.get(name) != after[name]} == {"index.html"}
    assert (board / "index.html").read_bytes() == (built.folder / "index.html").read_bytes()
    assert (board / "notes.txt").read_text() == "mine"


OTHERS = {
    "README.md": "---\nsdk: static\n---\n# my own Space\n",
    "index.html": "<!doctype html>\n<title>my page</title>\n<p>qbench leaderboard",
    "results.csv": "name,accuracy\nmine,97.5\n",
    "results.parquet": "no Parquet file",
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_others_are_not_written_over(registry: Registry, tmp_path: Path, name: str) -> None:
    """Nothing is written beside them either, and the file is named."""
    (tmp_path / name).write_text(OTHERS[name])
    with pytest.raises(
        RegistryError, match=rf"{name} is not of a leaderboard \(.*an empty folder with --out"
    ):
        building.build(registry, tmp_path, CATALOG)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: OTHERS[name]}


def test_a_table_of_something_else_is_not_written_over(registry: Registry, tmp_path: Path) -> None:
    """A whole Parquet file, of other columns."""
    duckdb.sql("SELECT 1 AS result_id, 2 AS accuracy").write_parquet(str(tmp_path / "results.parquet"))
    before = (tmp_path / "results.parquet").read_bytes()
    with pytest.raises(RegistryError, match="with the columns of results"):
        building.build(registry, tmp_path, CATALOG)
    assert (tmp_path / "results.parquet").read_bytes() == before


def test_the_page_of_the_project_is_known_as_one(registry: Registry) -> None:
    """And so is any page that was built, from the folder that it is in as well."""
    refuse_others(Path(__file__).parents[2] / "leaderboard")


def test_a_folder_with_brackets_and_the_working_folder(
    built: building.Built, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = tmp_path / "board [1] 'mine'"
    shutil.copytree(built.folder, board)
    refuse_others(board)
    monkeypatch.chdir(board)
    assert building.build(registry, Path(), CATALOG).sizes == built.sizes


def test_the_parquet_file_merges_into_another_registry(built: building.Built, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other.duckdb")
    assert other.merge(built.folder / "results.parquet") == Merged(added=built.results)
    assert other.merge(built.folder / "results.parquet") == Merged(present=built.results)


def test_lines_of_the_csv(built: building.Built) -> None:
    """Three quantizers, four rates, four units, two seeds, and what failed."""
    rows = lines(built.folder / "results.csv")
    good = [row for row in rows if row["status"] == "ok"]
    assert len({row["result_id"] for row in rows}) == len(rows) == len(good) + 1
    assert {float(row["rate"]) for row in good} == {2, 3, 4, 8}
    one = next(row for row in good if row["quantizer"] == "uniform" and row["rate"] == "4.0")
    assert one["spec"].startswith("uniform(bits=4,granularity=channel,")
    assert float(one["accuracy_drop"]) == pytest.approx(20 * 4.0**-4)
    assert (one["track"], one["target"], one["rate_class"], one["device_kind"]) == (
        "ptq",
        "weight",
        "fixed",
        "cpu",
    )


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r\n=1"])
def test_no_cell_is_a_formula(tmp_path: Path, text: str) -> None:
    add(tmp_path / "registry.duckdb", quantizers=1, status="error", error=text)
    exports.write_csv(Registry(tmp_path / "registry.duckdb"), tmp_path / "results.csv")
    assert {row["error"] for row in lines(tmp_path / "results.csv")} == {f"'{text}"}


def test_exports_in_parts_are_those_in_one(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows and their order; lists within a row too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qbench.registry_exchange._SINGLE", registry_exchange._SEVERAL)
        registry.export(tmp_path / "several.parquet")
    for name in ("whole", "parts"):
        registry.export(tmp_path / f"{name}.parquet")
        exports.write_csv(registry, tmp_path / f"{name}.csv")
        monkeypatch.setattr("qbench.registry_exchange.parts.__defaults__", (50_000,))
        monkeypatch.setattr(exports, "PART", 7)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
    single, several = (
        duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/{name}.parquet')").fetchall()
        for name in ("whole", "several")
    )
    assert single == several
    whole, cut = (
        duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/{name}.parquet')").fetchall()
        for name in ("whole", "parts")
    )
    assert whole == cut
    started = [
        row[0]
        for row in duckdb.sql(f"SELECT started FROM read_parquet('{tmp_path}/parts.parquet')").fetchall()
    ]
    assert started == sorted(started)


@pytest.mark.parametrize(("size", "each"), [(1, {1}), (7_000, {1, 2}), (10**9, set())])
def test_parts_take_about_the_memory_asked_for(
    registry: Registry, tmp_path: Path, size: int, each: set[int]
) -> None:
    """A result of 11 measurements without samples is taken to be 2000 + 11 * 450 bytes; one is never divided."""
    connection = RegistryFile(registry.path).copy(allowed=tmp_path)
    ((results,),) = registry.sql("SELECT count(*) FROM results WHERE status = 'ok'").fetchall()
    count = parts(connection, size)
    sizes = connection.execute(
        "SELECT count(*) FROM parts JOIN results USING (result_id) WHERE status = 'ok' GROUP BY part ORDER BY part"
    ).fetchall()
    assert sum(n for (n,) in sizes) == results
    assert count >= len(sizes)
    assert {n for (n,) in sizes[:-1]} == each


def test_memory_that_is_too_little_is_no_limit(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbench.registry_exchange.LITTLE", "2MB")
    count = registry.export(tmp_path / "all.parquet")
    assert exports.write_csv(registry, tmp_path / "all.csv") == count == len(lines(tmp_path / "all.csv"))


def test_an_export_reaches_its_own_folder_only(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    connection = RegistryFile(registry.path).copy(allowed=tmp_path / "inside")
    connection.execute(f"COPY (SELECT 1) TO '{tmp_path}/inside/a.csv'")
    with pytest.raises(duckdb.PermissionException):
        connection.execute(f"COPY (SELECT 1) TO '{tmp_path}/b.csv'")


def test_which_results_is_what_a_citation_says(registry: Registry) -> None:
    assert building.numbers_of(registry) == citation.numbers(registry)


def test_nothing_measured_yet(tmp_path: Path) -> None:
    """A page that says what to run, and a table of no row."""
    add(tmp_path / "registry.duckdb", quantizers=1, status="error", error="no")
    folder = building.build(Registry(tmp_path / "registry.duckdb"), tmp_path / "board", {}).folder
    assert "qbench run --suite standard" in (folder / "index.html").read_text(encoding="utf-8")
    assert {row["status"] for row in lines(folder / "results.csv")} == {"error"}


def test_the_card_has_the_settings_of_a_static_space(built: building.Built) -> None:
    text = (built.folder / "README.md").read_text(encoding="utf-8")
    _, settings, rest = text.split("---\n", 2)
    found = dict(line.split(": ", 1) for line in settings.splitlines() if ": " in line)
    assert found["sdk"] == "static"
    assert found["app_file"] == "index.html"
    assert found["license"] == "apache-2.0"
    assert len(found["short_description"]) <= 60
    assert f"{built.results:,} results" in rest
    assert "`results.csv`: the attempt that counts at each cell, a line each." in rest


def test_a_file_in_the_place_of_the_folder(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a file")
    with pytest.raises(RegistryError, match="--out"):
        building.build(registry, tmp_path / "board", CATALOG)


def test_a_folder_in_the_place_of_a_file(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "board" / "results.csv").mkdir(parents=True)
    with pytest.raises(RegistryError, match="is a folder"):
        building.build(registry, tmp_path / "board", CATALOG)
    assert [path.name for path in (tmp_path / "board").iterdir()] == ["results.csv"]


def answer(folder: Path, asked: Callable[[str], None]) -> None:
    with serve.server(folder, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            asked(serve.address(listening))
        finally:
            listening.shutdown()
            thread.join()


def test_serving(built: building.Built, tmp_path: Path) -> None:
    """The page at the root; no listing of a folder, nothing above it."""
    board = tmp_path / "board"
    shutil.copytree(built.folder, board)
    (board / "inner").mkdir()
    (tmp_path / "registry.duckdb").write_text("secret")

    def asked(address: str) -> None:
        with urllib.request.urlopen(address) as found:
            assert found.read() == (built.folder / "index.html").read_bytes()
            assert found.headers["X-Content-Type-Options"] == "nosniff"
        for place in ("inner/", "../registry.duckdb", "%2e%2e/registry.duckdb", "nothing.txt"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}{place}")
            assert refused.value.code == 404
            refused.value.close()

    answer(board, asked)


def test_a_port_that_is_taken(built: building.Built) -> None:
    with serve.server(built.folder, 0) as one, pytest.raises(QBenchError, match="--port"):
        serve.server(built.folder, one.server_address[1])


def test_serving_a_folder_without_a_page(tmp_path: Path) -> None:
    with pytest.raises(QBenchError, match="leaderboard build"):
        serve.server(tmp_path, 0)


def test_the_command_says_what_it_wrote(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "installed", lambda: CATALOG)
    monkeypatch.setattr(command, "decided", lambda registry: [])
    arguments = ["build", "--registry", str(registry.path), "--out", str(tmp_path / "board")]
    found = CliRunner().invoke(command.leaderboard_command, arguments)
    assert found.exit_code == 0
    assert [name for name in FILES if name not in found.output] == []


# In the background of a shell interruptions are ignored, and so they are by what is started there.
AT_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("qbench.cli", run_name="__main__")
"""


def test_serving_ends_quietly_on_ctrl_c(built: building.Built) -> None:
    words = [sys.executable, "-c", AT_A_TERMINAL, "leaderboard", "serve", str(built.folder), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            assert process.stdout.readline() == "Ctrl-C ends\n"
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, *said) == (0, "", "")


def test_serve_takes_a_folder_or_a_registry(tmp_path: Path) -> None:
    arguments = ["serve", str(tmp_path), "--registry", str(tmp_path / "registry.duckdb")]
    found = CliRunner().invoke(command.leaderboard_command, arguments)
    assert found.exit_code == 2
    assert "not both" in found.output


def test_commands_of_the_group_are_found_by_name() -> None:
    listed = CliRunner().invoke(command.leaderboard_command, ["--help"]).output
    assert [name for name in ("build", "serve", "push", "pull") if name not in listed] == []
