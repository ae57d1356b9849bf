"""A text made by hand in the place of the real one, served on the loopback."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from qbench.datasets import tiny_shakespeare
from qbench.datasets.downloads import Download
from qbench.datasets.tiny_shakespeare import FILE, TinyShakespeare
from qbench.errors import DataError

CONTENT = b"To be, or not to be.\n" * 50
REAL = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "tiny-shakespeare"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Say where the small text is fetched from."""

    def state(mirror: str) -> None:
        file = Download("input.txt", hashlib.md5(CONTENT).hexdigest(), len(CONTENT), (mirror,))
        monkeypatch.setattr(tiny_shakespeare, "FILE", file)

    return state


def put(root: Path, content: bytes) -> Path:
    path = root / "tiny-shakespeare" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_an_absent_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "tiny-shakespeare" / "input.txt"
    reason = TinyShakespeare().missing(tmp_path)
    assert reason == (
        f"tiny-shakespeare: {path} is not there; run without --offline to fetch 1.1 MB, or put "
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt at "
        f"{path}, or set QBENCH_DATA to a folder that holds tiny-shakespeare/input.txt"
    )
    with pytest.raises(DataError, match="is not there"):
        TinyShakespeare().load(tmp_path)


def test_a_damaged_file_is_named_with_its_size(tmp_path: Path) -> None:
    path = put(tmp_path, b"x" * 1000)
    reason = TinyShakespeare().missing(tmp_path)
    assert reason is not None
    assert f"{path} has 1000 bytes, 1115394 expected" in reason
    path.write_bytes(b"x" * FILE.size)
    with pytest.raises(DataError, match=f"has md5 .*{FILE.md5} expected"):
        TinyShakespeare().load(tmp_path)


def test_it_is_fetched_once(tmp_path: Path, http_server, served: Callable[[str], None]) -> None:
    with http_server({"input.txt": CONTENT}) as (address, asked):
        served(address)
        dataset = TinyShakespeare(length=8)
        dataset.fetch(tmp_path)
        assert dataset.missing(tmp_path) is None
        asked.clear()
        dataset.fetch(tmp_path)
        assert asked == []
    assert sorted(os.listdir(tmp_path / "tiny-shakespeare")) in ([".lock", "input.txt"], ["input.txt"])
    data = dataset.load(tmp_path)
    assert data.classes == len(set(CONTENT))
    assert dataset.text(tmp_path).encode() == CONTENT


def test_a_damaged_file_is_fetched_anew(tmp_path: Path, http_server, served: Callable[[str], None]) -> None:
    path = put(tmp_path, CONTENT[:-1])
    with http_server({"input.txt": CONTENT}) as (address, _):
        served(address)
        TinyShakespeare(length=8).fetch(tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("contents", [{}, {"input.txt": CONTENT.replace(b"T", b"t")}], ids=["none", "other"])
def test_a_failed_fetch_leaves_nothing(
    tmp_path: Path, http_server, served: Callable[[str], None], contents: dict[str, bytes]
) -> None:
    with http_server(contents) as (address, _):
        served(address)
        with pytest.raises(DataError) as caught:
            TinyShakespeare(length=8).fetch(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"cannot fetch tiny-shakespeare: input.txt from {address}: ")
    assert "or set QBENCH_DATA to a folder" in message
    assert {path.name for path in (tmp_path / "tiny-shakespeare").iterdir()} <= {".lock"}
    assert TinyShakespeare(length=8).missing(tmp_path) is not None


def test_nobody_answers(tmp_path: Path, closed_port, served: Callable[[str], None]) -> None:
    served(f"http://127.0.0.1:{closed_port()}/")
    with pytest.raises(DataError, match="cannot fetch tiny-shakespeare: .*Connection refused"):
        TinyShakespeare().fetch(tmp_path)


def test_a_folder_nobody_can_write_to(tmp_path: Path, served: Callable[[str], None]) -> None:
    served("http://127.0.0.1:1/")
    (tmp_path / "tiny-shakespeare").write_text("a file in the way")
    with pytest.raises(DataError, match="cannot fetch tiny-shakespeare: .*File exists"):
        TinyShakespeare().fetch(tmp_path)


def test_the_real_one() -> None:
    """Published: 1,115,394 characters, 65 kinds of them. It begins and ends with known lines."""
    root = Path(os.environ.get("QBENCH_DATA") or REAL.parent)
    dataset = TinyShakespeare()
    if dataset.missing(root) is not None:
        pytest.skip("tiny-shakespeare is not on this machine")
    text = dataset.text(root)
    assert len(text) == FILE.size == 1_115_394
    assert len(Counter(text)) == 65
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.")
    data = dataset.load(root)
    assert data.classes == 65
    assert len(data.train_inputs) == (1_115_394 * 9 // 10 - 1) // 64
