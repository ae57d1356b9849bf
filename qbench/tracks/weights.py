"""The weights of a trained model, coded one by one and decoded elsewhere."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..calibration import Calibration, Given
from ..codec import from_payload
from ..components import Quantizer
from ..layers import Weight
from ..measuring import Coded, Distortion, code
from ..message import Message, entropy_bits, is_coded
from ..schema import derived_seed
from ..workbench import Workbench

_NOTHING = Given()


@dataclass(frozen=True)
class CodedWeight:
    """A weight, its bytes, what decodes from them, and the seconds that fitting, encoding and packing took."""

    weight: Weight
    coded: Coded
    decoded: Tensor
    seconds: float

    @property
    def distortion(self) -> Distortion:
        return Distortion.between(self.weight.parameter, self.decoded)


def code_weights(
    quantizer: Quantizer,
    weights: Sequence[Weight],
    seed: int,
    bench: Workbench,
    calibration: Calibration | None = None,
    codebooks: Mapping[str, Message] | None = None,
) -> list[CodedWeight]:
    """Each weight with a codebook of its own, which counts in full; random draws depend on seed and name alone.

    ``codebooks``: those that were learned with the weights, by name; every other one is fitted.

    With a calibration the weights come in forward order, those that the pictures reach; each is coded in the
    context of a network that holds the earlier ones as decoded here. What is scored is decoded elsewhere, at the end.
    """
    chosen = weights if calibration is None else calibration.reachable(weights)
    timed = []
    for weight in chosen:
        coded, seconds = _timed(
            quantizer,
            weight,
            seed,
            _NOTHING if calibration is None else calibration.of(weight),
            (codebooks or {}).get(weight.name),
        )
        timed.append((coded, seconds))
        if calibration is not None and calibration.sequential:
            calibration.replace(weight.name, from_payload(coded.payload, bench.quantizer))
    decoded = bench.decode([coded.payload for coded, _ in timed])
    return [CodedWeight(w, coded, x, t) for w, (coded, t), x in zip(chosen, timed, decoded, strict=True)]


def _timed(
    quantizer: Quantizer, weight: Weight, seed: int, given: Given, codebook: Message | None
) -> tuple[Coded, float]:
    x = weight.parameter.detach()
    generator = torch.Generator(x.device).manual_seed(derived_seed(seed, weight.name))
    started = time.perf_counter()
    coded = code(
        quantizer,
        x,
        generator=generator,
        codebook=codebook,
        importance=given.importance,
        gram=given.gram,
        loss=given.loss,
    )
    if codebook is not None:
        coded = _charged(coded, codebook)
    return coded, time.perf_counter() - started


def _charged(coded: Coded, codebook: Message) -> Coded:
    """A codebook that belongs to one weight counts with its codes."""
    return replace(
        coded,
        nbytes=coded.nbytes + coded.static_nbytes,
        static_nbytes=0,
        entropy_bits=coded.entropy_bits + entropy_bits(codebook),
        coded=coded.coded or is_coded(codebook),
    )


def total(parts: Sequence[Distortion]) -> Distortion:
    """The distortion of several tensors taken as one."""
    return sum(parts[1:], parts[0])


def rate_class(coded: Sequence[Coded]) -> str:
    """``coded`` where any stream is entropy-coded, else ``fixed``; the two are ranked apart."""
    return "coded" if any(c.coded for c in coded) else "fixed"
