import pytest
import torch
from torch import nn

from qbench.classifier import classifier
from qbench.components import Model
from qbench.costs import LayerCost, bops, energy, flops, layer_costs, training_flops
from qbench.models.attention import Attention
from qbench.models.cnn import Cnn
from qbench.models.gpt import Gpt
from qbench.models.mlp import Mlp
from qbench.models.resnet18 import ResNet18
from qbench.models.vit import Vit

PICTURES = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)


def network(model: Model) -> nn.Module:
    return classifier(model, (1, 8, 8), 10)


def macs(costs: dict[str, LayerCost]) -> int:
    return sum(cost.macs for cost in costs.values())


def test_a_linear_layer_costs_its_weight() -> None:
    costs = layer_costs(network(Mlp(width=32, depth=1)), PICTURES)
    assert costs == {
        "network.1.weight": LayerCost("weight x activation", 64 * 32, 64 * 32, 64, 32),
        "network.3.weight": LayerCost("weight x activation", 320, 320, 32, 10),
    }


def test_a_convolution_costs_its_kernel_at_every_place() -> None:
    """Of 8 x 8 places with stride 2 and padding there are 4 x 4; a group of two sees 3 of 6 channels."""
    layer = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2)
    cost = layer_costs(layer, torch.zeros(5, 6, 8, 8))["weight"]
    assert cost == LayerCost("weight x activation", 4 * 16 * 3 * 9, 4 * 3 * 9, 6 * 64, 4 * 16)


def test_linear_layers_work_at_every_position_and_a_shared_weight_adds_up() -> None:
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    second.weight = first.weight
    costs = layer_costs(nn.Sequential(first, second, first), torch.zeros(2, 7, 5))
    assert costs == {"0.weight": LayerCost("weight x activation", 3 * 7 * 25, 25, 3 * 35, 3 * 35)}


def test_attention_multiplies_activations() -> None:
    """Q K^T and P V, 2 T^2 w; read are Q, K, V and the h T^2 probabilities, written the scores and the mixture.

    Pictures of 8 x 8 are T = 16 patches and a class token.
    """
    costs = layer_costs(network(Vit(width=12, depth=2, heads=3)), PICTURES)
    products = [cost for cost in costs.values() if cost.operands == "activation x activation"]
    tokens, width = 17, 12
    scores = 3 * tokens**2
    one = (2 * tokens**2 * width, 0, 3 * tokens * width + scores, scores + tokens * width)
    assert products == 2 * [LayerCost("activation x activation", *one)]
    named = [name for name in costs if name.endswith("self_attention")]
    assert named == [f"network.encoder.layers.encoder_layer_{block}.self_attention" for block in range(2)]


class Crossed(nn.Module):
    """Queries of one kind, keys and values of another, handed over by name."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(4, heads=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed, _ = self.attention(query=x[:, :3], key=x, value=x)
        return mixed


def test_attention_to_other_tokens() -> None:
    """3 queries, 5 keys, width 4, 2 heads."""
    cost = layer_costs(Crossed(), torch.zeros(1, 5, 4))["attention"]
    assert cost == LayerCost("activation x activation", 2 * 3 * 5 * 4, 0, 12 + 40 + 30, 30 + 12)


@pytest.mark.parametrize("model", [Mlp(), Cnn(width=4), ResNet18(width=8), Vit(width=24, depth=2)], ids=str)
def test_torch_counts_the_same(model: Model) -> None:
    """Two operations a multiplication; what attention multiplies is the difference to the layers with weights."""
    module = network(model)
    costs = layer_costs(module, PICTURES)
    assert 2 * macs(costs) == flops(module, PICTURES)
    weighted = sum(cost.macs for cost in costs.values() if cost.weight_elements)
    assert (weighted < macs(costs)) == isinstance(model, Vit)


def test_an_example_of_text_is_all_its_characters() -> None:
    """7 characters: a block has 12 w^2 weights, products are of the whole square, 2 * 7^2 w; and the head."""
    module, text = classifier(Gpt(width=8, depth=2, heads=2), (7,), 30), torch.zeros(3, 7, dtype=torch.uint8)
    costs = layer_costs(module, text)
    assert macs(costs) == 2 * (7 * 12 * 64 + 2 * 49 * 8) + 7 * 8 * 30
    assert 2 * macs(costs) == flops(module, text)


@pytest.mark.parametrize("model", [Mlp(depth=2), Cnn(width=4)], ids=str)
def test_training_costs_three_times_as_much_but_for_the_first_layer(model: Model) -> None:
    """Forward, gradients of weights, gradients of inputs; nobody needs the picture's."""
    module = network(model)
    costs = layer_costs(module, PICTURES)
    first = next(iter(costs.values())).macs
    assert training_flops(module, PICTURES) == 6 * macs(costs) - 2 * first


