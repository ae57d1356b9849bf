"""What a quantized network costs beside the float one: bit operations, energy, effective bits."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from torch import Tensor, nn

from ..codec import Header
from ..costs import FLOAT_BITS, bops, energy, layer_costs
from ..message import unpack
from ..sample_codes import ActivationCode, code_bits
from ..schema import Fact, Measurement
from .weights import CodedWeight

_PICTURE_BITS = 8.0
EFFICIENCY_FACTS: Final[Mapping[str, Fact]] = {"energy": "estimated"}


def efficiency(
    original: nn.Module,
    module: nn.Module,
    inputs: Tensor,
    weights: Sequence[CodedWeight],
    codes: Mapping[str, ActivationCode],
) -> dict[str, Measurement]:
    """Counted for one example by :mod:`qbench.costs`, what is not quantized in float32.

    What is multiplied has the bits of its codes, whole ones, whatever values they stand for: an entropy coder or a
    codebook saves memory and no arithmetic. What is moved has the bits of its rate, scales and codebooks included.
    Where the inputs of layers are quantized the first one's picture has 8 bits.

    - ``bops``, ``float_bops``: bit operations of ``module`` and of ``original``, all in float32.
    - ``effective_bits`` = sqrt(bops / multiplications): the bits of a network with weights and activations of equal
      width in all layers that takes as many bit operations; 32 for float.
    - ``energy``, ``float_energy``: estimates in joule. What a simulation spends is no measurement of it: track
      ``float`` has the joules of the float network.

    Args:
        inputs: as the networks take them; the first is counted.
        weights: those that are quantized. codes: of the inputs of layers, by the names of their weights.
    """
    costs, float_costs = layer_costs(module, inputs), layer_costs(original, inputs)
    picture = {next(iter(costs)): _PICTURE_BITS} if codes and inputs.dim() == 4 else {}
    weight_bits = {q.weight.name: _multiplied(q) for q in weights}
    stored_bits = {q.weight.name: 8 * q.coded.nbytes / q.weight.parameter.numel() for q in weights}
    activation_bits = picture | {name: min(FLOAT_BITS, code.code_bits) for name, code in codes.items()}
    moved_bits = picture | {name: code.rate for name, code in codes.items()}
    operations = bops(costs, weight_bits, activation_bits)
    macs = sum(cost.macs for cost in costs.values())
    joule = energy(costs, weight_bits, activation_bits, stored_bits, moved_bits)
    return {
        "bops": Measurement(value=operations, unit="bit operations"),
        "float_bops": Measurement(value=bops(float_costs, {}, {}), unit="bit operations"),
        "effective_bits": Measurement(value=math.sqrt(operations / macs), unit="bit"),
        "energy": Measurement(value=joule.total, unit="J"),
        "float_energy": Measurement(value=energy(float_costs, {}, {}).total, unit="J"),
    }


def _multiplied(weight: CodedWeight) -> float:
    """Bits of an element's codes, at most those of a float; its rate where all is in the codebook."""
    payload = memoryview(weight.coded.payload)
    _, at = Header.read(weight.coded.payload)
    _, used = unpack(payload[at:])
    codes, _ = unpack(payload[at + used :])
    return min(FLOAT_BITS, (code_bits(codes) or 8 * weight.coded.nbytes) / weight.weight.parameter.numel())
