"""Training examples that calibrate a quantized network, and what a result says of them."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..calibration import Calibration
from ..components import Examples, Quantizer
from ..layers import Weight
from ..schema import Fact, Measurement, derived_seed


def calibration_pictures(data: Examples, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random training examples and their labels, at most ``count``; the same ones on every device."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "calibration"))
    rows = torch.randperm(len(data.train_labels), generator=generator)[:count].to(data.train_labels.device)
    return data.train_inputs[rows], data.train_labels[rows]


def calibration_of(
    quantizer: Quantizer, network: nn.Module, inputs: Tensor, labels: Tensor
) -> Calibration | None:
    """What the quantizer, or one inside it, needs of the network; None where that is nothing."""
    needs = frozenset[str]().union(*(part.needs for part in quantizer.parts()))
    return Calibration(network, inputs, labels, needs) if needs else None


def calibration_facts(
    calibration: Calibration | None, weights: Sequence[Weight], done: Sequence[Weight]
) -> dict[str, Fact]:
    """What was calibrated, and those of ``weights`` that stay in float32 for want of it."""
    names = {weight.name for weight in done}
    left = [weight.name for weight in weights if weight.name not in names]
    return {
        "calibration": " ".join(sorted(calibration.needs)) if calibration else "none",
        **({"uncalibrated": " ".join(left)} if left else {}),
    }


def calibration_seconds(*seconds: float | None) -> dict[str, Measurement]:
    """The time that calibration took in all; nothing where there was none (None)."""
    taken = [part for part in seconds if part is not None]
    if not taken:
        return {}
    return {"calibration_seconds": Measurement(value=sum(taken), unit="s", timing=True)}


def example_facts(inputs: Tensor) -> dict[str, Fact]:
    """How many training examples were looked at, and which."""
    content = inputs.cpu().contiguous().numpy().tobytes()
    return {"calibration_pictures": len(inputs), "calibration_id": hashlib.sha256(content).hexdigest()}