def test_counting_changes_nothing() -> None:
    module = network(Cnn(width=4)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    layer_costs(module, PICTURES)
    flops(module, PICTURES)
    training_flops(module, PICTURES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(part.training and not part._forward_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


COSTS = {
    "a": LayerCost("weight x activation", 1000, 500, 100, 50),
    "b": LayerCost("activation x activation", 10, 0, 20, 30),
}


def test_bit_operations() -> None:
    """32 bits where none are given; activations have the same bits on both sides."""
    assert bops(COSTS, {}, {}) == 1010 * 1024
    assert bops(COSTS, {"a": 4}, {}) == 1000 * 4 * 32 + 10 * 1024
    assert bops(COSTS, {"a": 2.5, "b": 1}, {"a": 8, "b": 3}) == 1000 * 20 + 10 * 9


def test_energy_of_floats() -> None:
    """Horowitz's table: 4.6 pJ a multiplication with addition, 640 pJ and 5 pJ for 32 bits of memory; in half 1.5."""
    found = energy(COSTS, {}, {})
    assert found.arithmetic == pytest.approx(1010 * 4.6e-12)
    assert found.weights == pytest.approx(500 * 640e-12)
    assert found.activations == pytest.approx(200 * 5e-12)
    assert found.total == pytest.approx(found.arithmetic + found.weights + found.activations)
    half = energy(COSTS, {}, {}, float_bits=16)
    assert half.arithmetic == pytest.approx(1010 * 1.5e-12)
    assert (2 * half.weights, 2 * half.activations) == pytest.approx((found.weights, found.activations))


@pytest.mark.parametrize(
    ("weight", "activation", "multiply"),
    [(8, 8, 0.2), (4, 4, 0.05), (1, 8, 0.025), (32, 32, 3.1), (16, 16, 0.2 + 2.9 * (256 - 64) / (1024 - 64))],
)
def test_energy_of_integers(weight: float, activation: float, multiply: float) -> None:
    """The table at 8 and 32 bits, linear in the product of bits elsewhere; additions are int32's, 0.1 pJ."""
    costs = {"a": COSTS["a"]}
    found = energy(costs, {"a": weight}, {"a": activation})
    assert found.arithmetic == pytest.approx(1000 * (multiply + 0.1) * 1e-12)
    assert found.weights == pytest.approx(500 * 20e-12 * weight)
    assert found.activations == pytest.approx(150 * 5e-12 * activation / 32)


def test_weights_alone_save_memory_but_no_arithmetic() -> None:
    """What meets a float is a float; scales and codebooks count where the weight is stored."""
    whole, found = energy(COSTS, {}, {}), energy(COSTS, {"a": 4}, {}, stored_bits={"a": 4.5})
    assert found.arithmetic == whole.arithmetic
    assert found.activations == whole.activations
    assert found.weights == pytest.approx(whole.weights * 4.5 / 32)


def test_products_of_quantized_activations_are_integers() -> None:
    found = energy({"b": COSTS["b"]}, {}, {"b": 8})
    assert found.arithmetic == pytest.approx(10 * 0.3e-12)
    assert found.weights == 0
