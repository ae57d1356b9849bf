"""Missing, damaged and fetched files of the MNIST family, made by hand and served on the loopback."""

import gzip
import hashlib
import socket
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from qbench.datasets.idx import FILES, IdxFile
from qbench.datasets.mnist import Mnist
from qbench.datasets.torchvision_mnist import TorchvisionMnist
from qbench.errors import DataError

IMAGES, LABELS = FILES[0], FILES[1]
# Small but well-formed contents: two pictures of 1x1 in each part.
SMALL = {file.packed: IdxFile(file.stem, (2,) + (1,) * (len(file.shape) - 1)) for file in FILES}
CONTENTS = {name: gzip.compress(file.header + bytes(2), mtime=0) for name, file in SMALL.items()}


def small(*mirrors: str) -> TorchvisionMnist:
    """A data set whose four files are those of ``CONTENTS``."""
    md5s = [(name, hashlib.md5(content).hexdigest()) for name, content in CONTENTS.items()]
    theirs = type("SmallMNIST", (MNIST,), {"mirrors": list(mirrors), "resources": md5s})

    class Small(TorchvisionMnist):
        name = "small"
        folder = "SmallMNIST"
        packed_bytes = tuple(len(content) for content in CONTENTS.values())
        download_bytes = sum(packed_bytes)

        def source(self):
            return theirs

    return Small()


