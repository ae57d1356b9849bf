import hashlib
import shutil

import pytest
import torch
from torchvision.datasets import MNIST, FashionMNIST

from qbench.datasets.fashion_mnist import FashionMnist
from qbench.datasets.idx import FILES
from qbench.datasets.mnist import Mnist
from qbench.errors import DataError


@pytest.mark.parametrize(("ours", "theirs"), [(Mnist, MNIST), (FashionMnist, FashionMNIST)])
def test_torchvision_knows_the_four_files(ours, theirs):
    assert ours().source() is theirs
    assert ours.folder == theirs.__name__
    assert [name for name, _ in theirs.resources] == [file.packed for file in FILES]


def test_download_sizes():
    assert Mnist.download_bytes == 11_594_722
    assert FashionMnist.download_bytes == 30_878_645


def test_the_packed_files_are_torchvisions(fashion_mnist_root):
    for (name, md5), size in zip(FashionMNIST.resources, FashionMnist.packed_bytes, strict=True):
        content = (fashion_mnist_root / "FashionMNIST" / "raw" / name).read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == md5
        assert len(content) == size


def test_packed_files_load_without_network_and_without_writing(fashion_mnist_root, no_network):
    raw = fashion_mnist_root / "FashionMNIST" / "raw"
    before = sorted(raw.iterdir())
    dataset = FashionMnist()
    assert dataset.missing(fashion_mnist_root) is None
    data = dataset.load(fashion_mnist_root)
    assert sorted(raw.iterdir()) == before
    assert data.train_inputs.shape == (60000, 1, 28, 28)
    assert data.test_inputs.shape == (10000, 1, 28, 28)
    assert data.train_inputs.dtype == data.test_inputs.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert torch.bincount(data.train_labels).tolist() == [6000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.train_inputs.min() == 0
    assert data.train_inputs.max() == 255


def test_pictures_equal_torchvisions(fashion_mnist_root, tmp_path, no_network):
    shutil.copytree(fashion_mnist_root, tmp_path, dirs_exist_ok=True)
    theirs = FashionMNIST(tmp_path, train=False, download=True)
    ours = FashionMnist().load(tmp_path)
    assert torch.equal(ours.test_inputs.squeeze(1), theirs.data)
    assert torch.equal(ours.test_labels, theirs.targets)


def test_a_good_packed_file_stands_in_for_a_damaged_unpacked_one(fashion_mnist_root, tmp_path, no_network):
    shutil.copytree(fashion_mnist_root, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "FashionMNIST" / "raw" / FILES[1].stem
    damaged.write_bytes(b"cut short")
    assert FashionMnist().missing(tmp_path) is None
    assert torch.bincount(FashionMnist().load(tmp_path).train_labels).tolist() == [6000] * 10
    assert damaged.read_bytes() == b"cut short"


def test_a_packed_file_cut_short_is_named_with_its_sizes(fashion_mnist_root, tmp_path):
    shutil.copytree(fashion_mnist_root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "FashionMNIST" / "raw" / FILES[2].packed
    path.write_bytes(path.read_bytes()[:1_000_000])
    reason = FashionMnist().missing(tmp_path)
    assert reason is not None
    assert "\n" not in reason
    assert f"{path} has 1000000 bytes, 4422102 expected" in reason
    with pytest.raises(DataError, match="1000000 bytes"):
        FashionMnist().load(tmp_path)


def test_one_wrong_byte_in_a_packed_file_is_seen(fashion_mnist_root, tmp_path):
    shutil.copytree(fashion_mnist_root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "FashionMNIST" / "raw" / FILES[3].packed
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    reason = FashionMnist().missing(tmp_path)
    assert reason is not None
    assert f"{path} has md5 " in reason
    assert "bb300cfdad3c16e7a12a480ee83cd310 expected" in reason


def test_fashion_mnist_is_no_mnist(fashion_mnist_root):
    reason = Mnist().missing(fashion_mnist_root)
    assert reason is not None
    assert "MNIST/raw/train-images-idx3-ubyte.gz is not there" in reason
