"""A Hub in this process where nobody waits for long: empty, or with one published result."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

with pytest.MonkeyPatch.context() as patch:
    for folder in Path(__file__).parents[2::-1]:
        patch.syspath_prepend(str(folder))
    import loopback_hub
    from loopback_hub import LoopbackHub, Repo
    from pushing import Pushed, rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits for long, here or in the client; the pauses that were asked for."""
    asked: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (asked.append(seconds), sleep(min(seconds, 0.002))))
    return asked


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    """A Hub where nothing is."""
    with loopback_hub.running() as hub:
        yield hub
        assert all(not 0 < fault.times < 50 for fault in hub.faults), "a fault was never met"


@pytest.fixture(scope="module")
def first(place: Path) -> dict[tuple[str, str], Repo]:
    with loopback_hub.running() as hub:
        Pushed(hub, rows(place, 0))
        return hub.repos


@pytest.fixture
def started(server: LoopbackHub, first: dict[tuple[str, str], Repo]) -> LoopbackHub:
    """A Hub where the result of seed 0 was published."""
    server.repos = copy.deepcopy(first)
    return server
