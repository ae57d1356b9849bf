"""Bits that are multiplied, stored and moved, of a network of two layers, by hand."""

import pytest
import torch
from torch import nn

from qbench.activation_codes import activation_names, coded_activations, observe
from qbench.classifier import classifier, evaluate
from qbench.components import Quantizer
from qbench.layers import weight_tensors
from qbench.measuring import code
from qbench.models.mlp import Mlp
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.product_vq import ProductVQ
from qbench.quantizers.uniform import Uniform
from qbench.tracks.efficiency import efficiency
from qbench.tracks.weights import CodedWeight

PICTURES = torch.randint(0, 256, (70, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
FIRST, SECOND = 64 * 32, 32 * 10
W8, A8 = Uniform(bits=8, granularity="channel"), Uniform(bits=8, granularity="tensor", scheme="asymmetric")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return classifier(Mlp(width=32, depth=1), (1, 8, 8), 10, PICTURES).eval()


def coded(network: nn.Module, quantizer: Quantizer) -> list[CodedWeight]:
    found = []
    for weight in weight_tensors(network):
        generator = torch.Generator().manual_seed(0)
        x = weight.parameter.detach()
        found.append(CodedWeight(weight, code(quantizer, x, generator=generator), x, 0.0))
    return found


def costs(
    network: nn.Module, weights: list[CodedWeight], inputs: Quantizer | None = None, static: bool = True
) -> dict[str, float]:
    codes = {}
    if inputs is not None:
        names = activation_names(network, PICTURES)
        books = observe(network, PICTURES, inputs, names, "min-max", seed=0) if static else None
        with coded_activations(network, inputs, names, books, seed=0) as codes:
            evaluate(network, PICTURES)
    found = efficiency(network, network, PICTURES, weights, codes)
    return {name: float(measured.value or 0) for name, measured in found.items()}


def test_eight_bits_of_everything_are_eight_effective_bits(network: nn.Module) -> None:
    """Scales of channels and counts of messages are bytes, not factors: 8 x 8 bits a multiplication, 0.2 + 0.1 pJ.

    Weights come from DRAM with their scales, 20 pJ a bit; the picture has 8 bits, the other layer's input its rate, a
    count byte for 32 codes and a schema once.
    """
    weights = coded(network, W8)
    found = costs(network, weights, A8)
    assert found["effective_bits"] == 8
    assert found["bops"] == (FIRST + SECOND) * 64
    assert found["float_bops"] == (FIRST + SECOND) * 1024
    stored = 8 * sum(weight.coded.nbytes for weight in weights)
    rate = 8 * (33 + 9 / 70) / 32
    moved = (64 + 32) * 8 + (32 + 10) * rate
    joule = (FIRST + SECOND) * 0.3 + stored * 20 + moved * 5 / 32
    assert stored > 8 * (FIRST + SECOND)
    assert found["energy"] == pytest.approx(1e-12 * joule, rel=1e-9)


def test_an_entropy_coder_saves_memory_and_no_multiplication(network: nn.Module) -> None:
    inner = Uniform(bits=8, granularity="tensor")
    plain, squeezed = coded(network, inner), coded(network, EntropyCoded(inner=inner))
    assert sum(w.coded.nbytes for w in squeezed) < sum(w.coded.nbytes for w in plain)
    before, after = costs(network, plain, A8), costs(network, squeezed, A8)
    assert before["bops"] == after["bops"]
    saved = 8 * (sum(w.coded.nbytes for w in plain) - sum(w.coded.nbytes for w in squeezed))
    assert before["energy"] - after["energy"] == pytest.approx(saved * 20e-12)


def test_entropy_coded_inputs_are_multiplied_in_full(network: nn.Module) -> None:
    weights, squeezed = coded(network, W8), EntropyCoded(inner=A8)
    assert costs(network, weights, squeezed)["bops"] == costs(network, weights, A8)["bops"]


def test_scales_of_samples_are_moved_and_not_multiplied(network: nn.Module) -> None:
    weights = coded(network, W8)
    static, dynamic = (costs(network, weights, A8, static) for static in (True, False))
    assert dynamic["bops"] == static["bops"]
    assert dynamic["energy"] > static["energy"]


def test_codes_of_vectors_have_their_share_of_an_index(network: nn.Module) -> None:
    """An index of 6 bits for 4 weights; the codebook is stored. Inputs are float."""
    found = costs(network, coded(network, ProductVQ(bits=6, dimension=4)))
    assert found["bops"] == (FIRST + SECOND) * 1.5 * 32
