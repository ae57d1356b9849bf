"""Pictures made here, of known pixels, as a user would lay them out."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from qbench.components import Examples
from qbench.datasets import pictures
from qbench.datasets.image_folder import ImageFolder
from qbench.errors import DataError, ParameterError
from qbench.schema import Spec

CLASSES = ("ant", "bee", "cow")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("QBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imagefolder"


@pytest.fixture
def decodings(monkeypatch) -> list[int]:
    """Grows by one with every picture that is decoded."""
    counted, original = [], pictures.picture

    def picture(content: bytes, size: int, channels: int) -> pictures.Picture:
        counted.append(len(content))
        return original(content, size, channels)

    monkeypatch.setattr(pictures, "picture", picture)
    return counted


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def make_pictures(folder: Path, seed: int = 0) -> Path:
    """Three random 6x5 PNG pictures of each class for training, one for testing."""
    draws = np.random.default_rng(seed)
    for part, count in (("train", 3), ("test", 1)):
        for name in reversed(CLASSES):
            for number in range(count):
                pixels = draws.integers(256, size=(6, 5, 3), dtype=np.uint8)
                save(folder / part / name / f"{number}.png", pixels)
    return folder


def constant(folder: Path, pixels: np.ndarray, suffix: str = "png") -> Path:
    """Two classes of one picture each in both parts, all the same."""
    for part in ("train", "test"):
        for name in "ab":
            save(folder / part / name / f"it.{suffix}", pixels)
    return folder


def load(folder: Path, **parameters: object) -> Examples:
    return ImageFolder(path=str(folder), **parameters).load(Path("/nowhere"))


def content(folder: Path) -> str:
    return ImageFolder(path=str(folder)).content(Path("/nowhere"))


def problem(folder: Path) -> str:
    """Why a folder is refused before anything is decoded."""
    dataset = ImageFolder(path=str(folder))
    reason = dataset.missing(Path("/nowhere"))
    assert reason is not None
    assert "\n" not in reason
    for use in (dataset.fetch, dataset.content, dataset.load):
        with pytest.raises(DataError) as caught:
            use(Path("/nowhere"))
        assert str(caught.value) == reason
    return reason


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_pictures_equal_torchvisions(tmp_path, suffix):
    draws = np.random.default_rng(1)
    for part, count in (("train", 3), ("test", 2)):
        for name in CLASSES:
            for number in range(count):
                pixels = draws.integers(256, size=(16, 24, 3), dtype=np.uint8)
                save(tmp_path / part / name / f"deep/{number}.{suffix}", pixels)
    data = load(tmp_path)
    parts = (data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)
    for (images, labels), part in zip(parts, ("train", "test"), strict=True):
        theirs = TorchvisionFolder(str(tmp_path / part))
        wanted = np.stack([np.asarray(picture) for picture, _ in theirs])
        assert torch.equal(images, torch.from_numpy(wanted).permute(0, 3, 1, 2))
        assert labels.tolist() == theirs.targets
    assert data.shape == (3, 16, 24)
    assert data.classes == 3
    assert data.train_inputs.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64
    assert data.train_inputs.is_contiguous()


def test_labels_follow_the_order_of_class_names(tmp_path):
    for name, gray in (("b", 20), ("B", 10), ("a", 30)):
        for part in ("train", "test"):
            save(tmp_path / part / name / "it.png", np.full((2, 2, 3), gray, np.uint8))
    data = load(tmp_path)
    assert data.train_inputs[:, 0, 0, 0].tolist() == [10, 30, 20]
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 1, 2]


def test_gray_values_are_those_of_bt601(tmp_path):
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    data = load(constant(tmp_path, colors), channels=1)
    assert data.shape == (1, 1, 4)
    # 255 times 0.299, 0.587, 0.114 and 1
    assert data.train_inputs[0].flatten().tolist() == [76, 150, 29, 255]


def test_gray_and_palette_pictures_become_colours(tmp_path):
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    constant(tmp_path, gray)
    Image.fromarray(gray).convert("P").save(tmp_path / "test" / "b" / "it.png")
    data = load(tmp_path)
    assert torch.equal(data.test_inputs, torch.from_numpy(gray).expand(2, 3, 3, 4))


def test_size_cuts_the_middle_square(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(4, 10, 3), dtype=np.uint8)
    data = load(constant(tmp_path, pixels), size=4)
    assert torch.equal(data.train_inputs[0], torch.from_numpy(pixels[:, 3:7]).permute(2, 0, 1))


def test_size_scales_with_antialiasing(tmp_path):
    # Of a ramp every symmetric filter gives the value in its middle: pixel i of half as many is 8 i + 2 inside.
    # A filter without antialiasing would keep the fine stripes of the other picture; their mean is 100.
    ramp = np.repeat(np.arange(0, 128, 4, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(32, axis=0)
    scaled = load(constant(tmp_path / "ramp", ramp), size=16).train_inputs[0, 0]
    inside = torch.arange(1, 15)
    assert torch.equal(scaled[:, 1:15].int(), (8 * inside + 2).expand(16, 14).int())
    stripes = np.tile(np.array([0, 0, 0, 200, 200, 200], np.uint8)[None, :, None], (48, 8, 3))
    scaled = load(constant(tmp_path / "stripes", stripes), size=8).train_inputs[0, 0]
    assert (scaled[:, 1:7].int() - 100).abs().max() <= 1


def test_a_picture_taken_sideways_is_turned(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(2, 3, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is the right side of the file
    for part in ("train", "test"):
        for name in "ab":
            save(tmp_path / part / name / "it.png", pixels, exif=exif)
    wanted = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1)
    assert torch.equal(load(tmp_path).train_inputs[0], wanted)


def test_what_file_browsers_leave_is_passed_over(tmp_path):
    make_pictures(tmp_path)
    before = load(tmp_path)
    for place in ("train/.DS_Store", "train/ant/.DS_Store", "train/ant/Thumbs.db", "test/bee/.small/1.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"left")
    (tmp_path / "test" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "README.md").write_text("beside the classes")
    after = load(tmp_path)
    assert torch.equal(before.train_inputs, after.train_inputs)
    assert after.classes == 3
    assert torch.equal(before.test_labels, after.test_labels)


def test_files_that_are_no_pictures_are_named(tmp_path):
    make_pictures(tmp_path)
    whole = (tmp_path / "train" / "ant" / "0.png").read_bytes()
    (tmp_path / "train" / "ant" / "0.png").write_bytes(whole[:-30])
    (tmp_path / "train" / "bee" / "notes.txt").write_text("what I saw")
    (tmp_path / "test" / "cow" / "empty.jpg").touch()
    save(tmp_path / "test" / "cow" / "x-ray.png", np.zeros((6, 5), np.uint16))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("imagefolder: 4 files are no pictures that can be read: ")
    assert f"{tmp_path}/train/ant/0.png (" in message
    assert f"{tmp_path}/train/bee/notes.txt (cannot identify image file" in message
    assert f"{tmp_path}/test/cow/empty.jpg (" in message
    assert " and 1 more; move them away" in message
    for name in ("train/ant/0.png", "train/bee/notes.txt", "test/cow/empty.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(
        DataError, match=r"x-ray.png \(its pixels are of mode I.*, 8 bits a channel expected\)"
    ):
        load(tmp_path)


def test_no_other_program_is_started_to_read_a_picture(tmp_path):
    make_pictures(tmp_path)
    Image.new("RGB", (5, 6)).save(tmp_path / "train" / "ant" / "it.eps")
    with pytest.raises(DataError, match=r"1 files are no pictures .*it\.eps"):
        load(tmp_path)


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    make_pictures(tmp_path)
    save(tmp_path / "test" / "cow" / "1.png", np.zeros((9, 7, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert (
        f"pictures have 2 sizes: 12 are 6x5, not so {tmp_path}/test/cow/1.png 9x7; say size=5 to bring all to one"
    ) in str(caught.value)
    assert load(tmp_path, size=5).test_inputs.shape == (4, 3, 5, 5)


def test_absent_folders(tmp_path):
    reason = ImageFolder().missing(tmp_path)
    assert reason == (
        f"imagefolder: {tmp_path}/imagefolder/train is not there; path=imagefolder is read from {tmp_path}, "
        "which QBENCH_DATA moves: it holds train/ and test/, each with a folder of pictures per class"
    )
    shutil.rmtree(make_pictures(tmp_path / "mine") / "test")
    assert f"{tmp_path}/mine/test is not there" in problem(tmp_path / "mine")


def test_both_parts_need_the_same_classes(tmp_path):
    make_pictures(tmp_path)
    shutil.copytree(tmp_path / "test" / "ant", tmp_path / "test" / "dog")
    assert "classes in test/ alone: dog; both parts need the same classes" in problem(tmp_path)
    shutil.rmtree(tmp_path / "test" / "dog")
    shutil.rmtree(tmp_path / "test" / "ant")
    assert "classes in train/ alone: ant;" in problem(tmp_path)


def test_a_class_without_pictures(tmp_path):
    make_pictures(tmp_path)
    (tmp_path / "test" / "bee" / "0.png").unlink()
    assert f"{tmp_path}/test: no pictures of bee" in problem(tmp_path)


def test_one_class_is_none(tmp_path):
    make_pictures(tmp_path)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            shutil.rmtree(tmp_path / part / name)
    assert f"{tmp_path}/train has 1 class folders, at least 2 expected" in problem(tmp_path)


@pytest.mark.timeout(30)  # whoever opens it waits for ever
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(make_pictures(tmp_path) / "train" / "ant" / "9.png")
    assert f"{tmp_path}/train/ant/9.png is no file; move it away" in problem(tmp_path)


def test_a_link_to_nowhere(tmp_path):
    (make_pictures(tmp_path) / "train" / "ant" / "9.png").symlink_to(tmp_path / "gone")
    assert "No such file or directory" in problem(tmp_path)


def test_paths_are_read_from_the_data_root(tmp_path, monkeypatch):
    make_pictures(tmp_path / "data" / "mine")
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    relative = ImageFolder(path="mine").load(Path("data"))
    home = ImageFolder(path="~/mine").load(Path("/nowhere"))
    assert torch.equal(relative.train_inputs, home.train_inputs)
    assert ImageFolder(path="mine").missing(tmp_path / "elsewhere") is not None


def test_a_home_of_nobody(tmp_path):
    assert "imagefolder: Could not determine home directory" in str(
        ImageFolder(path="~nobody9/x").missing(tmp_path)
    )


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    save(make_pictures(tmp_path) / "train" / "ant" / name, np.zeros((6, 5, 3), np.uint8))
    assert len(load(tmp_path).train_inputs) == 10
    (tmp_path / "train" / "ant" / name).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"train/ant/caf\?\.png \("):
        load(tmp_path)


def test_parameters():
    dataset = ImageFolder(path="my pictures/2024", size=32, channels=1)
    spec = Spec.parse(str(dataset.spec))
    assert ImageFolder(**spec.parameters).spec == dataset.spec
    assert ImageFolder.download_bytes == 0
    for bad in ({"size": -1}, {"channels": 2}, {"path": ""}, {"classes": 3}):
        with pytest.raises(ParameterError):
            ImageFolder(**bad)


def test_content_is_that_of_the_pictures_wherever_they_lie(tmp_path):
    make_pictures(tmp_path / "here")
    wanted = content(tmp_path / "here")
    assert len(wanted) == 64
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    assert content(tmp_path / "there") == wanted
    os.utime(tmp_path / "there" / "train" / "ant" / "0.png", (0, 0))
    assert content(tmp_path / "there") == wanted
    load(tmp_path / "there")
    assert content(tmp_path / "there") == wanted


def flip_a_byte(folder: Path) -> None:
    path = folder / "train" / "bee" / "1.png"
    before, status = bytearray(path.read_bytes()), path.stat()
    before[-20] ^= 1
    path.write_bytes(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap_parts(folder: Path) -> None:
    shutil.move(folder / "test" / "cow" / "0.png", folder / "train" / "cow" / "9.png")
    shutil.move(folder / "train" / "cow" / "0.png", folder / "test" / "cow" / "0.png")


def swap_classes(folder: Path) -> None:
    for old, new in (("ant", "x"), ("bee", "ant"), ("x", "bee")):
        shutil.move(folder / "test" / old, folder / "test" / new)


def drop_one(folder: Path) -> None:
    (folder / "train" / "cow" / "2.png").unlink()


@pytest.mark.parametrize("change", [flip_a_byte, swap_parts, swap_classes, drop_one])
def test_content_changes_with_the_data(tmp_path, change: Callable[[Path], None]):
    before = content(make_pictures(tmp_path))
    change(tmp_path)
    assert content(tmp_path) != before


def test_pictures_are_decoded_once(tmp_path, decodings, no_network):
    first = load(make_pictures(tmp_path / "here"))
    assert len(decodings) == 12
    again = load(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    content(tmp_path / "there")
    elsewhere = load(tmp_path / "there")
    assert len(decodings) == 12
    for other in (again, elsewhere):
        assert torch.equal(first.train_inputs, other.train_inputs)
        assert torch.equal(first.test_inputs, other.test_inputs)
        assert torch.equal(first.train_labels, other.train_labels)


def test_other_parameters_and_other_pictures_are_decoded_anew(tmp_path, decodings):
    make_pictures(tmp_path)
    assert load(tmp_path).shape == (3, 6, 5)
    assert load(tmp_path, size=4).shape == (3, 4, 4)
    assert load(tmp_path, channels=1).shape == (1, 6, 5)
    assert len(decodings) == 36
    save(tmp_path / "test" / "ant" / "0.png", np.zeros((6, 5, 3), np.uint8))
    assert not load(tmp_path).test_inputs[0].any()


@pytest.mark.parametrize("damage", [b"", b"cut", bytes(4096), b"\xff" * 64])
def test_a_damaged_cache_is_made_again(tmp_path, cache, decodings, damage):
    first = load(make_pictures(tmp_path / "here")).train_inputs.clone()
    for path in (*cache.glob("*.safetensors"), *cache.glob("*.sha256")):
        path.unlink()
        path.write_bytes(damage)
    assert torch.equal(load(tmp_path / "here").train_inputs, first)
    for path in cache.glob("*.safetensors"):
        path.unlink()
        path.write_bytes(damage)
    assert torch.equal(load(tmp_path / "here").train_inputs, first)
    assert len(decodings) == 36
    assert not list(cache.glob("*.part"))


def test_two_that_load_at_once_decode_once(tmp_path, decodings):
    make_pictures(tmp_path)
    threads = [threading.Thread(target=load, args=(tmp_path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decodings) == 12


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    make_pictures(tmp_path / "here")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="Not a directory.*which QBENCH_CACHE moves"):
        load(tmp_path / "here")
    with pytest.raises(DataError, match="which QBENCH_CACHE moves"):
        content(tmp_path / "here")
