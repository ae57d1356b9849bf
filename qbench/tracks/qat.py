"""Quantization-aware training: values quantized in every step, against a float model trained as long."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

from pydantic import Field, model_validator
from torch import Tensor, nn

from ..activation_codes import activation_names, coded_activations, observe
from ..baselines import Baseline, trainings
from ..classifier import evaluate
from ..components import Kind, Parameters, Quantizer, Track, Trainable
from ..layers import swapped_weights
from ..message import Message
from ..metrics import accuracy
from ..quantized_training import Inputs, QuantizedNetwork
from ..sample_codes import ActivationCode
from ..schema import Cell, Fact, Measurement, Outcome, Recipe
from ..staged_code import annealed
from ..training import Trained, Training, train, training_examples
from ..workbench import Workbench
from .coders import cell_quantizers
from .efficiency import EFFICIENCY_FACTS, efficiency
from .ptq import chosen_weights, of_weights
from .quantized_inputs import coding_facts, rates_of, static_nbytes
from .scores import distortion_of, quality, size_of
from .transfer import transfer, transfer_data
from .weights import CodedWeight, code_weights, rate_class

# seconds of an epoch of a network of the width in suite standard, on one core: of 60,000 pictures of 28 x 28, gpt of
# the text of english
_SECONDS = {"mlp": 15.0, "cnn": 50.0, "alexnet": 200.0, "vit": 250.0, "gpt": 16.0, "resnet18": 300.0}
_OTHER_SECONDS = 1000.0


class FineTuning(Parameters):
    """How a trained network is trained on: as ``training`` says, but for these."""

    epochs: int = Field(4, ge=1, le=10_000, description="passes over the training examples, at most")
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
    anneal: list[int] = Field(
        [], description="bits to begin with, each for as many steps as the quantizer's own bits come last"
    )
    first_last: Literal["quantize", "keep"] = Field(
        "quantize", description="what happens to the first and last layer"
    )
    weights: str | None = Field(
        None, description="quantizer of the weights, for target=activation; None leaves them in float32"
    )
    calibration: int = Field(
        256, ge=1, le=2**20, description="training examples for codebooks of activations that are not learned"
    )
    transfer: str | None = Field(
        None, description="another data set to test on, with the same shape and classes"
    )

    @model_validator(mode="after")
    def _scratch_has_no_further_training(self) -> Self:
        if self.start == "scratch" and self.finetune != FineTuning():
            raise ValueError("start=scratch trains by training alone; leave finetune out")
        return self


@final
class Qat(Track):
    """Real weights are trained while the network computes with quantized values (straight-through, or what is learned).

    - target=weight: quantized weights.
    - target=activation: the quantized inputs of layers, those that :class:`~qbench.tracks.ptq.Ptq` quantizes, with one
      static codebook a layer; ``weights`` names what weights are quantized with beside.

    start=float goes on from the trained float model, start=scratch from its initialization. The float model it is
    compared with had the same examples in the same order, epochs and learning rates: the baseline fine-tuned, or the
    baseline itself. ``finetuned_accuracy`` is its accuracy; ``accuracy_drop``, in percentage points, ``kl``, ``flips``,
    ``lost`` and ``gained`` are against it. ``ptq_accuracy`` is that of the same quantizers on the baseline without
    training. The weights kept are the last epoch's or those of best validation accuracy, as ``training`` says.

    With ``anneal`` the quantizers begin with other bits: each of those, and at last their own, for an equal share of
    the steps. What is validated and scored has their own.

    What is scored is coded anew, weights decoded elsewhere and inputs in place, sample by sample: codebooks that were
    learned travel in the bytes, others are fitted, those of inputs to ``calibration`` training examples. Rates,
    ``bops`` and ``energy`` are those of track ptq. A generalization gap is the accuracy on examples trained on (as
    many as there are test examples, or all) less that on test examples, in percentage points.

    Reference: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3; Bengio, Leonard & Courville 2013, section 4.
    """

    name = "qat"
    reference = "Jacob et al. 2018, section 3 (arXiv:1712.05877); Bengio, Leonard & Courville 2013, section 4"
    version = 3
    targets = ("weight", "activation")
    provides = frozenset()
    specified: ClassVar[Mapping[str, Kind]] = {"weights": "quantizer", "transfer": "dataset"}
    Parameters = QatParameters

    def baseline(self, cell: Cell) -> Recipe:
        """The float model that the quantized one is compared with."""
        recipe = Recipe.of(cell, self.parameters.training.model_dump(mode="json"))
        if self.parameters.start == "scratch":
            return recipe
        return recipe.model_copy(update={"further": self.parameters.finetune.model_dump(mode="json")})

    def estimate(self, cell: Cell) -> float:
        seconds = _SECONDS.get(cell.model.name, _OTHER_SECONDS) if cell.model is not None else 0.0
        if cell.dataset is not None and cell.dataset.name == "digits":
            seconds /= 100
        if cell.target == "activation":
            seconds *= 2.5
        return seconds * trainings(self.baseline(cell))[-1][0].epochs

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        quantizers = cell_quantizers(self, cell, self.parameters.weights, bench)
        stages = {what: annealed(q, self.parameters.anneal) for what, q in quantizers.items()}
        recipe = self.baseline(cell)
        baseline, reference = bench.baseline(recipe.start or recipe), bench.baseline(recipe)
        transfer_data(self.parameters.transfer, baseline.data, bench)
        bench.loaded()
        before = self._stored(quantizers, baseline.module, baseline, cell, bench)
        with before.computing():
            untrained = evaluate(baseline.module, baseline.data.test_inputs)
        trained = self._train(stages, recipe, baseline, bench)
        network = trained.module
        assert isinstance(network, QuantizedNetwork)
        stored = self._stored(quantizers, network.module, baseline, cell, bench, network)
        codes, logits, found = self._scored(stored, baseline, reference, cell, bench)
        return Outcome(
            measurements={
                **_accuracies(baseline, untrained, trained),
                **_against(reference, logits),
                **found,
                "training_seconds": Measurement(value=trained.metrics["seconds"], unit="s", timing=True),
            },
            facts=self._facts(quantizers, stored, codes, trained) | {"finetuned_sha256": reference.sha256},
            baseline_id=baseline.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _train(
        self,
        stages: Mapping[Literal["weight", "activation"], list[Quantizer]],
        recipe: Recipe,
        baseline: Baseline,
        bench: Workbench,
    ) -> Trained:
        training, lr_factor = trainings(recipe)[-1]
        names = " and ".join(str(quantizers[-1]) for quantizers in stages.values())

        def around(module: nn.Module, steps: int) -> nn.Module:
            return QuantizedNetwork(
                module,
                chosen_weights(module, self.parameters.first_last) if "weight" in stages else [],
                stages.get("weight", []),
                inputs=self._inputs(stages["activation"], module, baseline, recipe.seed)
                if "activation" in stages
                else None,
                seed=recipe.seed,
                steps=steps,
                refit=self.parameters.refit,
            )

        return train(
            bench.build("model", recipe.model),
            bench.build("optimizer", recipe.optimizer),
            baseline.data,
            training,
            recipe.seed,
            bench.device,
            lambda epoch, epochs, _: bench.note(f"{names}: epoch {epoch} of {epochs}"),
            start=baseline.module.state_dict() if self.parameters.start == "float" else None,
            lr_factor=lr_factor,
            around=around,
        )

    def _inputs(
        self, quantizers: list[Quantizer], module: nn.Module, baseline: Baseline, seed: int
    ) -> Inputs:
        examples, _ = training_examples(baseline.data, self.parameters.training, seed)
        names = activation_names(module, examples, self.parameters.first_last)
        return Inputs(names, quantizers, examples[: self.parameters.calibration])

    def _stored(
        self,
        quantizers: Mapping[Literal["weight", "activation"], Quantizer],
        module: nn.Module,
        baseline: Baseline,
        cell: Cell,
        bench: Workbench,
        network: QuantizedNetwork | None = None,
    ) -> "_Stored":
        """``network``: what ``module`` was trained in; None where it was not."""
        coded: list[CodedWeight] = []
        if "weight" in quantizers:
            chosen = chosen_weights(module, self.parameters.first_last)
            learned = None if network is None else network.codebooks()
            coded = code_weights(quantizers["weight"], chosen, cell.seed, bench, codebooks=learned)
        quantizer = quantizers.get("activation")
        if quantizer is None:
            return _Stored(module, coded, None, {}, cell.seed)
        inputs = self._inputs([quantizer], module, baseline, cell.seed)
        with swapped_weights(module, {q.weight.name: q.decoded for q in coded}):
            codebooks = (
                observe(module, inputs.calibration, quantizer, inputs.names, "min-max", seed=cell.seed)
                if network is None
                else network.input_codebooks()
            )
        return _Stored(module, coded, quantizer, codebooks, cell.seed)

    def _scored(
        self, stored: "_Stored", baseline: Baseline, reference: Baseline, cell: Cell, bench: Workbench
    ) -> tuple[Mapping[str, ActivationCode], Tensor, dict[str, Measurement]]:
        """The codes of the test examples' activations, the logits, and all that is no comparison of logits."""
        data, module = baseline.data, stored.module
        dataset = self.parameters.transfer
        with stored.computing() as codes:
            logits = evaluate(module, data.test_inputs)
        size = size_of(baseline.module, module, stored.weights, static_nbytes(codes))
        size |= distortion_of(stored.weights) if stored.weights else {}
        costs = efficiency(baseline.module, module, data.test_inputs, stored.weights, codes)
        with stored.computing():
            found = self._gap("", module, logits, baseline, cell)
            found |= transfer(dataset, {"": module}, data, bench)
        found |= self._gap("finetuned_", reference.module, reference.test_logits, baseline, cell)
        found |= transfer(dataset, {"finetuned_": reference.module}, data, bench)
        return codes, logits, {**found, **costs, **(of_weights(size) | rates_of(codes) if codes else size)}

    def _gap(
        self, prefix: str, module: nn.Module, logits: Tensor, baseline: Baseline, cell: Cell
    ) -> dict[str, Measurement]:
        inputs, labels = training_examples(baseline.data, self.parameters.training, cell.seed)
        count, test_labels = len(baseline.data.test_labels), baseline.data.test_labels.flatten()
        on_training = accuracy(evaluate(module, inputs[:count]), labels[:count].flatten())
        gap = 100 * (on_training - accuracy(logits, test_labels))
        return {f"{prefix}generalization_gap": Measurement(value=gap, unit="%", n=len(test_labels))}

    def _facts(
        self,
        quantizers: Mapping[Literal["weight", "activation"], Quantizer],
        stored: "_Stored",
        codes: Mapping[str, ActivationCode],
        trained: Trained,
    ) -> dict[str, Fact]:
        learned = [isinstance(quantizer, Trainable) for quantizer in quantizers.values()]
        budget = self.parameters
        coded = any(code.coded for code in codes.values())
        return {
            "first_last": budget.first_last,
            "execution": "simulated",
            **EFFICIENCY_FACTS,
            "rate_class": "coded" if coded else rate_class([q.coded for q in stored.weights]),
            "selection": budget.training.selection,
            "tensors": len(stored.weights),
            "start": budget.start,
            "epochs": trained.metrics["epochs"],
            "selected_epoch": trained.metrics["selected_epoch"],
            "gradient": _each(quantizers, ["own" if own else "straight-through" for own in learned]),
            "codebooks": _each(
                quantizers, ["learned" if own else f"fitted every {budget.refit} steps" for own in learned]
            ),
            **({"anneal": " ".join(map(str, budget.anneal))} if budget.anneal else {}),
            **({"weights": budget.weights or "float32"} | coding_facts(codes) if codes else {}),
        }


