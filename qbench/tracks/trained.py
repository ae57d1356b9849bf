"""The tensors of a trained model as a source: weights, activations, gradients."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import capture
from ..baselines import Baseline
from ..components import Quantizer
from ..errors import InputError
from ..layers import Weight, weight_tensors
from ..measuring import Coded, Distortion, stream_nbytes
from ..schema import Fact, Measurement, Outcome, derived_seed
from ..workbench import Workbench
from .activations import code_activations
from .fidelity import correlation, layer_products
from .weights import code_weights, rate_class, total

_CALIBRATION_PICTURES = 256


def weights(quantizer: Quantizer, baseline: Baseline, pictures: int, seed: int, bench: Workbench) -> Outcome:
    """Every weight tensor with a codebook of its own; dot products with the inputs that test pictures cause."""
    found = code_weights(quantizer, weight_tensors(baseline.module), seed, bench)
    inputs = capture.activations(baseline.module, baseline.data.test_inputs[:pictures])
    dots = []
    for part in found:
        name = part.weight.name
        if name in inputs:
            layer = _layer(baseline.module, name)
            exact = layer_products(layer, part.weight.parameter, inputs[name])
            dots.append(correlation(exact, layer_products(layer, part.decoded, inputs[name])))
    return _outcome([part.distortion for part in found], [[part.coded] for part in found], dots)


def activations(
    quantizer: Quantizer, baseline: Baseline, pictures: int, fit_elements: int, seed: int, bench: Workbench
) -> Outcome:
    """The inputs of every layer but the first, each test picture a message, with static codebooks.

    Raises:
        InputError: the network has one layer only.
    """
    data = baseline.data
    order = _permutation(len(data.train_inputs), "calibration", seed)[:_CALIBRATION_PICTURES]
    calibration = capture.activations(baseline.module, data.train_inputs[order])
    scored = capture.activations(baseline.module, data.test_inputs[:pictures])
    hidden = dict(list(scored.items())[1:])
    if not hidden:
        raise InputError("a network of one layer has no activations to code; name a deeper model")
    found = code_activations(quantizer, calibration, hidden, fit_elements, seed, bench)
    dots = []
    for part in found:
        layer, weight = _layer(baseline.module, part.name), baseline.module.get_parameter(part.name)
        dots.append(correlation(*(layer_products(layer, weight, x) for x in (part.inputs, part.decoded))))
    return _outcome([part.distortion for part in found], [part.coded for part in found], dots)


def gradients(
    quantizer: Quantizer, baseline: Baseline, batches: int, batch_size: int, seed: int, bench: Workbench
) -> Outcome:
    """Of minibatches at the trained weights: every weight's gradient is a message with its own codebook."""
    data = baseline.data
    order = _permutation(len(data.train_inputs), "gradients", seed)
    kinds = {weight.name: weight.kind for weight in weight_tensors(baseline.module)}
    found = []
    for number in range(batches):
        rows = order[number * batch_size : (number + 1) * batch_size]
        tensors = capture.gradients(baseline.module, data.train_inputs[rows], data.train_labels[rows])
        sent = [Weight(name, nn.Parameter(x), kinds[name]) for name, x in tensors.items()]
        found += code_weights(quantizer, sent, derived_seed(seed, number), bench)
    return _outcome([part.distortion for part in found], [[part.coded] for part in found], [])


def quality(whole: Distortion, n: int) -> dict[str, Measurement]:
    """Relative mean squared error, SQNR and cosine of ``n`` samples taken as one."""
    sqnr = whole.sqnr_db if math.isfinite(whole.sqnr_db) else None
    relative = whole.error / whole.energy if whole.energy else None
    return {
        "relative_mse": Measurement(value=relative, unit="1", n=n),
        "sqnr_db": Measurement(value=sqnr, unit="dB", n=n),
        "cosine": Measurement(value=whole.cosine, unit="1", n=n),
    }


def throughput(elements: int, messages: Sequence[Coded]) -> Measurement:
    """Millions of elements a second that were encoded, without fitting and packing."""
    seconds = sum(one.encode_seconds for one in messages)
    return Measurement(value=elements / seconds / 1e6, unit="Melem/s", timing=True)


def _permutation(count: int, purpose: str, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(purpose, seed)))


def _layer(module: nn.Module, weight: str) -> nn.Module:
    return module.get_submodule(weight.rpartition(".")[0])


def _outcome(
    found: Sequence[Distortion], coded: Sequence[Sequence[Coded]], dots: Sequence[float | None]
) -> Outcome:
    """All tensors taken as one; ``coded`` holds the messages of each, ``dots`` a correlation of each."""
    messages, whole = [one for part in coded for one in part], total(found)
    size = sum(stream_nbytes(part) for part in coded)
    repeated = sum(one.nbytes for one in messages) - size
    entropy = sum(one.entropy_bits for one in messages) - 8 * repeated
    known = [dot for dot in dots if dot is not None]
    facts: dict[str, Fact] = {
        "rate_class": rate_class(messages),
        "execution": "simulated",
        "tensors": len(coded),
    }
    return Outcome(
        measurements={
            "rate": Measurement(value=8 * size / whole.count, unit="bit/element"),
            "entropy_rate": Measurement(value=entropy / whole.count, unit="bit/element"),
            "mse": Measurement(value=whole.mse, unit="mse"),
            "static_bytes": Measurement(value=sum(part[0].static_nbytes for part in coded), unit="B"),
            **quality(whole, len(coded)),
            **({"dot_correlation": Measurement.mean(known, "1")} if known else {}),
            "encode_throughput": throughput(whole.count, messages),
        },
        facts=facts,
    )
