"""Post-training quantization: a trained model with quantized weights and activations against the same in float32."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor, nn

from ..calibration import Calibration
from ..classifier import evaluate
from ..components import Examples, Kind, Quantizer, Track, Transform
from ..errors import InputError
from ..layers import Weight, weight_tensors
from ..sample_codes import ActivationCode
from ..schema import Cell, Fact, Measurement, Outcome, Recipe, Spec
from ..training import Training
from ..workbench import Workbench
from .calibrated import (
    calibration_facts,
    calibration_of,
    calibration_pictures,
    calibration_seconds,
    example_facts,
)
from .coders import cell_quantizers
from .efficiency import EFFICIENCY_FACTS, efficiency
from .quantized_inputs import (
    InputParameters,
    QuantizedInputs,
    coding_facts,
    computing,
    rates_of,
    static_nbytes,
)
from .scores import distortion_of, quality, size_of
from .transfer import transfer, transfer_data
from .transformed import stored, transformed
from .weights import CodedWeight, code_weights, rate_class

# seconds to quantize a network of the width in suite standard and test it, on one core: on 10,000 pictures of 28 x 28,
# gpt on the text of english
_SECONDS = {"mlp": 0.5, "cnn": 6.0, "alexnet": 20.0, "vit": 20.0, "gpt": 1.5, "resnet18": 30.0}
_OTHER_SECONDS = 100.0


class PtqParameters(InputParameters):
    """The budget: how the float model is trained and changed, which of its layers are quantized, with what data."""

    training: Training = Field(Training(), description="recipe of the float model")
    first_last: Literal["quantize", "keep"] = Field(
        "quantize", description="what happens to the first and last layer"
    )
    calibration: int = Field(256, ge=1, le=2**20, description="training examples for what needs any")
    transforms: list[str] = Field([], description="specifications of transforms, in the order of their use")
    transfer: str | None = Field(
        None, description="another data set to test on, with the same shape and classes"
    )
    weights: str | None = Field(
        None, description="quantizer of the weights, for target=activation; None leaves them in float32"
    )


@final
class Ptq(Track):
    """Weights alone, or the inputs of layers with or without weights, of a network that is trained already.

    - target=weight: each weight tensor is coded with its own codebook and decoded elsewhere. A quantizer that needs
      importance, gram or loss gets those of ``calibration`` training examples, layer by layer in forward order
      (:mod:`qbench.calibration`); weights that these do not reach stay in float32.
    - target=activation: the input of every layer that has a weight is coded and decoded in place, each sample, a
      picture or one position of a text, a message of its own; of pictures the first layer's is left out, which is the
      8-bit picture itself. ``weights`` names what weights are coded with before. static: codebooks are fitted to the
      inputs that calibration examples cause in the network with quantized weights; dynamic: to each sample.

    Transforms change the network before or after its weights are quantized. first_last=keep leaves the first and the
    last layer's weights and inputs in float32; embeddings always are, and the first layer of a network of text is the
    one that comes after them.

    ``rate`` = 8 bytes / elements over what the target says; dynamic codebooks count in it, static ones in
    ``stored_bytes``. With target=activation that of the weights is ``weight_rate``, and ``sqnr_db``, ``cosine`` and
    ``entropy_rate`` are of the first 64 samples of the test. ``model_rate``, the effective bits of the whole model,
    counts all that must be stored, float32 leftovers included, per parameter; it and ``coverage`` are of the network as
    it is stored, transformed. ``bops``, ``effective_bits`` and ``energy`` (:mod:`qbench.tracks.efficiency`) take the
    bits of the layers' codes, 8 for the first layer's picture with target=activation, and 32 for what stays in float.

    ``accuracy_drop`` is in percentage points, ``kl`` goes from the untouched float model's softmax to the
    quantized one's. ``lost`` and ``gained`` are predictions that only the float or only the quantized model gets right.
    """

    name = "ptq"
    reference = "Nagel et al., A white paper on neural network quantization, 2021, section 3"
    version = 2
    targets = ("weight", "activation")
    provides = frozenset({"importance", "gram", "loss"})
    specified: ClassVar[Mapping[str, Kind]] = {
        "transforms": "transform",
        "weights": "quantizer",
        "transfer": "dataset",
    }
    Parameters = PtqParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        seconds = _SECONDS.get(cell.model.name, _OTHER_SECONDS) if cell.model is not None else 0.0
        if cell.dataset is not None and cell.dataset.name == "digits":
            seconds /= 30
        if cell.target == "activation":
            seconds *= 3 if self.parameters.mode == "static" else 20
        return max(0.2, seconds)

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        quantizers = cell_quantizers(self, cell, self.parameters.weights, bench)
        recipe = self.baseline(cell)
        baseline = bench.baseline(recipe)
        float_logits, data = baseline.test_logits, baseline.data
        transforms = [bench.build("transform", Spec.parse(text)) for text in self.parameters.transforms]
        transfer_data(self.parameters.transfer, data, bench)
        bench.loaded()
        images, labels = calibration_pictures(data, self.parameters.calibration, cell.seed)
        network = transformed(baseline.module, transforms, images)
        transferred = self._transfer("baseline_", baseline.module, data, bench)
        calibration, chosen, quantized = self._weights(quantizers, network, (images, labels), cell, bench)
        with stored(network, quantized, transforms, images) as module:
            inputs = self._inputs(quantizers, module, images, cell.seed)
            with computing(inputs, module) as codes:
                logits = evaluate(module, data.test_inputs)
            with computing(inputs, module):
                transferred |= self._transfer("", module, data, bench)
            size = size_of(baseline.module, module, quantized, static_nbytes(codes))
            costs = efficiency(baseline.module, module, data.test_inputs, quantized, codes)
        found = {**size, **(distortion_of(quantized) if quantized else {})}
        return Outcome(
            measurements={
                **quality(float_logits, logits, data.test_labels),
                **(of_weights(found) | rates_of(codes) if inputs else found),
                **costs,
                **transferred,
                **calibration_seconds(
                    calibration.seconds if calibration else None, inputs.seconds if inputs else None
                ),
            },
            facts={
                **self._facts(quantized, codes),
                **calibration_facts(calibration, chosen, [q.weight for q in quantized]),
                **_transform_facts(transforms),
                **({} if inputs is None else inputs.facts() | coding_facts(codes)),
                **_picture_facts(calibration, inputs, transforms, images),
            },
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _weights(
        self,
        quantizers: Mapping[Literal["weight", "activation"], Quantizer],
        network: nn.Module,
        examples: tuple[Tensor, Tensor],
        cell: Cell,
        bench: Workbench,
    ) -> tuple[Calibration | None, list[Weight], list[CodedWeight]]:
        quantizer = quantizers.get("weight")
        if quantizer is None:
            return None, [], []
        chosen = chosen_weights(network, self.parameters.first_last)
        calibration = calibration_of(quantizer, network, *examples)
        quantized = code_weights(quantizer, chosen, cell.seed, bench, calibration)
        if not quantized:
            raise InputError(f"the calibration pictures reach none of {len(chosen)} weights of {cell.model}")
        return calibration, chosen, quantized

    def _inputs(
        self,
        quantizers: Mapping[Literal["weight", "activation"], Quantizer],
        module: nn.Module,
        images: Tensor,
        seed: int,
    ) -> QuantizedInputs | None:
        if "activation" not in quantizers:
            return None
        return QuantizedInputs.calibrated(
            quantizers["activation"], module, images, self.parameters, self.parameters.first_last, seed
        )

    def _transfer(
        self, prefix: str, module: nn.Module, data: Examples, bench: Workbench
    ) -> dict[str, Measurement]:
        return transfer(self.parameters.transfer, {prefix: module}, data, bench)

    def _facts(
        self, quantized: Sequence[CodedWeight], codes: Mapping[str, ActivationCode]
    ) -> dict[str, Fact]:
        coded = any(code.coded for code in codes.values())
        return {
            "first_last": self.parameters.first_last,
            "execution": "simulated",
            **EFFICIENCY_FACTS,
            "rate_class": "coded" if coded else rate_class([q.coded for q in quantized]),
            "selection": self.parameters.training.selection,
            "tensors": len(quantized),
            **({"weights": self.parameters.weights or "float32"} if codes else {}),
        }


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


def of_weights(found: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """The measurements of weights in a cell whose target is activations."""
    own = ("rate", "entropy_rate", "sqnr_db", "cosine")
    return {f"weight_{name}" if name in own else name: value for name, value in found.items()}


def _transform_facts(transforms: Sequence[Transform]) -> dict[str, Fact]:
    return {"transforms": " ".join(map(str, transforms))} if transforms else {}


def _picture_facts(
    calibration: Calibration | None,
    inputs: QuantizedInputs | None,
    transforms: Sequence[Transform],
    images: Tensor,
) -> dict[str, Fact]:
    """Which training examples were looked at, if any were."""
    observed = inputs is not None and inputs.codebooks is not None
    if calibration is None and not observed and not any(transform.calibrated for transform in transforms):
        return {}
    return example_facts(images)