@dataclass(frozen=True)
class _Stored:
    """A network as its bytes have it: weights decoded elsewhere, and codebooks of inputs, with what quantizes them."""

    module: nn.Module
    weights: list[CodedWeight]
    quantizer: Quantizer | None
    codebooks: dict[str, Message]
    seed: int

    @contextmanager
    def computing(self) -> Iterator[Mapping[str, ActivationCode]]:
        """Within the block the module computes with quantized values; the bits of inputs are counted anew."""
        with swapped_weights(self.module, {q.weight.name: q.decoded for q in self.weights}):
            if self.quantizer is None:
                yield {}
                return
            names = list(self.codebooks)
            with coded_activations(
                self.module, self.quantizer, names, self.codebooks, seed=self.seed
            ) as codes:
                yield codes


def _each(quantizers: Mapping[Literal["weight", "activation"], Quantizer], said: list[str]) -> str:
    """What is said of each quantizer, by what it codes where there are two."""
    if len(said) == 1:
        return said[0]
    return ", ".join(f"{what}: {text}" for what, text in zip(quantizers, said, strict=True))


def _accuracies(baseline: Baseline, untrained: Tensor, trained: Trained) -> dict[str, Measurement]:
    """Of the float model and of the same one quantized, before any further training, and of the last epoch."""
    labels = baseline.data.test_labels.flatten()
    shares = {
        "baseline_accuracy": accuracy(baseline.test_logits, labels),
        "ptq_accuracy": accuracy(untrained, labels),
        "last_accuracy": trained.metrics["last_test_accuracy"],
    }
    return {name: Measurement(value=100 * share, unit="%", n=len(labels)) for name, share in shares.items()}


def _against(reference: Baseline, logits: Tensor) -> dict[str, Measurement]:
    found = quality(reference.test_logits, logits, reference.data.test_labels)
    return {name.replace("baseline_", "finetuned_"): m for name, m in found.items()}
