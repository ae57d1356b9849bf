"""Post-training quantization: a trained model with quantized weights against the same model in float32."""

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from ..calibration import Calibration
from ..classifier import evaluate
from ..components import ImageData, Parameters, Quantizer, Track, Transform
from ..errors import InputError, SuiteError
from ..layers import Weight, weight_tensors
from ..metrics import accuracy, flips, kl, mcnemar
from ..schema import Cell, Fact, Measurement, Outcome, Recipe, Spec, derived_seed
from ..training import Training
from ..workbench import Workbench
from .transformed import stored, transformed
from .weights import CodedWeight, code_weights, rate_class, total


class PtqParameters(Parameters):
    """The budget: how the float model is trained and changed, which of its layers are quantized, with what data."""

    training: Training = Field(Training(), description="recipe of the float model")
    first_last: Literal["quantize", "keep"] = Field(
        "quantize", description="what happens to the first and last layer"
    )
    calibration: int = Field(256, ge=1, le=2**20, description="training pictures for what needs any")
    transforms: list[str] = Field([], description="specifications of transforms, in the order of their use")


@final
class Ptq(Track):
    """Weights only: each weight tensor is coded with its own codebook and decoded elsewhere.

    A quantizer that needs importance, gram or loss gets those of ``calibration`` training pictures, layer by layer
    in forward order (:mod:`qbench.calibration`); weights that these pictures do not reach stay in float32. Transforms
    change the network before or after its weights are quantized.

    ``rate`` = 8 bytes / elements over the quantized weights; ``model_rate`` counts all that must be stored,
    float32 leftovers included, per parameter; it and ``coverage`` are of the network as it is stored, transformed.
    ``accuracy_drop`` is in percentage points, ``kl`` goes from the untouched float model's softmax to the
    quantized one's. ``lost`` and ``gained`` are pictures that only the float or only the quantized model gets right.
    """

    name = "ptq"
    reference = "Nagel et al., A white paper on neural network quantization, 2021, section 3"
    version = 1
    targets = ("weight",)
    provides = frozenset({"importance", "gram", "loss"})
    Parameters = PtqParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        if cell.dataset is not None and cell.dataset.name == "digits":
            return 0.1
        return 0.5 if cell.model is not None and cell.model.name == "mlp" else 6.0

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is None:
            raise SuiteError("a cell of track 'ptq' lacks a quantizer; name one in its grid")
        recipe = self.baseline(cell)
        baseline = bench.baseline(recipe)
        float_logits, data = baseline.test_logits, baseline.images
        quantizer = bench.quantizer(cell.quantizer)
        transforms = [bench.build("transform", Spec.parse(text)) for text in self.parameters.transforms]
        bench.loaded()
        images, labels = calibration_pictures(data, self.parameters.calibration, cell.seed)
        network = transformed(baseline.module, transforms, images)
        chosen = chosen_weights(network, self.parameters.first_last)
        calibration = _calibration(quantizer, network, images, labels)
        quantized = code_weights(quantizer, chosen, cell.seed, bench, calibration)
        if not quantized:
            raise InputError(f"the calibration pictures reach none of {len(chosen)} weights of {cell.model}")
        with stored(network, quantized, transforms, images) as module:
            logits = evaluate(module, data.test_images)
            size = size_of(baseline.module, module, quantized)
        return Outcome(
            measurements={
                **quality(float_logits, logits, data.test_labels),
                **size,
                **distortion_of(quantized),
                **_calibration_seconds(calibration),
            },
            facts={
                **self._facts(quantized),
                **_calibration_facts(calibration, chosen, quantized),
                **_transform_facts(transforms),
                **_picture_facts(calibration, transforms, len(images)),
            },
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _facts(self, quantized: Sequence[CodedWeight]) -> dict[str, Fact]:
        return {
            "first_last": self.parameters.first_last,
            "execution": "simulated",
            "rate_class": rate_class([q.coded for q in quantized]),
            "selection": self.parameters.training.selection,
            "tensors": len(quantized),
        }


def calibration_pictures(data: ImageData, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random training pictures and their labels, at most ``count``; the same ones on every device."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "calibration"))
    rows = torch.randperm(len(data.train_labels), generator=generator)[:count].to(data.train_labels.device)
    return data.train_images[rows], data.train_labels[rows]


def chosen_weights(module: nn.Module, first_last: Literal["quantize", "keep"]) -> list[Weight]:
    """The weights to quantize, in the order of their layers.

    Raises:
        InputError: the policy leaves none.
    """
    weights = weight_tensors(module)
    chosen = weights[1:-1] if first_last == "keep" else weights
    if not chosen:
        raise InputError(f"first_last={first_last!r} leaves none of {len(weights)} weights to quantize")
    return chosen


def _calibration(
    quantizer: Quantizer, network: nn.Module, images: Tensor, labels: Tensor
) -> Calibration | None:
    needs = frozenset[str]().union(*(part.needs for part in quantizer.parts()))
    return Calibration(network, images, labels, needs) if needs else None


def quality(float_logits: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Measurement]:
    pictures = len(labels)
    before, after = 100 * accuracy(float_logits, labels), 100 * accuracy(logits, labels)
    test = mcnemar(float_logits, logits, labels)
    return {
        "baseline_accuracy": Measurement(value=before, unit="%", n=pictures),
        "accuracy": Measurement(value=after, unit="%", n=pictures),
        "accuracy_drop": Measurement(value=before - after, unit="%", n=pictures),
        "flips": Measurement(value=100 * flips(float_logits, logits), unit="%", n=pictures),
        "kl": Measurement(value=_finite(kl(float_logits, logits)), unit="nat", n=pictures),
        "lost": Measurement(value=test.only_first, unit="pictures", n=pictures),
        "gained": Measurement(value=test.only_second, unit="pictures", n=pictures),
    }


def _nbytes(module: nn.Module) -> int:
    """Bytes of everything a copy of the model needs: parameters and buffers, shared ones once."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def size_of(
    original: nn.Module, module: nn.Module, quantized: Sequence[CodedWeight]
) -> dict[str, Measurement]:
    """``original``: the untouched float model; ``module``: what is stored, its quantized weights in float."""
    replaced = sum(q.weight.parameter.nbytes for q in quantized)
    code_bytes = sum(q.coded.nbytes for q in quantized)
    elements = sum(q.weight.parameter.numel() for q in quantized)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    stored_bytes = _nbytes(module) - replaced + code_bytes
    entropy_bits = sum(q.coded.entropy_bits for q in quantized)
    seconds = [q.seconds for q in quantized]
    return {
        "rate": Measurement(value=8 * code_bytes / elements, unit="bit/element", n=len(quantized)),
        "entropy_rate": Measurement(value=entropy_bits / elements, unit="bit/element", n=len(quantized)),
        "model_rate": Measurement(value=8 * stored_bytes / parameters, unit="bit/element"),
        "stored_bytes": Measurement(value=stored_bytes, unit="B"),
        "float_bytes": Measurement(value=_nbytes(original), unit="B"),
        "coverage": Measurement(value=elements / parameters, unit="1"),
        "quantize_seconds": Measurement(value=math.fsum(seconds), unit="s", n=len(seconds), timing=True),
    }


def distortion_of(quantized: Sequence[CodedWeight]) -> dict[str, Measurement]:
    found = total([q.distortion for q in quantized])
    return {
        "sqnr_db": Measurement(value=_finite(found.sqnr_db), unit="dB", n=len(quantized)),
        "cosine": Measurement(value=found.cosine, unit="1", n=len(quantized)),
    }


def _calibration_seconds(calibration: Calibration | None) -> dict[str, Measurement]:
    if calibration is None:
        return {}
    return {"calibration_seconds": Measurement(value=calibration.seconds, unit="s", timing=True)}


def _calibration_facts(
    calibration: Calibration | None, chosen: Sequence[Weight], quantized: Sequence[CodedWeight]
) -> dict[str, Fact]:
    """What was calibrated, and the weights that stay in float32 for want of it."""
    done = {q.weight.name for q in quantized}
    left = [weight.name for weight in chosen if weight.name not in done]
    return {
        "calibration": " ".join(sorted(calibration.needs)) if calibration else "none",
        **({"uncalibrated": " ".join(left)} if left else {}),
    }


def _transform_facts(transforms: Sequence[Transform]) -> dict[str, Fact]:
    return {"transforms": " ".join(map(str, transforms))} if transforms else {}


def _picture_facts(
    calibration: Calibration | None, transforms: Sequence[Transform], count: int
) -> dict[str, Fact]:
    looked = calibration is not None or any(transform.calibrated for transform in transforms)
    return {"calibration_pictures": count} if looked else {}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
