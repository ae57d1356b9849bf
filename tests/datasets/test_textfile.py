"""A user's texts, right and wrong."""

import os
from pathlib import Path

import pytest

from qbench.datasets.characters import content_of
from qbench.datasets.textfile import TextFile
from qbench.errors import DataError
from qbench.schema import Spec

NOWHERE = Path("/nowhere")
VERSE = "Über allen Gipfeln\r\nist Ruh, ✓\n" * 30


def problem(root: Path, **parameters: object) -> str:
    """Why a file is refused, the same in every use."""
    dataset = TextFile(**parameters)
    reason = dataset.missing(root)
    assert reason is not None
    assert "\n" not in reason
    for use in (dataset.fetch, dataset.content, dataset.load):
        with pytest.raises(DataError) as caught:
            use(root)
        assert str(caught.value) == reason
    return reason


def test_characters_stay_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_bytes(VERSE.encode())
    dataset = TextFile(path="verse.txt", length=16)
    assert dataset.text(tmp_path) == VERSE
    assert dataset.missing(tmp_path) is None
    dataset.fetch(tmp_path)
    assert dataset.load(tmp_path).classes == len(set(VERSE))
    assert dataset.content(tmp_path) == content_of(VERSE)


def test_absolute_paths_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "with a space.txt"
    path.write_bytes(b"\xef\xbb\xbf" + VERSE.encode())
    dataset = TextFile(path=str(path))
    assert dataset.text(NOWHERE) == VERSE
    assert TextFile(**Spec.parse(str(dataset.spec)).parameters).text(NOWHERE) == VERSE


def test_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "verse.txt").write_bytes(VERSE.encode())
    assert TextFile(path="~/verse.txt").text(NOWHERE) == VERSE


def test_content_is_not_the_name(tmp_path: Path) -> None:
    for name, text in (("one", VERSE), ("same", VERSE), ("other", VERSE + "!")):
        (tmp_path / name).write_bytes(text.encode())
    one, same, other = (TextFile(path=name).content(tmp_path) for name in ("one", "same", "other"))
    assert one == same != other


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    reason = problem(tmp_path, path="none.txt")
    assert f"{tmp_path / 'none.txt'} is not there" in reason
    assert f"path=none.txt is read from {tmp_path}, which QBENCH_DATA moves" in reason


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert f"{tmp_path / 'folder'} is no file" in problem(tmp_path, path="folder")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in problem(tmp_path, path="pipe")


def test_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(VERSE.replace("✓", "").encode("latin-1"))
    reason = problem(tmp_path, path="latin.txt")
    assert (
        f"{tmp_path / 'latin.txt'} is not UTF-8 (byte 0: invalid continuation byte); convert it to UTF-8"
        in reason
    )


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_short_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "short.txt").write_bytes(content)
    reason = TextFile(path="short.txt").missing(tmp_path)
    assert reason is not None
    assert f"the text has {len(content)} characters, at least 641 are needed for length=64" in reason


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-that-name/verse.txt", "x" * 5000])
def test_paths_that_are_none(tmp_path: Path, path: str) -> None:
    assert "name another path" in problem(tmp_path, path=path) or "is not there" in problem(
        tmp_path, path=path
    )
