"""Quantization-aware training: weights quantized in every step, against a float model trained as long."""

from collections.abc import Sequence
from typing import Literal, Self, final

from pydantic import Field, model_validator
from torch import Tensor, nn

from ..baselines import Baseline
from ..classifier import evaluate
from ..components import ImageData, Parameters, Quantizer, Track, Trainable
from ..errors import SuiteError
from ..layers import swapped_weights
from ..metrics import accuracy
from ..quantized_training import QuantizedWeights
from ..schema import Cell, Fact, Measurement, Outcome, Recipe
from ..training import Trained, Training, pictures_of, train
from ..workbench import Workbench
from .finetuned import finetuned
from .ptq import chosen_weights, distortion_of, quality, size_of
from .weights import CodedWeight, code_weights, rate_class


class FineTuning(Parameters):
    """How a trained network is trained on: as ``training`` says, but for these."""

    epochs: int = Field(4, ge=1, le=10_000, description="passes over the training pictures, at most")
    lr_factor: float = Field(
        1.0, gt=0, le=1e3, description="what the optimizer's learning rate is multiplied by"
    )


class QatParameters(Parameters):
    """The budget: how the float model is trained, and how it or a fresh network is trained quantized."""

    training: Training = Field(Training(), description="recipe of the float model")
    start: Literal["float", "scratch"] = Field(
        "float",
        description="the trained float model, trained on by finetune; or a fresh network, trained by training",
    )
    finetune: FineTuning = Field(FineTuning(), description="further training, for start=float")
    refit: int = Field(
        10,
        ge=1,
        le=10**6,
        description="steps from one fit of a codebook to the next, where it is not learned",
    )
    first_last: Literal["quantize", "keep"] = Field(
        "quantize", description="what happens to the first and last layer"
    )

    @model_validator(mode="after")
    def _scratch_has_no_further_training(self) -> Self:
        if self.start == "scratch" and self.finetune != FineTuning():
            raise ValueError("start=scratch trains by training alone; leave finetune out")
        return self

    @property
    def quantized(self) -> tuple[Training, float]:
        """Recipe and learning-rate factor of the network with quantized weights."""
        if self.start == "scratch":
            return self.training, 1.0
        further = {"epochs": self.finetune.epochs}
        return self.training.model_copy(update=further), self.finetune.lr_factor


