"""Weights whose signs and ranges are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from qbench.components import Examples
from qbench.schema import Measurement
from qbench.tracks.weight_figures import fixed_int8, weight_figures


class Picture(nn.Module):
    """Grey levels to numbers about 0, then a layer."""

    def __init__(self, weight: Tensor, offset: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.layer.weight.data = weight
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.float().flatten(1) - self.offset)
        return logits


def examples(count: int, pixels: int) -> Examples:
    pictures = torch.randint(256, (count, 1, 1, pixels), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    labels = torch.ones(count, dtype=torch.long)
    return Examples(pictures, labels, pictures, labels, 2)


def value(found: dict[str, Measurement], name: str) -> float:
    result = found[f"weights.{name}"].value
    assert result is not None
    return result


def test_a_gaussian_layer_keeps_four_fifths_of_its_angle_and_its_products() -> None:
    """cos = sqrt(2/pi), standard deviation sqrt((1 - 3/pi) / d); products with iid inputs have the same correlation.

    400 pictures x 200 outputs: a correlation of .8 has a standard error of .36 / sqrt(n) with n >= 400.
    """
    weight = torch.randn(200, 300, generator=torch.Generator().manual_seed(1)) / 10
    found = weight_figures(Picture(weight, 127.5).eval(), examples(400, 300), 400)
    expected = math.sqrt(2 / math.pi)
    assert value(found, "sign_cosine") == pytest.approx(
        expected, abs=4 * math.sqrt((1 - 3 / math.pi) / 60_000)
    )
    assert value(found, "sign_correlation") == pytest.approx(expected, abs=4 * 0.36 / 20)
    assert value(found, "share_within_one") == 1
    for name in ("sign_cosine", "sign_correlation", "share_within_one"):
        assert {found[f"weights.{name}.{end}"].value for end in ("low", "high")} == {value(found, name)}


def test_signs_alone_are_kept_exactly() -> None:
    weight = torch.where(torch.rand(20, 30, generator=torch.Generator().manual_seed(2)) < 0.5, -0.25, 0.25)
    found = weight_figures(Picture(weight).eval(), examples(50, 30), 50)
    assert value(found, "sign_cosine") == pytest.approx(1, abs=1e-12)
    assert value(found, "sign_correlation") == pytest.approx(1, abs=1e-9)


def test_the_worst_layer_counts_for_the_range() -> None:
    first, second = torch.full((2, 10), 0.5), torch.full((2, 10), 0.5)
    second[0, :5] = 1.5
    module = Picture(first)
    module.other = nn.Linear(10, 2, bias=False)
    module.other.weight.data = second
    found = weight_figures(module.eval(), examples(10, 10), 10)
    assert value(found, "share_within_one") == 0.75
    assert found["weights.share_within_one"].samples == [1, 0.75]


def test_int8_is_fixed_to_one() -> None:
    x = torch.tensor([0.0, 1.0, -1.0, 1.5, -7.0, 0.3, 1 / 254 + 1e-6, 1 / 254 - 1e-6])
    expected = torch.tensor([0, 127, -127, 127, -127, 38, 1, 0]) / 127
    assert torch.equal(fixed_int8(x), expected)


def test_weights_beyond_one_lose_what_distinguishes_them() -> None:
    """Class 1 wins by 1.5 against 1.2; cut off at 1 the two are equal, and the first of equals counts."""
    weight = torch.tensor([[1.2], [1.5]])
    found = weight_figures(Picture(weight, -1).eval(), examples(64, 1), 64)
    assert value(found, "int8_loss") == 100
    # 64.5 lost and .5 gained of 66
    reach = 1.959964 * math.sqrt((65 / 66 - (64 / 66) ** 2) / 66)
    ends = [100 * (64 / 66 + sign * reach) for sign in (-1, 1)]
    assert [value(found, f"int8_loss.{end}") for end in ("low", "high")] == pytest.approx(ends)
    assert found["weights.int8_loss"].n == 64


def test_a_loss_has_an_interval_from_the_predictions_that_change() -> None:
    """16 of 64 predictions become wrong and 48 right: -50 points; the interval allows for what was not seen."""
    data = examples(64, 2)
    data.test_inputs[:] = torch.tensor([200, 0], dtype=torch.uint8)
    data.test_inputs[:16] = torch.tensor([250, 1], dtype=torch.uint8)
    # logits 0 and 0.001 x - 0.2 y: rounding makes them 0 and -25/127 y
    weight = torch.tensor([[0.0, 0.0], [0.001, -0.2]])
    data.test_labels[16:] = 0
    module = Picture(weight)
    found = weight_figures(module.eval(), data, 64)
    before = (module(data.test_inputs).argmax(1) == data.test_labels).double().mean()
    assert float(before) == 0.25
    # those with y = 0 tie at 0 afterwards and become right, the others wrong: 16 lost, 48 gained
    assert value(found, "int8_loss") == pytest.approx(100 * (16 - 48) / 64)
    # with half a picture more of each kind: 16.5 and 48.5 of 66
    reach = 1.959964 * math.sqrt((65 / 66 - (32 / 66) ** 2) / 66)
    ends = [100 * (-32 / 66 + sign * reach) for sign in (-1, 1)]
    assert [value(found, f"int8_loss.{end}") for end in ("low", "high")] == pytest.approx(ends)
