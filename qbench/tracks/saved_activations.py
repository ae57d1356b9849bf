"""Training with few-bit memory: what the backward pass needs is kept as a quantizer's messages."""

from typing import Literal, final

from pydantic import Field

from ..baselines import Baseline
from ..classifier import evaluate
from ..components import Parameters, Quantizer, Track
from ..errors import InputError, SuiteError
from ..saved_tensors import CodedActivations, Kept
from ..schema import Cell, Fact, Measurement, Outcome, Recipe
from ..training import Trained, Training, train
from ..workbench import Workbench
from .scores import quality


class SavedActivationsParameters(Parameters):
    """The budget: how both networks are trained, and which of the tensors that autograd keeps are coded."""

    training: Training = Field(Training(), description="recipe of the float model and of the other")
    least: int = Field(1024, ge=1, le=2**31, description="elements of a tensor from which on it is coded")
    rectified: Literal["exact", "coded"] = Field(
        "exact",
        description="exact: where no value is negative and some are zero, a further bit each says which are",
    )


@final
class SavedActivations(Track):
    """A network trained from scratch whose backward pass sees quantized activations; its forward pass is exact.

    The float model it is compared with had the same initialization, pictures, order and learning rates: the baseline.
    ``accuracy_drop``, in percentage points, ``kl``, ``flips``, ``lost`` and ``gained`` are against it.

    Every tensor has a codebook of its own, fitted when it is kept and counted. ``rate`` = 8 bytes / elements of the
    coded tensors, all steps together. ``saved_bytes`` is what a step keeps, on average: messages, and whatever is
    left as it is; ``float_saved_bytes`` is what the float model keeps. The same memory counts once; parameters,
    buffers and what the loss keeps do not. ``coverage`` is the share of ``float_saved_bytes`` that was coded. On a
    device that trains in bfloat16 a float is 2 bytes: ``precision`` says so.

    Reference: Chakrabarti & Moseley 2019, "Backprop with Approximate Activations for Memory-efficient Network
    Training"; Chen et al. 2021, "ActNN: Reducing Training Memory Footprint via 2-Bit Activation Compressed Training".
    """

    name = "saved-activations"
    reference = "Chakrabarti & Moseley 2019 (arXiv:1901.07988); Chen et al. 2021, ActNN (arXiv:2104.14129)"
    version = 1
    targets = ("activation",)
    Parameters = SavedActivationsParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        epochs: int = self.parameters.training.epochs
        small = cell.model is not None and cell.model.name == "mlp"
        if cell.dataset is not None and cell.dataset.name == "digits":
            return (0.25 if small else 1.0) * epochs
        return (15.0 if small else 300.0) * epochs

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is None:
            raise SuiteError(f"a cell of track {self.name!r} lacks a quantizer; name one in its grid")
        recipe, quantizer = self.baseline(cell), bench.quantizer(cell.quantizer)
        baseline = bench.baseline(recipe)
        bench.loaded()
        trained = self._train(quantizer, recipe, baseline, bench)
        network, data = trained.module, baseline.data
        assert isinstance(network, CodedActivations)
        logits = evaluate(network.module, data.test_inputs)
        return Outcome(
            measurements={
                **quality(baseline.test_logits, logits, data.test_labels),
                **_memory(network.kept, self.parameters.least),
                "training_seconds": Measurement(value=trained.metrics["seconds"], unit="s", timing=True),
            },
            facts=self._facts(network.kept, trained),
            baseline_id=baseline.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    def _train(self, quantizer: Quantizer, recipe: Recipe, baseline: Baseline, bench: Workbench) -> Trained:
        return train(
            bench.build("model", recipe.model),
            bench.build("optimizer", recipe.optimizer),
            baseline.data,
            self.parameters.training,
            recipe.seed,
            bench.device,
            lambda epoch, epochs, _: bench.note(f"{quantizer}: epoch {epoch} of {epochs}"),
            around=lambda module, steps: CodedActivations(
                module,
                quantizer,
                seed=recipe.seed,
                steps=steps,
                least=self.parameters.least,
                rectified=self.parameters.rectified == "exact",
            ),
        )

    def _facts(self, kept: Kept, trained: Trained) -> dict[str, Fact]:
        return {
            "execution": "simulated",
            "rate_class": "coded" if kept.coded else "fixed",
            "codebooks": "fitted to every tensor",
            "rectified": self.parameters.rectified,
            "least": self.parameters.least,
            "tensors": round(kept.tensors / kept.steps),
            "precision": trained.metrics["precision"],
            "selection": self.parameters.training.selection,
            "epochs": trained.metrics["epochs"],
            "selected_epoch": trained.metrics["selected_epoch"],
        }


def _memory(kept: Kept, least: int) -> dict[str, Measurement]:
    if not kept.elements:
        raise InputError(
            f"no tensor that the network keeps has least={least} elements; lower least or raise batch_size"
        )
    whole = kept.float_nbytes + kept.left_nbytes
    per_step = {"saved_bytes": kept.nbytes + kept.left_nbytes, "float_saved_bytes": whole}
    return {
        "rate": Measurement(value=8 * kept.nbytes / kept.elements, unit="bit/element", n=kept.tensors),
        **{
            name: Measurement(value=total / kept.steps, unit="B", n=kept.steps)
            for name, total in per_step.items()
        },
        "coverage": Measurement(value=kept.float_nbytes / whole, unit="1", n=kept.steps),
    }
