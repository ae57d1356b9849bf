"""Small batches in the form of CIFAR-10's: pickles of Python 2, written here opcode by opcode."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from qbench.datasets.cifar10 import Cifar10
from qbench.errors import DataError

FOLDER, ARCHIVE = "cifar-10-batches-py", "cifar-10-python.tar.gz"
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
COUNT = 4


def text(content: bytes) -> bytes:
    """A string of Python 2, whose strings are bytes."""
    return b"T" + struct.pack("<I", len(content)) + content


def small_integer(value: int) -> bytes:
    return b"K" + bytes([value])


def array(values: np.ndarray) -> bytes:
    """numpy.core.multiarray._reconstruct(ndarray, (0,), 'b') with its state set."""
    rows, columns = values.shape
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + small_integer(0) + small_integer(1) + b"tR"
    dtype += (
        b"("
        + small_integer(3)
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        + small_integer(0)
        + b"tb"
    )
    shape = b"(J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"t"
    state = b"(" + small_integer(1) + shape + dtype + b"I00\n" + text(values.tobytes()) + b"t"
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
        + small_integer(0)
        + b"t"
        + text(b"b")
        + b"tR"
    )
    return empty + state + b"b"


def batch(data: np.ndarray, labels: list[int]) -> bytes:
    items = text(b"batch_label") + text(b"training batch 1 of 5")
    items += text(b"labels") + b"](" + b"".join(map(small_integer, labels)) + b"e"
    items += text(b"data") + array(data)
    items += text(b"filenames") + b"](" + text(b"toy_s_001106.png") * len(labels) + b"e"
    return b"\x80\x02}(" + items + b"u."


def batches() -> dict[str, bytes]:
    draws = np.random.default_rng(0)
    return {
        name: batch(
            draws.integers(256, size=(COUNT, 3072), dtype=np.uint8), draws.integers(10, size=COUNT).tolist()
        )
        for name in NAMES
    }


BATCHES = batches()
META = pickle.dumps({"label_names": list("abcdefghij")}, protocol=2)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, content in {**BATCHES, "batches.meta": META, "readme.html": b"<html>"}.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Makes torchvision state the md5s of the small files; returns their archive."""
    packed = archive()
    lists = [[name, md5(content)] for name, content in BATCHES.items()]
    monkeypatch.setattr(CIFAR10, "train_list", lists[:5])
    monkeypatch.setattr(CIFAR10, "test_list", lists[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(META)})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed))
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:1/{ARCHIVE}")
    monkeypatch.setattr(Cifar10, "download_bytes", len(packed))
    return packed


def write(root: Path, files: dict[str, bytes]) -> Path:
    folder = root / FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def assert_equals_torchvision(root: Path, theirs_root: Path) -> None:
    data = Cifar10().load(root)
    for images, labels, train in (
        (data.train_inputs, data.train_labels, True),
        (data.test_inputs, data.test_labels, False),
    ):
        with warnings.catch_warnings(action="ignore"):  # numpy dislikes an align that is no bool
            theirs = CIFAR10(theirs_root, train=train)
        assert torch.equal(images, torch.from_numpy(theirs.data).permute(0, 3, 1, 2))
        assert labels.tolist() == theirs.targets


def test_torchvision_names_the_files():
    assert Cifar10().source() is CIFAR10
    assert [name for name, _ in CIFAR10.train_list + CIFAR10.test_list] == NAMES
    assert (CIFAR10.base_folder, CIFAR10.filename) == (FOLDER, ARCHIVE)
    assert CIFAR10.url.endswith(f"/{ARCHIVE}")
    assert Cifar10.download_bytes == 170_498_071


def test_batches_equal_torchvisions(tmp_path, small, no_network):
    write(tmp_path, {**BATCHES, "batches.meta": META})
    assert Cifar10().missing(tmp_path) is None
    assert_equals_torchvision(tmp_path, tmp_path)


def test_shapes_and_types(tmp_path, small):
    write(tmp_path, BATCHES)
    data = Cifar10().load(tmp_path)
    assert data.train_inputs.shape == (5 * COUNT, 3, 32, 32)
    assert data.test_inputs.shape == (COUNT, 3, 32, 32)
    assert data.train_inputs.dtype == data.test_inputs.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert (data.shape, data.classes) == ((3, 32, 32), 10)


def test_a_picture_is_three_planes_row_by_row(tmp_path, small, monkeypatch):
    red = np.zeros((1, 3, 32, 32), np.uint8)
    red[0, 0, 1, 2] = 200
    content = batch(red.reshape(1, -1), [7])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write(tmp_path, {**BATCHES, "test_batch": content})
    data = Cifar10().load(tmp_path)
    assert data.test_inputs.nonzero().tolist() == [[0, 0, 1, 2]]
    assert data.test_labels.tolist() == [7]


def test_batches_of_python_3(tmp_path, small, monkeypatch):
    images = np.arange(3072, dtype=np.uint8).reshape(1, -1)
    content = pickle.dumps({"labels": [3], "data": images}, protocol=4)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write(tmp_path, {**BATCHES, "test_batch": content})
    assert torch.equal(Cifar10().load(tmp_path).test_inputs.flatten(1), torch.from_numpy(images))


