"""What a network loses when one of its layers is quantized and all others are not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..calibration import Calibration
from ..classifier import evaluate
from ..components import Quantizer
from ..layers import Weight, swapped_weights
from ..measuring import Distortion
from ..metrics import kl
from ..workbench import Workbench
from .weights import CodedWeight, code_weights


@dataclass(frozen=True)
class Trial:
    """A layer coded alone: its bytes, its distortion, and the KL divergence to the float network's softmax.

    ``kl`` is in nats, a mean over calibration examples; infinite where logits overflow.
    """

    nbytes: int
    distortion: Distortion
    kl: float


def sensitivities(
    network: nn.Module,
    weights: Sequence[Weight],
    quantizers: Sequence[Quantizer],
    inputs: Tensor,
    seed: int,
    bench: Workbench,
    calibration: Calibration | None,
) -> list[list[Trial]]:
    """Of each weight, by each quantizer, on calibration inputs: none of them is a test input.

    Every other layer is as it was, for the encoder that looks at calibration inputs as well.

    Reference: Nagel et al. 2021, "A white paper on neural network quantization", section 3.
    """
    exact = evaluate(network, inputs)
    table: list[list[Trial]] = []
    for at, weight in enumerate(weights, 1):
        bench.note(f"sensitivity of layer {at} of {len(weights)}")
        row = []
        for quantizer in quantizers:
            (found,) = code_each({weight.name: quantizer}, [weight], seed, bench, calibration)
            with swapped_weights(network, {weight.name: found.decoded}):
                lost = kl(exact, evaluate(network, inputs))
            row.append(Trial(found.coded.nbytes, found.distortion, lost if math.isfinite(lost) else math.inf))
        table.append(row)
    return table


def code_each(
    quantizers: Mapping[str, Quantizer],
    weights: Sequence[Weight],
    seed: int,
    bench: Workbench,
    calibration: Calibration | None,
) -> list[CodedWeight]:
    """Each weight by the quantizer of its name, as :func:`code_weights` does; the calibration forgets it all."""
    found = [
        part
        for weight in weights
        for part in code_weights(quantizers[weight.name], [weight], seed, bench, calibration)
    ]
    if calibration is not None:
        for weight in weights:
            calibration.replace(weight.name, weight.parameter.detach())
    return found
