"""The commands against a Hub: what they print, what they leave behind, and no token anywhere."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qbench.cli import publishing as commands
from qbench.leaderboard.faults import TRIES, HubError
from qbench.leaderboard.hub import Hub, connect
from qbench.leaderboard.published import FILE, write
from qbench.leaderboard.publishing import push
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from loopback_hub import READER, WRITER, LoopbackHub
    from pushing import COMMIT, DATASET, SPACE, WANTED, build, refusal, rows


@pytest.fixture
def signed_in(server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", WRITER)


def told(command: Any, *words: object) -> int:
    """The exit code of a command in this process; an error of the input is one."""
    return int(command.main([str(word) for word in words], standalone_mode=False) or 0)


@pytest.mark.usefixtures("signed_in")
def test_the_commands(
    server: LoopbackHub,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows(place, 0, 1)
    mine = place / "(0, 1).duckdb"
    owners = []

    def build_page(registry: Registry, folder: Path, own: Registry) -> None:
        owners.append(own.path)
        build(registry, folder)

    monkeypatch.setattr(commands, "build_page", build_page)
    assert told(commands.push_command, "--repo", SPACE, "--registry", mine) == 0
    said = capsys.readouterr()
    going = f"2 results are going to data set {DATASET}, their page to Space {SPACE}; "
    assert said.err == f"{going}what is published there is kept\n"
    out = said.out.splitlines()
    assert [line.partition(",")[0] for line in out] == [
        f"data set {DATASET}: created",
        f"Space {SPACE}: created",
    ]
    assert set(owners) == {mine}  # whose word on trust the page shows
    other = tmp_path / "other.duckdb"
    assert told(commands.pull_command, "--repo", SPACE, "--registry", other, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"added": 2, "present": 0, "rejected": 0, "reason": None}
    assert told(commands.pull_command, "--repo", SPACE, "--registry", other) == 0
    assert capsys.readouterr().out == f"0 new, 2 known, 0 rejected; now in {other}\n"
    commit = server.dataset(DATASET).main[-1].name[:12]
    sources = Registry(other).sql("SELECT DISTINCT source FROM imports").fetchall()
    assert sources == [(f"{DATASET}@{commit}",)]
    assert told(commands.push_command, "--repo", SPACE, "--registry", mine, "--dataset", "bob/rows") == 0
    assert "data set bob/rows: created" in capsys.readouterr().out
    assert (
        b"pull --repo alice/board --dataset bob/rows "
        in server.dataset("bob/rows").main[-1].files["README.md"].content
    )
    server.fail("GET /api/datasets", 500, times=99)
    assert told(commands.pull_command, "--repo", SPACE, "--registry", other) == 1
    assert told(commands.push_command, "--repo", SPACE, "--registry", mine) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if " are going to " not in line]
    assert len(lines) == 2 * TRIES
    assert all(line.startswith("qbench: the Hub failed (500) when asked to read data set") for line in lines)


def test_without_a_token(monkeypatch: pytest.MonkeyPatch, server: LoopbackHub, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(
        HubError, match=r"^no token to push with; log in with `hf auth login`, or set HF_TOKEN to one"
    ):
        connect(must_write=True)
    connect(must_write=False)


def test_without_a_network(place: Path, impatient: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    hub = Hub(f"http://127.0.0.1:{port}", WRITER)
    with pytest.raises(HubError) as raised:
        push(hub, WANTED, rows(place, 0), build, print)
    assert re.fullmatch(
        rf"cannot reach http://127.0.0.1:{port} to read Space {SPACE} \(.*refused\); check the network and HF_ENDPOINT",
        str(raised.value),
    )
    assert raised.value.passing
    assert impatient == []


def test_something_that_is_no_hub(server: LoopbackHub, place: Path) -> None:
    server.fail("GET /api/spaces", swap=True, times=99)
    server.make("space", SPACE)
    error = refusal(server, rows(place, 0))
    assert re.search(r"^cannot read Space alice/board: .*; is http://127.0.0.1:\d+ a Hub\?$", str(error))


def processed(home: Path, address: str, *words: object, token: str = WRITER, **variables: str) -> Any:
    """A command in a process of its own, at home in ``home``."""
    keep = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    home.mkdir(exist_ok=True)
    scratch = home.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    root = str(Path(commands.__file__).parents[2])
    script = f"import sys; sys.path.insert(0, {root!r}); from qbench.cli import main; main()"
    surroundings = keep | {
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "HF_ENDPOINT": address,
        "HF_TOKEN": token,
    }
    return subprocess.run(
        [sys.executable, "-c", script, "leaderboard", *map(str, words)],
        env=surroundings | {"OMP_NUM_THREADS": "1"} | variables,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_process_leaves_nothing_behind_and_keeps_the_token(
    server: LoopbackHub, place: Path, tmp_path: Path
) -> None:
    """Everything that was written anywhere, and every word on the terminal, is searched for the token."""
    page, home, registry = tmp_path / "page", tmp_path / "home", tmp_path / "mine.duckdb"
    Registry(registry).merge(rows(place, 0, 1))
    build(Registry(registry), page)
    write(Registry(registry), page / FILE)
    server.fail(COMMIT["dataset"], 429, headers={"Retry-After": "0"})
    server.fail("PUT /lfs", 500)
    options = ("--repo", SPACE, "--folder", page)
    ended = [processed(home, server.address, "push", *options, HF_DEBUG="1")]
    ended += [processed(home, server.address, "push", "--repo", SPACE, "--folder", page, token=READER)]
    ended += [
        processed(home, server.address, "pull", "--repo", SPACE, "--registry", tmp_path / "theirs.duckdb")
    ]
    server.fail("GET /api/spaces", 400, times=99)
    ended += [processed(home, server.address, "push", *options)]
    ended += [processed(home, server.address, "push", *options, HF_HUB_OFFLINE="1")]
    assert [one.returncode for one in ended] == [0, 0, 0, 2, 2], ended
    assert ended[0].stdout.count(": created, ") == 2
    assert ended[0].stderr.count("\n") == 2
    assert "the Hub is busy (429)" in ended[0].stderr
    assert ended[1].stdout.count(": unchanged, ") == 2
    assert ended[2].stdout.startswith("2 new, 0 known, 0 rejected; now in ")
    going, refused = ended[3].stderr.splitlines()
    assert going.startswith("2 results are going to ")
    assert re.fullmatch(r"qbench: the Hub refuses to read Space alice/board \(400\): no; .*", refused)
    assert ended[4].stderr.splitlines() == [
        going,
        "qbench: cannot read Space alice/board: offline mode is on; unset HF_HUB_OFFLINE",
    ]
    assert not any(word in one.stdout + one.stderr for one in ended for word in (WRITER, READER, "signature"))
    assert list(home.rglob("*")) == []
    assert list((tmp_path / "scratch").rglob("*")) == []
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        assert WRITER.encode() not in path.read_bytes(), path
        assert READER.encode() not in path.read_bytes(), path
    assert [one for one in server.requests if re.search("whoami|telemetry|harness", one)] == []


def test_help_does_not_load_the_client() -> None:
    code = (
        "import sys, qbench.cli.publishing, qbench.leaderboard.publishing\n"
        "print(*({'huggingface_hub', 'torch', 'altair'} & sys.modules.keys()))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )
