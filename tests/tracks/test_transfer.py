"""Accuracy on another data set, with a network whose answers are known: the class is the picture's one pixel."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from qbench.components import Examples
from qbench.errors import InputError
from qbench.schema import Spec
from qbench.tracks.transfer import transfer, transfer_data


class Pixel(nn.Module):
    """Puts a picture of one pixel, or a character, into the class of its value plus ``added``."""

    def __init__(self, added: int = 0) -> None:
        super().__init__()
        self.added = nn.Parameter(torch.tensor(float(added)))

    def forward(self, x: Tensor) -> Tensor:
        value = x if x.dim() == 2 else x[:, 0, 0, 0]
        return functional.one_hot((value.long() + int(self.added)) % 4, 4).float()


def pictures(labels: list[int], classes: int = 4, size: int = 1) -> Examples:
    inputs = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 1, size, size)
    return Examples(inputs, torch.arange(4), inputs, torch.tensor(labels), classes)


class Bench:
    def __init__(self, data: Examples) -> None:
        self.found, self.asked = data, []

    def data(self, spec: Spec) -> Examples:
        self.asked.append(str(spec))
        return self.found


def test_each_network_is_tested_on_the_other_pictures() -> None:
    bench = Bench(pictures([0, 1, 2, 0]))
    found = transfer("other(size=2)", {"": Pixel(), "baseline_": Pixel(1)}, pictures([0, 1, 2, 3]), bench)
    assert bench.asked == ["other(size=2)"]
    assert {name: m.value for name, m in found.items()} == {
        "transfer_accuracy": 75,
        "baseline_transfer_accuracy": 25,
    }
    assert {(m.unit, m.n) for m in found.values()} == {("%", 4)}


def test_of_text_every_character_counts() -> None:
    text = torch.tensor([[0, 1, 2], [3, 3, 3]], dtype=torch.uint8)
    data = Examples(text, text.long(), text, torch.tensor([[0, 1, 0], [3, 0, 0]]), 4)
    (found,) = transfer("other", {"": Pixel()}, data, Bench(data)).values()
    assert (found.value, found.n) == (50, 6)


def test_no_other_data_set_is_no_measurement() -> None:
    bench = Bench(pictures([0, 1, 2, 3]))
    assert transfer(None, {"": Pixel()}, pictures([0, 1, 2, 3]), bench) == {}
    assert transfer_data(None, pictures([0, 1, 2, 3]), bench) is None
    assert bench.asked == []


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (pictures([0, 1, 2, 3], size=2), r"shape \[1, 2, 2\] and 4 classes; .* shape \[1, 1, 1\] and 4"),
        (pictures([0, 1, 2, 3], classes=5), r"shape \[1, 1, 1\] and 5 classes"),
    ],
)
def test_pictures_that_do_not_fit(other: Examples, what: str) -> None:
    with pytest.raises(InputError, match=f"transfer='other': its examples have {what}"):
        transfer("other", {"": Pixel()}, pictures([0, 1, 2, 3]), Bench(other))
