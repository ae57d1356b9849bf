"""The one trainer of classifiers.

The whole data set lies on the device as uint8; batches are rows of a permutation drawn there. The same
seed on the same machine with the same number of threads gives the same weights bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from .classifier import autocast_dtype, classifier, evaluate, exact_kernels
from .components import ImageData, Model, Optimizer, Parameters
from .schema import digest

Progress = Callable[[int, int, float | None], None]
Around = Callable[[nn.Module, int], nn.Module]


class Training(Parameters):
    """How a network is trained, beside optimizer and seed.

    Attributes:
        epochs: most passes over the training pictures.
        batch_size: pictures a step; the incomplete last batch of an epoch is left out.
        validation: share of the training pictures held back, 0 for none.
        patience: epochs without a better validation accuracy after which training ends, 0 for never.
        schedule: learning rate after the warm-up, constant or half a cosine down to 0.
        warmup: share of all steps in which the learning rate rises linearly.
        selection: whose weights are kept: the last epoch's, or the last one's of best validation accuracy.
        version: raised when the trainer's meaning changes.
    """

    epochs: int = Field(15, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1, le=65_536)
    validation: float = Field(0.1, ge=0, lt=1)
    patience: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    selection: Literal["last", "validation"] = "validation"
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _selection_has_pictures(self) -> Self:
        if self.validation == 0 and (self.selection == "validation" or self.patience):
            raise ValueError("validation=0 leaves nothing to choose by; set selection=last and patience=0")
        return self


@dataclass(frozen=True)
class Trained:
    """A trained network that takes uint8 pictures, and how it got there. ``metrics`` is plain JSON.

    ``module`` is what ``around`` made of the network, where there was one.
    """

    module: nn.Module
    metrics: dict[str, Any]


def train(
    model: Model,
    optimizer: Optimizer,
    data: ImageData,
    training: Training,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    lr_factor: float = 1.0,
    around: Around | None = None,
) -> Trained:
    """Train ``model`` from a fresh initialization or given weights; test pictures are never looked at.

    Args:
        data: on any device; moved to ``device``.
        seed: fixes initialization, validation split, batch order and the network's own randomness.
        progress: called after each epoch with epochs done, epochs planned and validation accuracy.
        start: the state dictionary to start from, normalization of the input included; None for a fresh one.
        lr_factor: what the optimizer's learning rate is multiplied by.
        around: makes of the network and the number of steps planned the network that is trained in its place, such as
            one with quantized weights; called in training mode once a step. What it has of parameters beside the
            network's is learned by the same optimizer without weight decay.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
        ValueError: too few pictures to hold the validation share back.
    """
    device = torch.device(device)
    with _seeded(seed, device), exact_kernels():
        started = time.perf_counter()
        split = _Split.of(data, training.validation, seed, device)
        module: nn.Module = classifier(model, data.shape, data.classes, split.images)
        if start is not None:
            module.load_state_dict(start)
        module = module.to(device)
        rule, module = _prepared(module, optimizer, lr_factor, around, split.steps(training))
        metrics = _fit(module, rule, split, training, seed, progress)
        seconds = time.perf_counter() - started
    shown = metrics["epochs"] * len(split.labels)
    return Trained(module.eval(), {**metrics, "seconds": seconds, "images_per_second": shown / seconds})


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Layers draw from the global generators: seeded within the block, afterwards as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(_derived(seed, "initialization"))
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(_derived(seed, "network"))
        yield


def _derived(seed: int, purpose: str) -> int:
    return int(digest([seed, purpose])[:15], 16)


@dataclass(frozen=True)
class _Split:
    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor

    @classmethod
    def of(cls, data: ImageData, share: float, seed: int, device: torch.device) -> "_Split":
        """Random pictures held back; the same ones on every device."""
        count = len(data.train_labels)
        held = round(share * count)
        if held >= count or (share and not held):
            raise ValueError(f"validation={share} of {count} training pictures holds {held} back; change it")
        generator = torch.Generator().manual_seed(_derived(seed, "split"))
        order = torch.randperm(count, generator=generator).to(data.train_labels.device)
        images, labels = data.train_images[order].to(device), data.train_labels[order].to(device)
        return cls(images[held:], labels[held:], images[:held], labels[:held])

    def batch(self, training: Training) -> int:
        return min(training.batch_size, len(self.labels))

    def steps(self, training: Training) -> int:
        return training.epochs * (len(self.labels) // self.batch(training))


def pictures_of(data: ImageData, training: Training, seed: int) -> tuple[Tensor, Tensor]:
    """The training pictures that :func:`train` does not hold back, and their labels, in a random order."""
    split = _Split.of(data, training.validation, seed, data.train_images.device)
    return split.images, split.labels


def _prepared(
    module: nn.Module, optimizer: Optimizer, lr_factor: float, around: Around | None, steps: int
) -> tuple[torch.optim.Optimizer, nn.Module]:
    """The rule and the network that it trains."""
    rule = optimizer.build(module.parameters())
    network = module if around is None else around(module, steps)
    own = {id(parameter) for parameter in module.parameters()}
    added = [parameter for parameter in network.parameters() if id(parameter) not in own]
    if added:
        rule.add_param_group({"params": added, "weight_decay": 0.0})
    for group in rule.param_groups:
        group["lr"] *= lr_factor
    return rule, network


def _fit(
    module: nn.Module,
    rule: torch.optim.Optimizer,
    split: _Split,
    training: Training,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    device = split.images.device
    steps = split.steps(training)
    schedule = torch.optim.lr_scheduler.LambdaLR(rule, lambda step: rate_factor(step, steps, training))
    order = torch.Generator(device).manual_seed(_derived(seed, "order"))
    precision = autocast_dtype(device)
    history = _History(training)
    for epoch in range(training.epochs):
        shuffled = torch.randperm(len(split.labels), generator=order, device=device)
        loss = _epoch(
            module, rule, schedule, split, _full_batches(shuffled, split.batch(training)), precision
        )
        accuracy = history.note(module, loss, split)
        if progress is not None:
            progress(epoch + 1, training.epochs, accuracy)
        if history.exhausted:
            break
    history.choose(module)
    return {**history.metrics, "precision": str(precision or torch.float32).removeprefix("torch.")}


def _epoch(
    module: nn.Module,
    rule: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    split: _Split,
    batches: list[Tensor],
    precision: torch.dtype | None,
) -> float:
    """One pass over the batches; the mean loss. No step waits for the device."""
    module.train()
    total = torch.zeros((), dtype=torch.float64, device=split.images.device)
    for rows in batches:
        with torch.autocast(split.images.device.type, dtype=precision, enabled=precision is not None):
            logits = module(split.images[rows])
        loss = functional.cross_entropy(logits.float(), split.labels[rows])
        rule.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        rule.step()
        schedule.step()
        total += loss.detach()
    return float(total) / len(batches)


def _full_batches(order: Tensor, size: int) -> list[Tensor]:
    return [order[at : at + size] for at in range(0, len(order) - size + 1, size)]


class _History:
    """Losses and accuracies by epoch, and the weights to keep."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.best = 0
        self.weights: dict[str, Tensor] | None = None

    def note(self, module: nn.Module, loss: float, split: _Split) -> float | None:
        self.losses.append(loss)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of epoch {len(self.losses)} is {loss}; lower lr")
        if not len(split.validation_labels):
            return None
        hits = evaluate(module, split.validation_images).argmax(1) == split.validation_labels
        self.accuracies.append(int(hits.sum()) / len(hits))
        # of equal epochs the last: few validation pictures saturate long before training is done
        if self.accuracies[-1] == max(self.accuracies):
            self.best = len(self.accuracies) - 1
            if self.training.selection == "validation":
                self.weights = deepcopy(module.state_dict())
        return self.accuracies[-1]

    @property
    def exhausted(self) -> bool:
        if not self.training.patience:
            return False
        first_best = self.accuracies.index(max(self.accuracies))
        return len(self.accuracies) - 1 - first_best >= self.training.patience

    def choose(self, module: nn.Module) -> None:
        if self.weights is not None:
            module.load_state_dict(self.weights)

    @property
    def metrics(self) -> dict[str, Any]:
        last = self.training.selection == "last"
        return {
            "epochs": len(self.losses),
            "training_loss": self.losses,
            "validation_accuracy": self.accuracies,
            "selection": self.training.selection,
            "selected_epoch": len(self.losses) if last else self.best + 1,
        }


def rate_factor(step: int, steps: int, training: Training) -> float:
    """What the learning rate is multiplied by at ``step`` of ``steps``: warm-up, then the schedule.

    cosine: (1 + cos(pi t)) / 2, t from 0 after the warm-up to 1 at the end.

    Reference: Loshchilov, Hutter, SGDR, 2017, equation 5.
    """
    warm = round(training.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if training.schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
