"""Cells know the content of a user's own files."""

from pathlib import Path

import pytest
from PIL import Image

from qbench import plan
from qbench.places import CACHE_VARIABLE

SUITE = """
name = "own"
version = 1
[[grid]]
track = "ptq"
target = "weight"
quantizer = "binary"
model = "mlp(width=4,depth=1)"
dataset = "imagefolder(path=mine)"
optimizer = "adam"
[grid.budget]
calibration = 4
training = { epochs = 1, batch_size = 4, validation = 0.0, selection = "last" }
"""


def paint(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> plan.Options:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for part in ("train", "test"):
        for number, grey in enumerate((0, 90, 180, 250)):
            paint(tmp_path / "mine" / part / f"class{number % 2}" / f"{number}.png", grey + number)
    (tmp_path / "own.toml").write_text(SUITE)
    return plan.Options(
        suite=str(tmp_path / "own.toml"),
        registry=tmp_path / "own.duckdb",
        device="cpu",
        data_root=tmp_path,
        cache_root=tmp_path / "cache",
    )


def test_other_pictures_are_other_work(options: plan.Options) -> None:
    (before,) = plan.make(options).cells
    (again,) = plan.make(options).cells
    paint(options.data_root / "mine" / "test" / "class1" / "1.png", 7)
    (after,) = plan.make(options).cells
    assert again.fingerprint == before.fingerprint
    assert after.cell == before.cell
    assert after.fingerprint != before.fingerprint


def test_pictures_that_are_not_there_are_unavailable(options: plan.Options) -> None:
    (options.data_root / "mine" / "test").rename(options.data_root / "elsewhere")
    (cell,) = plan.make(options).cells
    assert cell.state == "unavailable"
    assert "imagefolder" in cell.reason