def write_zeros(root: Path) -> Path:
    """The four files of MNIST unpacked, right in form, every number 0 (sparse)."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in FILES:
        with (raw / file.stem).open("wb") as opened:
            opened.write(file.header)
            opened.truncate(file.length)
    return raw


def fetch_error(dataset: TorchvisionMnist, root: Path) -> str:
    """The one line a failing fetch ends with; nothing it leaves counts as data."""
    with pytest.raises(DataError) as caught:
        dataset.fetch(root)
    assert dataset.missing(root) is not None
    message = str(caught.value)
    raw = root / "SmallMNIST" / "raw"
    assert "\n" not in message
    assert message.startswith("cannot fetch small: ")
    assert f"put its four files into {raw}" in message
    assert "QBENCH_DATA" in message
    assert not raw.is_dir() or not list(raw.glob("*.part"))
    return message


def test_absent_files_are_named_with_a_remedy(tmp_path):
    reason = Mnist().missing(tmp_path / "nowhere")
    raw = tmp_path / "nowhere" / "MNIST" / "raw"
    assert reason == (
        f"mnist: {raw}/train-images-idx3-ubyte.gz is not there, nor is it unpacked; "
        f"run without --offline to fetch 11.6 MB, or put its four files into {raw}, packed or unpacked, "
        "or set QBENCH_DATA to a folder that holds MNIST/raw"
    )
    with pytest.raises(DataError, match="is not there"):
        Mnist().load(tmp_path / "nowhere")


def test_unpacked_files_load(tmp_path):
    raw = write_zeros(tmp_path)
    with (raw / FILES[3].stem).open("r+b") as labels:
        labels.seek(8)
        labels.write(bytes(range(10)) * 1000)
    assert Mnist().missing(tmp_path) is None
    data = Mnist().load(tmp_path)
    assert data.shape == (1, 28, 28)
    assert data.train_inputs.shape == (60000, 1, 28, 28)
    assert data.test_inputs.shape == (10000, 1, 28, 28)
    assert data.train_labels.shape == (60000,)
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.classes == 10


def test_a_relative_root(tmp_path, monkeypatch):
    write_zeros(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert Mnist().missing(Path("data")) is None
    assert len(Mnist().load(Path("data")).test_labels) == 10000


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("length", [0, 3, -1])
def test_an_unpacked_file_cut_short_is_named_with_its_sizes(tmp_path, file, length):
    path = write_zeros(tmp_path) / file.stem
    length %= file.length
    with path.open("r+b") as opened:
        opened.truncate(length)
    reason = Mnist().missing(tmp_path)
    assert reason is not None
    assert "\n" not in reason
    assert f"{path} has {length} bytes, {file.length} expected" in reason
    with pytest.raises(DataError, match=f"{length} bytes"):
        Mnist().load(tmp_path)


def test_a_wrong_header_is_seen(tmp_path):
    path = write_zeros(tmp_path) / LABELS.stem
    with path.open("r+b") as opened:
        opened.write(bytes([0, 0, 13, 1]))
    assert f"{path} begins with 00000d010000ea60, 000008010000ea60 expected" in str(Mnist().missing(tmp_path))


def test_a_label_out_of_range_is_damage(tmp_path):
    path = write_zeros(tmp_path) / LABELS.stem
    with path.open("r+b") as opened:
        opened.seek(100)
        opened.write(bytes([10]))
    with pytest.raises(DataError, match="has the label 10, 0 to 9 expected"):
        Mnist().load(tmp_path)


def test_torchvisions_old_processed_files_are_not_read(tmp_path):
    raw = write_zeros(tmp_path)
    processed = raw.parent / "processed"
    processed.mkdir()
    three = torch.ones(3, 28, 28, dtype=torch.uint8), torch.ones(3, dtype=torch.int64)
    for name in (MNIST.training_file, MNIST.test_file):
        torch.save(three, processed / name)
    assert len(Mnist().load(tmp_path).train_labels) == 60000


def test_no_temporary_folder(tmp_path, monkeypatch):
    write_zeros(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="which TMPDIR moves"):
        Mnist().load(tmp_path)


def test_a_folder_in_place_of_a_file_is_no_file(tmp_path):
    path = write_zeros(tmp_path) / LABELS.stem
    path.unlink()
    path.mkdir()
    assert f"{path}.gz is not there" in str(Mnist().missing(tmp_path))


def test_fetch_brings_whole_files_quietly(tmp_path, capfd, http_server):
    with http_server(CONTENTS) as (address, asked):
        dataset = small(address)
        assert dataset.missing(tmp_path) is not None
        dataset.fetch(tmp_path)
        assert dataset.missing(tmp_path) is None
        raw = tmp_path / "SmallMNIST" / "raw"
        assert {path.name: path.read_bytes() for path in raw.glob("*.*z*")} == CONTENTS
        asked.clear()
        dataset.fetch(tmp_path)
        assert asked == []
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_fetch_asks_only_for_what_is_missing(tmp_path, http_server):
    raw = tmp_path / "SmallMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in (FILES[0].packed, FILES[2].packed):
        (raw / name).write_bytes(CONTENTS[name])
    (raw / FILES[1].packed).write_bytes(CONTENTS[FILES[1].packed][:-1])
    with http_server(CONTENTS) as (address, asked):
        small(address).fetch(tmp_path)
    assert set(asked) == {FILES[1].packed, FILES[3].packed}
    assert small().missing(tmp_path) is None


def test_fetch_goes_on_to_the_next_mirror(tmp_path, http_server, closed_port):
    with http_server({}) as (empty, _), http_server(CONTENTS) as (address, _):
        small(empty, f"http://127.0.0.1:{closed_port()}/", address).fetch(tmp_path)
    assert small().missing(tmp_path) is None


def test_fetched_files_of_another_size_do_not_load(tmp_path, http_server):
    with http_server(CONTENTS) as (address, _):
        small(address).fetch(tmp_path)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte holds \(2, 1, 1\) numbers, \(60000, 28, 28\)"
    ):
        small().load(tmp_path)


def test_other_files_than_promised_are_refused(tmp_path, http_server):
    wrong = dict.fromkeys(CONTENTS, b"<html>please log in</html>")
    with http_server(wrong) as (address, _):
        message = fetch_error(small(address), tmp_path)
    assert f"{IMAGES.packed} from {address}: File not found or corrupted (26 of " in message


def test_a_file_that_is_not_there(tmp_path, http_server):
    with http_server({}) as (address, _):
        assert "HTTP Error 404: Not Found" in fetch_error(small(address), tmp_path)


def test_nobody_listens(tmp_path, closed_port):
    assert "refused" in fetch_error(small(f"http://127.0.0.1:{closed_port()}/"), tmp_path)


@pytest.mark.timeout(30)  # two waits of 0.3 s, not for ever
def test_a_server_that_accepts_and_never_answers(tmp_path, raw_server):
    with raw_server(lambda connection: None) as address:
        assert "timed out" in fetch_error(small(address), tmp_path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("stays_open", [True, False], ids=["stalls", "closes"])
def test_a_server_that_stops_midway(tmp_path, stays_open, raw_server):
    def half(connection: socket.socket) -> None:
        content = CONTENTS[IMAGES.packed]
        connection.recv(65536)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content[:20])
        if not stays_open:
            connection.shutdown(socket.SHUT_RDWR)

    with raw_server(half) as address:
        message = fetch_error(small(address), tmp_path)
    assert ("timed out" if stays_open else "corrupted") in message


def test_a_server_that_talks_nonsense(tmp_path, raw_server):
    def nonsense(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"220 not the web\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    with raw_server(nonsense) as address:
        assert "220 not the web" in fetch_error(small(address), tmp_path)


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "Not a directory" in fetch_error(small("http://127.0.0.1:1/"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_what_a_killed_fetch_left_is_neither_data_nor_in_the_way(tmp_path, http_server):
    raw = tmp_path / "SmallMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (raw / f"{name}.part").write_bytes(content[:-1])
    assert small().missing(tmp_path) is not None
    with http_server(CONTENTS) as (address, _):
        small(address).fetch(tmp_path)
    assert small().missing(tmp_path) is None
    assert not list(raw.glob("*.part"))


def test_a_damaged_file_is_replaced_only_by_a_whole_one(tmp_path, http_server):
    raw = tmp_path / "SmallMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / IMAGES.packed).write_bytes(b"damaged")
    with http_server({IMAGES.packed: b"worse"}) as (address, _):
        fetch_error(small(address), tmp_path)
    assert (raw / IMAGES.packed).read_bytes() == b"damaged"
    with http_server(CONTENTS) as (address, _):
        small(address).fetch(tmp_path)
    assert small().missing(tmp_path) is None


def test_two_fetches_at_once_bring_each_file_once(tmp_path, http_server):
    with http_server(CONTENTS) as (address, asked):
        threads = [threading.Thread(target=small(address).fetch, args=(tmp_path,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert small().missing(tmp_path) is None
    # torchvision asks twice for a file: once for where it is, once for its bytes
    assert sorted(asked) == sorted([*CONTENTS, *CONTENTS])


def test_header_of_an_idx_file():
    # type 8 (unsigned byte), 3 dimensions, 60000 x 28 x 28: the magic number 2051 of LeCun's page
    assert int.from_bytes(IMAGES.header[:4], "big") == 2051
    assert int.from_bytes(LABELS.header[:4], "big") == 2049
    assert [file.length for file in FILES] == [47_040_016, 60_008, 7_840_016, 10_008]
    assert IMAGES.header[4:].hex() == "0000ea600000001c0000001c"
