"""How good a quantized network is beside the float one, how well its weights came back, and what it takes to store."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from ..metrics import accuracy, bits_per_character, flips, kl, mcnemar
from ..schema import Measurement
from .weights import CodedWeight, total


def quality(float_logits: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Measurement]:
    """Of a quantized network beside the float one; logits [n, classes], labels of pictures [n], of text [n, length].

    For text also in bits per character, ``bits_per_character`` and ``baseline_bits_per_character``.
    """
    of_text, labels = labels.dim() > 1, labels.flatten()
    count = len(labels)
    before, after = 100 * accuracy(float_logits, labels), 100 * accuracy(logits, labels)
    test = mcnemar(float_logits, logits, labels)
    unit = "characters" if of_text else "pictures"
    found = {
        "baseline_accuracy": Measurement(value=before, unit="%", n=count),
        "accuracy": Measurement(value=after, unit="%", n=count),
        "accuracy_drop": Measurement(value=before - after, unit="%", n=count),
        "flips": Measurement(value=100 * flips(float_logits, logits), unit="%", n=count),
        "kl": Measurement(value=_finite(kl(float_logits, logits)), unit="nat", n=count),
        "lost": Measurement(value=test.only_first, unit=unit, n=count),
        "gained": Measurement(value=test.only_second, unit=unit, n=count),
    }
    if of_text:
        for name, scores in {"baseline_": float_logits, "": logits}.items():
            bits = _finite(bits_per_character(scores, labels))
            found[f"{name}bits_per_character"] = Measurement(value=bits, unit="bit/character", n=count)
    return found


def _nbytes(module: nn.Module) -> int:
    """Bytes of everything a copy of the model needs: parameters and buffers, shared ones once."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def size_of(
    original: nn.Module, module: nn.Module, quantized: Sequence[CodedWeight], further_bytes: int = 0
) -> dict[str, Measurement]:
    """Rates and bytes; the rate of weights of which none is quantized is 32.

    ``original``: the untouched float model; ``module``: what is stored, its quantized weights in float;
    ``further_bytes``: of what is stored beside it.
    """
    replaced = sum(q.weight.parameter.nbytes for q in quantized)
    code_bytes = sum(q.coded.nbytes for q in quantized)
    elements = sum(q.weight.parameter.numel() for q in quantized)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    stored_bytes = _nbytes(module) - replaced + code_bytes + further_bytes
    entropy_bits = sum(q.coded.entropy_bits for q in quantized)
    seconds = [q.seconds for q in quantized]
    n = max(1, len(quantized))
    rates = (8 * code_bytes / elements, entropy_bits / elements) if quantized else (32.0, 32.0)
    return {
        "rate": Measurement(value=rates[0], unit="bit/element", n=n),
        "entropy_rate": Measurement(value=rates[1], unit="bit/element", n=n),
        "model_rate": Measurement(value=8 * stored_bytes / parameters, unit="bit/element"),
        "stored_bytes": Measurement(value=stored_bytes, unit="B"),
        "float_bytes": Measurement(value=_nbytes(original), unit="B"),
        "coverage": Measurement(value=elements / parameters, unit="1"),
        "quantize_seconds": Measurement(value=math.fsum(seconds), unit="s", n=n, timing=True),
    }


def distortion_of(quantized: Sequence[CodedWeight]) -> dict[str, Measurement]:
    found = total([q.distortion for q in quantized])
    return {
        "sqnr_db": Measurement(value=_finite(found.sqnr_db), unit="dB", n=len(quantized)),
        "cosine": Measurement(value=found.cosine, unit="1", n=len(quantized)),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