def test_the_archive_loads_without_writing(tmp_path, small, no_network):
    write(tmp_path / "theirs", {**BATCHES, "batches.meta": META})
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / ARCHIVE).write_bytes(small)
    assert Cifar10().missing(tmp_path / "ours") is None
    assert_equals_torchvision(tmp_path / "ours", tmp_path / "theirs")
    assert [path.name for path in (tmp_path / "ours").iterdir()] == [ARCHIVE]


def test_absent_files_are_named_with_a_remedy(tmp_path):
    assert Cifar10().missing(tmp_path) == (
        f"cifar10: {tmp_path}/{ARCHIVE} is not there, nor is it unpacked; "
        f"run without --offline to fetch 170.5 MB, or put {ARCHIVE} into {tmp_path}, packed or unpacked, "
        f"or set QBENCH_DATA to a folder that holds {ARCHIVE} or {FOLDER}"
    )
    with pytest.raises(DataError, match="is not there"):
        Cifar10().load(tmp_path)


def test_damage_is_named(tmp_path, small):
    damaged = bytearray(BATCHES["data_batch_3"])
    damaged[5000] ^= 1
    folder = write(tmp_path, {**BATCHES, "data_batch_3": bytes(damaged)})
    (tmp_path / ARCHIVE).write_bytes(small[:-1])
    reason = str(Cifar10().missing(tmp_path))
    assert "\n" not in reason
    assert (
        f"{folder / 'data_batch_3'} ({len(damaged)} bytes) has md5 {md5(bytes(damaged))}, "
        f"{md5(BATCHES['data_batch_3'])} expected; "
    ) in reason
    assert f"{tmp_path / ARCHIVE} has {len(small) - 1} bytes, {len(small)} expected" in reason
    with pytest.raises(DataError, match="data_batch_3"):
        Cifar10().load(tmp_path)


def test_a_batch_that_is_not_there(tmp_path, small):
    folder = write(tmp_path, BATCHES)
    (folder / "test_batch").unlink()
    assert f"{folder / 'test_batch'} is not there; run" in str(Cifar10().missing(tmp_path))


class Mischief:
    """Unpickled by the book, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("stated", [False, True], ids=["of another md5", "even of the right md5"])
def test_a_pickle_that_does_something_is_not_obeyed(tmp_path, small, monkeypatch, stated):
    content = pickle.dumps(Mischief(tmp_path / "done"), protocol=2)
    if stated:
        monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write(tmp_path, {**BATCHES, "test_batch": content})
    with pytest.raises(DataError, match="a batch names posix.mkdir" if stated else "has md5"):
        Cifar10().load(tmp_path)
    assert not (tmp_path / "done").exists()
    pickle.loads(content)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "name", ["os\nsystem", "numpy\nload", "numpy.core.multiarray\nscalar", "builtins\ngetattr"]
)
def test_other_names_are_refused(tmp_path, small, monkeypatch, name):
    content = b"\x80\x02c" + name.encode() + b"\n."
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write(tmp_path, {**BATCHES, "test_batch": content})
    with pytest.raises(DataError, match=f"a batch names {name.replace(chr(10), '.')}, which no array"):
        Cifar10().load(tmp_path)


def test_an_array_of_objects_is_refused(tmp_path, small, monkeypatch):
    content = pickle.dumps({"labels": [0], "data": np.array([None])}, protocol=4)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(content)]])
    write(tmp_path, {**BATCHES, "test_batch": content})
    with pytest.raises(DataError, match="an array of type 'O8', 'u1' expected"):
        Cifar10().load(tmp_path)


def test_fetch_brings_what_torchvision_reads(tmp_path, small, monkeypatch, http_server):
    with http_server({ARCHIVE: small}) as (address, asked):
        monkeypatch.setattr(CIFAR10, "url", f"{address}{ARCHIVE}")
        Cifar10().fetch(tmp_path)
        asked.clear()
        Cifar10().fetch(tmp_path)
        assert asked == []
    assert {path.name for path in tmp_path.iterdir()} == {FOLDER}
    assert {path.name for path in (tmp_path / FOLDER).iterdir()} - {".lock"} == {*BATCHES, "batches.meta"}
    assert_equals_torchvision(tmp_path, tmp_path)


def test_what_a_killed_fetch_left_is_not_in_the_way(tmp_path, small, monkeypatch, http_server):
    write(tmp_path, {"data_batch_1": BATCHES["data_batch_1"], "data_batch_2.part": b"half"})
    (tmp_path / f"{ARCHIVE}.part").write_bytes(small[:-1])
    assert Cifar10().missing(tmp_path) is not None
    with http_server({ARCHIVE: small}) as (address, _):
        monkeypatch.setattr(CIFAR10, "url", f"{address}{ARCHIVE}")
        Cifar10().fetch(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    assert_equals_torchvision(tmp_path, tmp_path)


def test_another_archive_than_promised_is_refused(tmp_path, small, monkeypatch, http_server):
    with http_server({ARCHIVE: b"<html>"}) as (address, _):
        monkeypatch.setattr(CIFAR10, "url", f"{address}{ARCHIVE}")
        with pytest.raises(DataError) as caught:
            Cifar10().fetch(tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"cannot fetch cifar10: {ARCHIVE} from {address}: File not found or corrupted (6 of "
    )
    assert f"; put {ARCHIVE} into {tmp_path}" in message
    assert Cifar10().missing(tmp_path) is not None
    assert not list(tmp_path.glob("*.gz*"))
