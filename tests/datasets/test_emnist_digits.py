"""Small archives laid out as EMNIST's, served on the loopback; digits of scikit-learn stand for its own."""

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import EMNIST

from qbench.datasets.emnist_digits import EmnistDigits
from qbench.datasets.idx import IdxFile
from qbench.errors import DataError

TRAIN, TEST = 30, 20
SMALL = tuple(
    IdxFile(file.stem, (TRAIN if "train" in file.stem else TEST, *file.shape[1:]))
    for file in EmnistDigits.files
)


def upright() -> tuple[np.ndarray, np.ndarray]:
    """Digits as one looks at them: 8x8 pixels, each three wide, with a margin of two."""
    digits = load_digits()
    images = np.kron(digits.images[: TRAIN + TEST] * 15, np.ones((3, 3))).astype(np.uint8)
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), digits.target[: TRAIN + TEST].astype(np.uint8)


def contents() -> dict[str, bytes]:
    """The four unpacked files: EMNIST writes each picture column by column."""
    images, labels = upright()
    bodies = [
        part
        for part_of in (slice(0, TRAIN), slice(TRAIN, None))
        for part in (
            b"".join(image.tobytes(order="F") for image in images[part_of]),
            labels[part_of].tobytes(),
        )
    ]
    return {file.stem: file.header + body for file, body in zip(SMALL, bodies, strict=True)}


def archive(files: dict[str, bytes]) -> bytes:
    """``gzip.zip``: a folder of packed files, more than the four of the digits among them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("gzip/", b"")
        for stem, content in {"emnist-letters-mapping.txt": b"1 65 97", **files}.items():
            opened.writestr(f"gzip/{stem}.gz", gzip.compress(content, mtime=0))
    return packed.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Makes EmnistDigits expect small files; returns their archive."""
    packed = archive(contents())
    monkeypatch.setattr(EMNIST, "md5", hashlib.md5(packed).hexdigest())
    monkeypatch.setattr(EMNIST, "url", "http://127.0.0.1:1/gzip.zip")
    monkeypatch.setattr(EmnistDigits, "files", SMALL)
    monkeypatch.setattr(EmnistDigits, "download_bytes", len(packed))
    return packed


def write(root: Path, files: dict[str, bytes]) -> Path:
    raw = root / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def assert_upright(root: Path) -> None:
    data = EmnistDigits().load(root)
    images, labels = upright()
    assert torch.equal(data.train_inputs.squeeze(1), torch.from_numpy(images[:TRAIN]))
    assert torch.equal(data.test_inputs.squeeze(1), torch.from_numpy(images[TRAIN:]))
    assert torch.equal(data.train_labels, torch.from_numpy(labels[:TRAIN]).long())
    assert torch.equal(data.test_labels, torch.from_numpy(labels[TRAIN:]).long())
    assert data.train_inputs.is_contiguous()
    assert (data.shape, data.classes) == ((1, 28, 28), 10)


def test_torchvision_names_the_files(tmp_path):
    assert EmnistDigits().source() is EMNIST
    assert EMNIST.url.endswith("/gzip.zip")
    raw = write(tmp_path, dict.fromkeys((file.stem for file in EmnistDigits.files), b"\0\0\x08\1\0\0\0\0"))
    theirs = [EMNIST.__new__(EMNIST) for _ in range(2)]
    for part, train in zip(theirs, (True, False), strict=True):
        part.root, part.split, part.train = str(tmp_path), "digits", train
    names = [name for part in theirs for name in (part.images_file, part.labels_file)]
    assert names == [str(raw / file.stem) for file in EmnistDigits.files]


def test_sizes():
    assert [file.length for file in EmnistDigits.files] == [188_160_016, 240_008, 31_360_016, 40_008]
    assert round(EmnistDigits.download_bytes / 2**20, 2) == 535.73  # as TensorFlow Datasets states it


def test_full_size(tmp_path, no_network):
    raw = write(tmp_path, {})
    for file in EmnistDigits.files:
        with (raw / file.stem).open("wb") as opened:
            opened.write(file.header)
            opened.truncate(file.length)
    assert EmnistDigits().missing(tmp_path) is None
    data = EmnistDigits().load(tmp_path)
    assert data.train_inputs.shape == (240000, 1, 28, 28)
    assert data.test_inputs.shape == (40000, 1, 28, 28)
    assert data.train_inputs.dtype == torch.uint8
    assert data.test_labels.dtype == torch.int64


def test_unpacked_pictures_stand_upright_where_torchvisions_lie(tmp_path, small, no_network):
    write(tmp_path, contents())
    assert EmnistDigits().missing(tmp_path) is None
    assert_upright(tmp_path)
    theirs = EMNIST(tmp_path, split="digits", train=False).data
    assert torch.equal(theirs.mT, torch.from_numpy(upright()[0][TRAIN:]))
    assert not torch.equal(theirs, torch.from_numpy(upright()[0][TRAIN:]))


