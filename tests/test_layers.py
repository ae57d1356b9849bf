import contextlib

import pytest
import torch
from torch import nn

from qbench.errors import InputError
from qbench.layers import swapped_weights, unfolded, weight_tensors


class Shared(nn.Module):
    """Layers in an order that is not alphabetical; one weight is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 5))
        self.body[2].weight = self.body[0].weight
        self.attic = nn.Conv1d(2, 2, 1)
        self.head = nn.Linear(5, 2)


def test_weights_come_in_the_order_of_definition_and_once() -> None:
    found = [(weight.name, weight.kind, tuple(weight.parameter.shape)) for weight in weight_tensors(Shared())]
    assert found == [
        ("stem.weight", "conv", (4, 3, 3, 3)),
        ("body.0.weight", "linear", (5, 5)),
        ("attic.weight", "conv", (2, 2, 1)),
        ("head.weight", "linear", (2, 5)),
    ]


def test_a_layer_alone_and_a_network_without_weights() -> None:
    assert [weight.name for weight in weight_tensors(nn.Conv3d(1, 1, 1))] == ["weight"]
    assert weight_tensors(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3))) == []


def test_swapped_weights_act_inside_and_are_gone_outside() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before, storage = layer.weight.detach().clone(), layer.weight.data_ptr()
    with swapped_weights(layer, {"weight": torch.tensor([[3.0, -1.0]], dtype=torch.float64)}):
        assert layer(torch.tensor([1.0, 2.0])).item() == 1.0
    assert torch.equal(layer.weight, before)
    assert layer.weight.data_ptr() == storage


def test_a_shared_weight_changes_wherever_it_is_used() -> None:
    module = Shared()
    with swapped_weights(module, {"body.0.weight": torch.eye(5)}):
        assert torch.equal(module.body[2].weight, torch.eye(5))
    assert not torch.equal(module.body[2].weight, torch.eye(5))


def test_weights_return_after_an_exception_and_after_being_written_to() -> None:
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    with contextlib.suppress(RuntimeError), swapped_weights(layer, {"weight": torch.ones(3, 3)}):
        layer.weight.data.mul_(2)
        raise RuntimeError
    assert torch.equal(layer.weight, before)


def test_equal_values_give_equal_bits_whatever_the_memory_format() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last)
    images = torch.randn(4, 8, 9, 9)
    expected = layer(images)
    with swapped_weights(
        layer, {"weight": layer.weight.detach().clone(memory_format=torch.contiguous_format)}
    ):
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(layer(images), expected)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("wieght", torch.ones(3, 3), "no parameter 'wieght'; it has weight, bias"),
        ("bias", torch.ones(2), r"'bias' has shape \(3,\), not \(2,\)"),
    ],
)
def test_what_does_not_fit_changes_nothing(name: str, tensor: torch.Tensor, message: str) -> None:
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone()
    swap = swapped_weights(layer, {"weight": torch.zeros(3, 3), name: tensor})
    with pytest.raises(InputError, match=message):
        swap.__enter__()
    assert torch.equal(layer.weight, before)


CONVOLUTIONS = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(0, 3), dilation=(1, 2), groups=2),
    nn.Conv2d(4, 4, 3, groups=4, padding="same", dilation=2),
    nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"),
    nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"),
    nn.Conv2d(2, 3, 5, padding="valid"),
    nn.Conv1d(4, 6, 3, stride=3, padding=1, groups=2),
    nn.Conv3d(2, 4, (1, 2, 3), padding=1, stride=(2, 1, 1)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("layer", [*CONVOLUTIONS, nn.Conv2d(2, 2, (2, 4), padding="same")], ids=repr)
def test_a_convolution_is_its_weight_times_the_unfolded_input(layer: nn.Module) -> None:
    axes = layer.weight.dim() - 2
    x = torch.randn(2, layer.in_channels, *(6, 7, 8)[-axes:], generator=torch.Generator().manual_seed(0))
    rows = unfolded(layer, x.to(memory_format=torch.channels_last) if axes == 2 else x)
    weight = layer.weight.detach().reshape(layer.groups, -1, rows.shape[-1])
    found = (weight @ rows.mT).reshape(layer.out_channels, -1)
    with torch.no_grad():
        expected = layer(x) - layer.bias.view(-1, *[1] * axes)
    torch.testing.assert_close(found, expected.movedim(1, 0).flatten(1), rtol=1e-4, atol=1e-5)


def test_a_linear_layer_multiplies_every_vector_of_the_last_axis() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(unfolded(nn.Linear(4, 2), x), x.reshape(1, 6, 4))
