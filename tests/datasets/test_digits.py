import numpy as np
import torch
from sklearn.datasets import load_digits

from qbench.datasets.digits import Digits


def test_nothing_is_fetched(tmp_path):
    digits = Digits()
    assert digits.missing(tmp_path / "absent") is None
    assert digits.download_bytes == 0
    digits.fetch(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_shapes_and_types(tmp_path):
    data = Digits().load(tmp_path)
    assert data.shape == (1, 8, 8)
    assert data.classes == 10
    assert data.train_inputs.shape == (1437, 1, 8, 8)
    assert data.test_inputs.shape == (360, 1, 8, 8)
    assert data.train_labels.shape == (1437,)
    assert data.test_labels.shape == (360,)
    assert data.train_inputs.dtype == data.test_inputs.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64


def test_every_picture_is_in_one_part_with_its_own_label(tmp_path):
    data, original = Digits().load(tmp_path), load_digits()
    images = torch.cat([data.train_inputs, data.test_inputs]).flatten(1).numpy().astype(int)
    labels = torch.cat([data.train_labels, data.test_labels]).numpy()
    ours = np.column_stack([images, labels])
    theirs = np.column_stack([original.data.astype(int) * 15, original.target])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


def test_test_pictures_are_a_fifth_of_every_class(tmp_path):
    data = Digits().load(tmp_path)
    test = torch.bincount(data.test_labels, minlength=10)
    whole = test + torch.bincount(data.train_labels, minlength=10)
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (test - whole / 5).abs().max() < 1


def test_the_split_is_the_one_described(tmp_path):
    data, original = Digits().load(tmp_path), load_digits()
    zeros = original.images[original.target == 0]
    ours = data.test_inputs[data.test_labels == 0].squeeze(1)
    assert torch.equal(ours, torch.from_numpy(zeros[::5] * 15).to(torch.uint8))
