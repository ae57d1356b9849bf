"""The inputs of a network's layers, quantized while the network is evaluated: codebooks, rates, facts."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..activation_codes import activation_names, coded_activations, observe
from ..components import Parameters, Quantizer
from ..message import Message
from ..observers import PERCENTILE, Observer
from ..sample_codes import ActivationCode
from ..schema import Fact, Measurement
from .weights import total


class InputParameters(Parameters):
    """The budget: where the codebooks of activations come from."""

    mode: Literal["static", "dynamic"] = Field(
        "static",
        description="codebooks of activations from calibration examples, or one for each sample; scales by group are "
        "each sample's own in either",
    )
    observer: Observer = Field("mse", description="where calibration clips activations, for mode=static")
    percentile: float = Field(
        PERCENTILE, gt=50, le=100, description="percent of magnitudes inside, for observer=percentile"
    )


@final
@dataclass(frozen=True)
class QuantizedInputs:
    """How the inputs of layers are coded.

    ``codebooks`` are static ones by layer and ``seconds`` what it took to fit them, None where each sample has its own.
    """

    quantizer: Quantizer
    parameters: InputParameters
    names: list[str]
    codebooks: dict[str, Message] | None
    seed: int
    seconds: float | None

    @classmethod
    def calibrated(
        cls,
        quantizer: Quantizer,
        module: nn.Module,
        images: Tensor,
        parameters: InputParameters,
        first_last: Literal["quantize", "keep"],
        seed: int,
    ) -> "QuantizedInputs":
        """Static codebooks from the inputs that ``images`` cause in ``module``, its weights being what they will be."""
        started = _clock(images)
        names = activation_names(module, images, first_last)
        observer, percent = parameters.observer, parameters.percentile
        static = parameters.mode == "static"
        codebooks = (
            observe(module, images, quantizer, names, observer, seed=seed, percent=percent)
            if static
            else None
        )
        return cls(
            quantizer, parameters, names, codebooks, seed, _clock(images) - started if static else None
        )

    def facts(self) -> dict[str, Fact]:
        """What of the budget took part."""
        if self.codebooks is None:
            return {"mode": "dynamic"}
        observer = self.parameters.observer
        percentile = {"percentile": self.parameters.percentile} if observer == "percentile" else {}
        return {"mode": "static", "observer": observer, **percentile}


@contextmanager
def computing(inputs: QuantizedInputs | None, module: nn.Module) -> Iterator[dict[str, ActivationCode]]:
    """Within the block the network computes with quantized inputs; their bits are counted anew."""
    if inputs is None:
        yield {}
        return
    with coded_activations(
        module, inputs.quantizer, inputs.names, inputs.codebooks, seed=inputs.seed
    ) as codes:
        yield codes


def _clock(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


def rates_of(codes: Mapping[str, ActivationCode]) -> dict[str, Measurement]:
    """Bits per element of all inputs, and how well the first samples came back."""
    found = list(codes.values())
    elements = sum(code.elements for code in found)
    entropy_bits = math.fsum(code.elements * code.entropy_rate for code in found)
    whole = total([code.distortion for code in found])
    sqnr = whole.sqnr_db if math.isfinite(whole.sqnr_db) else None
    return {
        "rate": Measurement(
            value=8 * sum(code.nbytes for code in found) / elements, unit="bit/element", n=len(found)
        ),
        "entropy_rate": Measurement(value=entropy_bits / elements, unit="bit/element", n=len(found)),
        "sqnr_db": Measurement(value=sqnr, unit="dB", n=len(found)),
        "cosine": Measurement(value=whole.cosine, unit="1", n=len(found)),
    }


def static_nbytes(codes: Mapping[str, ActivationCode]) -> int:
    """Bytes of codebooks that the model stores."""
    return sum(code.codebook_nbytes for code in codes.values())


def coding_facts(codes: Mapping[str, ActivationCode]) -> dict[str, Fact]:
    """How many layers' inputs were quantized, whether whole batches could be coded at once, and where scales are.

    A quantizer may decide scales while it encodes, as those by group do: they come with each sample, whatever ``mode``
    says, and no observer clips what they are found on.
    """
    return {
        "activations": len(codes),
        "coding": _coding([code.batched for code in codes.values()]),
        "scales": "with each sample" if any(code.scaled for code in codes.values()) else "stored",
    }


def _coding(batched: Sequence[bool]) -> str:
    if all(batched):
        return "batched"
    return f"batched in {sum(batched)} of {len(batched)} layers" if any(batched) else "by sample"