@final
class Qat(Track):
    """Weights only: real weights are trained while the network computes with quantized ones (straight-through).

    start=float goes on from the trained float model, start=scratch from its initialization. The float model it is
    compared with had the same pictures in the same order, epochs and learning rates: the baseline fine-tuned, or the
    baseline itself. ``finetuned_accuracy`` is its accuracy; ``accuracy_drop``, in percentage points, ``kl``, ``flips``,
    ``lost`` and ``gained`` are against it. ``ptq_accuracy`` is that of the same quantizer on the baseline without
    training. The weights kept are the last epoch's or those of best validation accuracy, as ``training`` says.

    What is scored is coded anew, decoded elsewhere and evaluated from that: codebooks that were learned travel in the
    bytes. Rates are those of track ptq. A generalization gap is the accuracy on pictures trained on (as many as
    there are test pictures, or all) less that on test pictures, in percentage points.

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3; Bengio, Leonard & Courville 2013, section 4.
    """

    name = "qat"
    reference = "Jacob et al. 2018, section 3 (arXiv:1712.05877); Bengio, Leonard & Courville 2013, section 4"
    version = 1
    targets = ("weight",)
    provides = frozenset()
    Parameters = QatParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        epochs: int = self.parameters.quantized[0].epochs
        if cell.dataset is not None and cell.dataset.name == "digits":
            return 0.6 * epochs
        return (10.0 if cell.model is not None and cell.model.name == "mlp" else 60.0) * epochs

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is None:
            raise SuiteError("a cell of track 'qat' lacks a quantizer; name one in its grid")
        recipe, quantizer = self.baseline(cell), bench.quantizer(cell.quantizer)
        baseline = bench.baseline(recipe)
        reference = self._reference(recipe, baseline, bench)
        bench.loaded()
        before = self._code(quantizer, baseline.module, cell, bench)
        untrained = _logits(baseline.module, before, baseline.images.test_images)
        trained = self._train(quantizer, recipe, baseline, bench)
        network = trained.module
        assert isinstance(network, QuantizedWeights)
        module, data = network.module, baseline.images
        coded = self._code(quantizer, module, cell, bench, network)
        with swapped_weights(module, {q.weight.name: q.decoded for q in coded}):
            logits = evaluate(module, data.test_images)
            size = size_of(baseline.module, module, coded)
            gaps = self._gaps(cell, data, (module, logits), (reference.module, reference.test_logits))
        return Outcome(
            measurements={
                **_accuracies(baseline.test_logits, untrained, data.test_labels),
                **_against(reference, logits),
                **gaps,
                **size,
                **distortion_of(coded),
                "training_seconds": Measurement(value=trained.metrics["seconds"], unit="s", timing=True),
            },
            facts=self._facts(quantizer, coded, trained, reference),
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _reference(self, recipe: Recipe, baseline: Baseline, bench: Workbench) -> Baseline:
        if self.parameters.start == "scratch":
            return baseline
        training, lr_factor = self.parameters.quantized
        return finetuned(recipe, baseline, training, lr_factor, bench)

    def _train(self, quantizer: Quantizer, recipe: Recipe, baseline: Baseline, bench: Workbench) -> Trained:
        training, lr_factor = self.parameters.quantized
        return train(
            bench.build("model", recipe.model),
            bench.build("optimizer", recipe.optimizer),
            baseline.images,
            training,
            recipe.seed,
            bench.device,
            lambda epoch, epochs, _: bench.note(f"{quantizer}: epoch {epoch} of {epochs}"),
            start=baseline.module.state_dict() if self.parameters.start == "float" else None,
            lr_factor=lr_factor,
            around=lambda module, steps: QuantizedWeights(
                module,
                chosen_weights(module, self.parameters.first_last),
                quantizer,
                seed=recipe.seed,
                steps=steps,
                refit=self.parameters.refit,
            ),
        )

    def _code(
        self,
        quantizer: Quantizer,
        module: nn.Module,
        cell: Cell,
        bench: Workbench,
        network: QuantizedWeights | None = None,
    ) -> list[CodedWeight]:
        chosen = chosen_weights(module, self.parameters.first_last)
        learned = None if network is None else network.codebooks()
        return code_weights(quantizer, chosen, cell.seed, bench, codebooks=learned)

    def _gaps(
        self, cell: Cell, data: ImageData, own: tuple[nn.Module, Tensor], other: tuple[nn.Module, Tensor]
    ) -> dict[str, Measurement]:
        images, labels = pictures_of(data, self.parameters.training, cell.seed)
        count = len(data.test_labels)
        found = {}
        for prefix, (module, logits) in {"": own, "finetuned_": other}.items():
            on_training = 100 * accuracy(evaluate(module, images[:count]), labels[:count])
            gap = on_training - 100 * accuracy(logits, data.test_labels)
            found[f"{prefix}generalization_gap"] = Measurement(value=gap, unit="%", n=count)
        return found

    def _facts(
        self, quantizer: Quantizer, coded: Sequence[CodedWeight], trained: Trained, reference: Baseline
    ) -> dict[str, Fact]:
        learned = isinstance(quantizer, Trainable)
        return {
            "first_last": self.parameters.first_last,
            "execution": "simulated",
            "rate_class": rate_class([q.coded for q in coded]),
            "selection": self.parameters.training.selection,
            "tensors": len(coded),
            "start": self.parameters.start,
            "epochs": trained.metrics["epochs"],
            "selected_epoch": trained.metrics["selected_epoch"],
            "gradient": "own" if learned else "straight-through",
            "codebooks": "learned" if learned else f"fitted every {self.parameters.refit} steps",
            "finetuned_sha256": reference.sha256,
        }


def _logits(module: nn.Module, coded: Sequence[CodedWeight], images: Tensor) -> Tensor:
    with swapped_weights(module, {q.weight.name: q.decoded for q in coded}):
        return evaluate(module, images)


def _accuracies(float_logits: Tensor, untrained: Tensor, labels: Tensor) -> dict[str, Measurement]:
    """Before any further training: the float model, and the same one quantized."""
    found = {"baseline_accuracy": float_logits, "ptq_accuracy": untrained}
    return {
        name: Measurement(value=100 * accuracy(logits, labels), unit="%", n=len(labels))
        for name, logits in found.items()
    }


def _against(reference: Baseline, logits: Tensor) -> dict[str, Measurement]:
    found = quality(reference.test_logits, logits, reference.images.test_labels)
    return {"finetuned_accuracy" if name == "baseline_accuracy" else name: m for name, m in found.items()}
