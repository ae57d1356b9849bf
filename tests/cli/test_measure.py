"""``qbench measure``."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import qbench
from qbench.measuring import Distortion

HOSTILE = "[bold]x[/bold]\x1b[2J"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a.weight": torch.randn(32, 16, generator=generator),
        "b.weight": 3 * torch.randn(8, 64, generator=generator),
        "b.bias": torch.randn(64, generator=generator),
        "steps": torch.tensor([1, 2]),
    }
    save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_measure_counts_what_the_library_counts(qb: Callable[..., Any], weights: Path) -> None:
    ended = qb("measure", weights, "--quantizer", "uniform:bits=4", "--json")
    rows = {row["tensor"]: row for row in ended.json}
    assert ended.code == 0
    assert set(rows) == {"a.weight", "b.weight", "b.bias", "steps", None}
    assert (rows["steps"]["status"], rows["steps"]["rate"]) == ("skipped", None)
    quantizer, total, size = qbench.quantizer("uniform", bits=4), Distortion(0, 0, 0, 0, 0), 0
    generator = torch.Generator().manual_seed(0)
    drawn = {"a.weight": torch.randn(32, 16, generator=generator)}
    drawn["b.weight"] = 3 * torch.randn(8, 64, generator=generator)
    drawn["b.bias"] = torch.randn(64, generator=generator)
    for name, x in drawn.items():
        found = qbench.measure(quantizer, x)
        assert rows[name]["mse"] == found.mse
        assert rows[name]["bytes"] == found.rate * x.numel() / 8
        total, size = total + Distortion.between(x, found.reconstruction), size + rows[name]["bytes"]
    assert rows[None]["bytes"] == size
    assert rows[None]["rate"] == 8 * size / 1088
    assert math.isclose(rows[None]["sqnr_db"], total.sqnr_db, rel_tol=1e-12)


def test_measure_draws_a_table_per_quantizer(qb: Callable[..., Any], weights: Path) -> None:
    ended = qb(
        "measure", weights, "--quantizer", "uniform:bits=8", "--quantizer", "binary", "--tensor", "*.weight"
    )
    assert ended.code == 0
    assert ended.out.count("a.weight  32 x 16") == 2
    assert ended.out.count("total     1,024 elements") == 2
    assert "bias" not in ended.out


def test_measure_skips_what_it_cannot_take_and_goes_on_after_a_failure(
    qb: Callable[..., Any], tmp_path: Path
) -> None:
    tensors = {HOSTILE: torch.ones(2, 2), "nan": torch.tensor([math.nan]), "none": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "w.safetensors")
    ended = qb("measure", tmp_path / "w.safetensors", "--quantizer", "uniform", "--channel-axis", 0)
    assert ended.code == 1
    assert re.search(r"error: nan 1: 1 of the 1 elements of x are NaN", ended.out)
    assert "skipped: none 0 x 2: it is empty" in ended.out
    assert "[bold]x[/bold]\\x1b[2J" in ended.out
    assert "\x1b" not in ended.out + ended.err
    ended = qb("measure", tmp_path / "w.safetensors", "--quantizer", "uniform", "--channel-axis", 1, "--json")
    assert {row["tensor"]: row["error"] for row in ended.json}["nan"] == "it has no axis 1"


def test_a_tensor_that_loses_nothing_has_no_sqnr_in_json(qb: Callable[..., Any], tmp_path: Path) -> None:
    save_file({"zero": torch.zeros(8)}, tmp_path / "w.safetensors")
    row = qb("measure", tmp_path / "w.safetensors", "--quantizer", "uniform", "--json").json[0]
    assert (row["mse"], row["sqnr_db"]) == (0.0, None)


def test_an_unknown_tensor_says_which_there_are(
    qb: Callable[..., Any], refused: Callable[..., Any], weights: Path
) -> None:
    refused(
        qb("measure", weights, "--quantizer", "uniform", "--tensor", "c.*"),
        "it holds a.weight, b.bias, b.weight",
    )


def test_a_damaged_weights_file_is_refused(
    qb: Callable[..., Any], refused: Callable[..., Any], weights: Path
) -> None:
    whole = weights.read_bytes()
    for size in (4, 100, len(whole) - 10):
        weights.write_bytes(whole[:size])
        refused(qb("measure", weights, "--quantizer", "uniform"), "not a whole safetensors file")
