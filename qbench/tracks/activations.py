"""The activations of a trained model, coded picture by picture with a codebook learned on other pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..components import Quantizer
from ..measuring import Coded, Distortion, code, fit
from ..sample_codes import alone, together
from ..schema import derived_seed
from ..workbench import Workbench


@dataclass(frozen=True)
class CodedActivation:
    """The inputs of one layer: [n, ...], a message for each picture, and what decodes from them."""

    name: str
    inputs: Tensor
    coded: list[Coded]
    decoded: Tensor

    @property
    def distortion(self) -> Distortion:
        return Distortion.between(self.inputs, self.decoded)


def code_activations(
    quantizer: Quantizer,
    calibration: Mapping[str, Tensor],
    scored: Mapping[str, Tensor],
    fit_elements: int,
    seed: int,
    bench: Workbench,
) -> list[CodedActivation]:
    """Every layer with a static codebook from the calibration pictures; every scored picture is a message of its own.

    The channels of a picture [channels, height, width] are its first axis; features without position are one channel.

    Args:
        calibration: inputs by layer, [n, ...]; the codebook is learned from about ``fit_elements`` of them.
        scored: inputs by layer of other pictures.
    """
    found = []
    for name, inputs in scored.items():
        generator = torch.Generator(inputs.device).manual_seed(derived_seed(seed, name))
        pictures = max(1, fit_elements // inputs[0].numel())
        codebook = fit(quantizer, together(calibration[name][:pictures]), generator=generator)
        coded = [code(quantizer, alone(x), generator=generator, codebook=codebook) for x in inputs]
        found.append((name, inputs, coded))
    decoded = iter(bench.decode([one.payload for _, _, coded in found for one in coded]))
    return [
        CodedActivation(name, x, coded, torch.stack([next(decoded).reshape(x.shape[1:]) for _ in coded]))
        for name, x, coded in found
    ]
