"""One network trained with coded gradients at several learning rates, and the uncompressed run beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from ..baselines import BaselineStore, network_of
from ..components import Component, Examples, Model, Optimizer, Parameters, Quantizer, UserData
from ..data_parallel import Granularity, Scheme, Simulated, Traffic
from ..data_parallel_worker import Job
from ..errors import SuiteError
from ..fingerprint import fingerprint
from ..schema import Cell, Recipe, digest
from ..training import Trained, Training, train
from ..workbench import Workbench
from ..worker_group import train_in_processes

Execution = Literal["simulated", "gloo", "nccl"]


class CompressedTraining(Parameters):
    """The budget: how the network is trained, and how gradients travel."""

    training: Training = Field(Training(), description="recipe; its batch is that of all workers together")
    workers: int = Field(4, ge=1, le=256, description="parts of a batch, K")
    execution: Execution = Field(
        "simulated", description="workers in turn in one process, or processes that meet by gloo or NCCL"
    )
    error_feedback: bool = Field(False, description="whether what a message lost is added to the next")
    granularity: Granularity = Field(
        "layer", description="what a message is: a parameter's gradient, or that of the whole network"
    )
    lr_factors: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=16,
        description="factors of the optimizer's learning rate, of which validation chooses; the same for every code",
    )
    target_accuracy: float = Field(
        0.9, gt=0, le=1, description="share of validation examples; what bits_to_target is counted to"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.training.validation == 0:
            raise ValueError("validation=0 leaves nothing to choose a learning rate by; hold a share back")
        if self.training.batch_size % self.workers:
            raise ValueError(
                f"batch_size={self.training.batch_size} has no {self.workers} equal parts; change one of them"
            )
        if not all(0 < factor <= 1e3 for factor in self.lr_factors):
            raise ValueError(f"lr_factors={list(self.lr_factors)}: every one lies above 0 and up to 1000")
        return self


@dataclass(frozen=True)
class Run:
    """A training at one learning rate; nothing trained where it diverged."""

    lr_factor: float
    trained: Trained | None
    traffic: list[Traffic]


@dataclass(frozen=True)
class Reference:
    """The uncompressed run; ``elements`` of a gradient."""

    lr_factor: float
    trained: Trained
    sha256: str

    @property
    def elements(self) -> int:
        return sum(parameter.numel() for parameter in self.trained.module.parameters())


@dataclass(frozen=True)
class Setting:
    """What all runs of a cell share."""

    cell: Cell
    budget: CompressedTraining
    bench: Workbench
    recipe: Recipe
    model: Model
    optimizer: Optimizer
    data: Examples

    @classmethod
    def of(cls, cell: Cell, budget: CompressedTraining, bench: Workbench) -> "Setting":
        """What the cell names, built.

        Raises:
            SuiteError: fewer devices than NCCL needs.
        """
        devices = torch.cuda.device_count() if bench.device.type == "cuda" else 0
        if budget.execution == "nccl" and devices < budget.workers:
            raise SuiteError(
                f"execution=nccl needs a CUDA device for each of {budget.workers} workers, and {bench.device} has "
                f"{devices}; choose gloo or simulated"
            )
        recipe = Recipe.of(cell, budget.training.model_dump(mode="json"))
        model, optimizer = bench.build("model", recipe.model), bench.build("optimizer", recipe.optimizer)
        return cls(cell, budget, bench, recipe, model, optimizer, bench.data(recipe.dataset))

    @property
    def steps_per_epoch(self) -> int:
        held = round(self.budget.training.validation * len(self.data.train_labels))
        count = len(self.data.train_labels) - held
        return count // min(self.budget.training.batch_size, count)

    def scheme(self, quantizer: Quantizer | None) -> Scheme:
        budget = self.budget
        return Scheme(quantizer, budget.workers, budget.error_feedback, budget.granularity, self.recipe.seed)

    def run(self, quantizer: Quantizer | None, lr_factor: float) -> Run:
        try:
            if self.budget.execution == "simulated":
                return self._simulated(quantizer, lr_factor)
            trained, traffic = train_in_processes(
                self._job(quantizer, lr_factor),
                self.model,
                self.data,
                lambda epoch, epochs: self._note(quantizer, lr_factor, epoch, epochs),
            )
            return Run(lr_factor, trained, traffic)
        except FloatingPointError:
            return Run(lr_factor, None, [])

    def _simulated(self, quantizer: Quantizer | None, lr_factor: float) -> Run:
        workers = Simulated(self.scheme(quantizer))

        def progress(epoch: int, epochs: int, accuracy: float | None) -> None:
            workers.end_epoch()
            self._note(quantizer, lr_factor, epoch, epochs)

        trained = train(
            self.model,
            self.optimizer,
            self.data,
            self.budget.training,
            self.recipe.seed,
            self.bench.device,
            progress,
            lr_factor=lr_factor,
            backward=workers,
        )
        return Run(lr_factor, trained, workers.traffic)

    def _note(self, quantizer: Quantizer | None, lr_factor: float, epoch: int, epochs: int) -> None:
        self.bench.note(f"{quantizer or 'uncompressed'}, lr x {lr_factor:g}: epoch {epoch} of {epochs}")

    def _job(self, quantizer: Quantizer | None, lr_factor: float) -> Job:
        budget = self.budget
        return Job(
            model=self.model.spec,
            optimizer=self.optimizer.spec,
            quantizer=None if quantizer is None else quantizer.spec,
            training=budget.training.model_dump(mode="json"),
            seed=self.recipe.seed,
            lr_factor=lr_factor,
            workers=budget.workers,
            error_feedback=budget.error_feedback,
            granularity=budget.granularity,
            backend="nccl" if budget.execution == "nccl" else "gloo",
            device=str(self.bench.device),
        )

    def reference(self) -> Reference:
        """The uncompressed run at its best learning rate; each is trained once and kept with the baselines."""
        found = [self._stored(factor) for factor in self.budget.lr_factors]
        runs = [Run(one.lr_factor, one.trained, []) for one in found if one is not None]
        chosen = best(runs).trained if runs else None
        if chosen is None:
            raise FloatingPointError(
                f"uncompressed training diverges at all of lr_factors={list(self.budget.lr_factors)}; lower lr"
            )
        return next(one for one in found if one is not None and one.trained is chosen)

    def _stored(self, lr_factor: float) -> Reference | None:
        store = BaselineStore(self.bench.cache_root / "baselines", self.bench.device.type)
        try:
            kept = store.get_or_train(
                self.recipe, lambda: self._uncompressed(lr_factor), self._code(lr_factor)
            )
        except FloatingPointError:
            return None
        module = network_of(self.model, self.data, kept.tensors)
        trained = Trained(module.to(self.bench.device), kept.metrics)
        return Reference(lr_factor, trained, kept.sha256)

    def _uncompressed(self, lr_factor: float) -> Trained:
        trained = self._simulated(None, lr_factor).trained
        assert trained is not None
        return trained

    def _code(self, lr_factor: float) -> str:
        """Names what made the uncompressed run beside its recipe."""
        dataset: Component = self.bench.build("dataset", self.recipe.dataset)
        modules = {type(part).__module__ for part in (self.model, self.optimizer, dataset)}
        content = dataset.content(self.bench.data_root) if isinstance(dataset, UserData) else ""
        codes = sorted(fingerprint(module) for module in {*modules, Simulated.__module__})
        return digest([codes, content, self.budget.workers, lr_factor])[:16]


def best(runs: Sequence[Run]) -> Run:
    """Of best validation accuracy, of equal ones of least validation loss; the first where all diverged."""

    def merit(run: Run) -> tuple[float, float]:
        if run.trained is None:
            return -1.0, -math.inf
        accuracies, losses = (run.trained.metrics[f"validation_{name}"] for name in ("accuracy", "loss"))
        epoch = run.trained.metrics["selected_epoch"] - 1
        return accuracies[epoch], -losses[epoch]

    return max(runs, key=merit)