def test_the_archive_loads_without_writing(tmp_path, small, no_network):
    raw = write(tmp_path, {"gzip.zip": small})
    assert EmnistDigits().missing(tmp_path) is None
    assert_upright(tmp_path)
    assert [path.name for path in raw.iterdir()] == ["gzip.zip"]


def test_the_archive_stands_in_for_a_damaged_file(tmp_path, small):
    files = contents()
    write(tmp_path, {"gzip.zip": small, **files, SMALL[0].stem: files[SMALL[0].stem][:-1]})
    assert_upright(tmp_path)


def test_absent_files_are_named_with_a_remedy(tmp_path):
    raw = tmp_path / "EMNIST" / "raw"
    assert EmnistDigits().missing(tmp_path) == (
        f"emnist-digits: {raw}/gzip.zip is not there, nor is it unpacked; "
        f"run without --offline to fetch 561.8 MB, or put its four files into {raw}, packed or unpacked, "
        "or set QBENCH_DATA to a folder that holds EMNIST/raw"
    )
    with pytest.raises(DataError, match="is not there"):
        EmnistDigits().load(tmp_path)


def test_damage_is_named(tmp_path, small):
    raw = write(tmp_path, {"gzip.zip": small[:-1] + b"?", **contents()})
    (raw / SMALL[2].stem).write_bytes(b"cut short")
    reason = str(EmnistDigits().missing(tmp_path))
    found = hashlib.md5(small[:-1] + b"?").hexdigest()
    assert f"{raw / SMALL[2].stem} has 9 bytes, {SMALL[2].length} expected; " in reason
    assert f"{raw / 'gzip.zip'} has md5 {found}, {EMNIST.md5} expected" in reason
    (raw / "gzip.zip").write_bytes(small[:100])
    assert f"has 100 bytes, {len(small)} expected" in str(EmnistDigits().missing(tmp_path))


def test_an_archive_without_the_digits(tmp_path, small, monkeypatch):
    other = archive({})
    monkeypatch.setattr(EMNIST, "md5", hashlib.md5(other).hexdigest())
    write(tmp_path, {"gzip.zip": other})
    with pytest.raises(DataError, match="no item named 'gzip/emnist-digits-train-images-idx3-ubyte.gz'"):
        EmnistDigits().load(tmp_path)


def test_fetch_keeps_the_four_files_and_torchvision_reads_them(tmp_path, small, monkeypatch, http_server):
    with http_server({"gzip.zip": small}) as (address, asked):
        monkeypatch.setattr(EMNIST, "url", f"{address}gzip.zip")
        EmnistDigits().fetch(tmp_path)
        assert EmnistDigits().missing(tmp_path) is None
        asked.clear()
        EmnistDigits().fetch(tmp_path)
        assert asked == []
    raw = tmp_path / "EMNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir() if path.name != ".lock"} == contents()
    assert_upright(tmp_path)
    assert len(EMNIST(tmp_path, split="digits", train=True)) == TRAIN


def test_what_a_killed_fetch_left_is_not_in_the_way(tmp_path, small, monkeypatch, http_server):
    files = contents()
    left = {
        "gzip.zip.part": small[:-9],
        f"{SMALL[1].stem}.part": b"half",
        SMALL[0].stem: files[SMALL[0].stem],
    }
    raw = write(tmp_path, left)
    assert EmnistDigits().missing(tmp_path) is not None
    with http_server({"gzip.zip": small}) as (address, _):
        monkeypatch.setattr(EMNIST, "url", f"{address}gzip.zip")
        EmnistDigits().fetch(tmp_path)
    assert not list(raw.glob("*.part"))
    assert_upright(tmp_path)


def test_an_archive_brought_by_hand_is_not_fetched_nor_removed(tmp_path, small, no_network):
    raw = write(tmp_path, {"gzip.zip": small})
    EmnistDigits().fetch(tmp_path)
    assert (raw / "gzip.zip").read_bytes() == small


def test_another_archive_than_promised_is_refused(tmp_path, small, monkeypatch, http_server):
    with http_server({"gzip.zip": b"<html>"}) as (address, _):
        monkeypatch.setattr(EMNIST, "url", f"{address}gzip.zip")
        with pytest.raises(DataError) as caught:
            EmnistDigits().fetch(tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"cannot fetch emnist-digits: gzip.zip from {address}: File not found or corrupted (6 of "
    )
    assert "QBENCH_DATA" in message
    assert EmnistDigits().missing(tmp_path) is not None
    assert [path.name for path in (tmp_path / "EMNIST" / "raw").iterdir()] in ([], [".lock"])
