"""The one trainer of networks that classify pictures or predict characters.

The whole data set lies on the device as uint8; batches are rows of a permutation drawn there. The same
seed on the same machine with the same number of threads gives the same weights bit for bit.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from .batches import Batches, Split
from .classifier import autocast_dtype, classifier, cross_entropy, evaluate, exact_kernels
from .components import Examples, Model, Optimizer, Parameters
from .energy import Meter
from .errors import ParameterError
from .schema import derived_seed

Progress = Callable[[int, int, float | None], None]
Around = Callable[[nn.Module, int], nn.Module]
Backward = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Updated(ABC):
    """What a network that is trained may also be: one that is told of every update of its parameters."""

    @abstractmethod
    def updated(self) -> None:
        """The optimizer has taken a step."""


class Watch(ABC):
    """Who sees every step of a training and changes nothing of it: neither parameters nor random states."""

    @abstractmethod
    def begin(self, module: nn.Module, steps: int) -> None:
        """The network is about to be trained, for ``steps`` steps at most."""

    @abstractmethod
    def before(self, inputs: Tensor, labels: Tensor) -> None:
        """The batch's gradient stands in the parameters, the optimizer has not yet taken its step."""

    @abstractmethod
    def after(self) -> None:
        """The optimizer has taken its step; the gradient still stands there."""


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
        crop: pixels of zeros around a picture, of which a piece of its old size is cut at random in every step.
        flip: whether left and right of a picture are exchanged at random in every step.
        version: raised when the trainer's meaning changes.
    """

    epochs: int = Field(15, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1, le=65_536)
    validation: float = Field(0.1, ge=0, lt=1)
    patience: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    selection: Literal["last", "validation"] = "validation"
    crop: int = Field(0, ge=0, le=64)
    flip: bool = False
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _selection_has_pictures(self) -> Self:
        if self.validation == 0 and (self.selection == "validation" or self.patience):
            raise ValueError("validation=0 leaves nothing to choose by; set selection=last and patience=0")
        return self


@dataclass(frozen=True)
class Trained:
    """A trained network that takes uint8 inputs, and how it got there. ``metrics`` is plain JSON.

    ``epoch_seconds`` is the time of each pass over the training examples, without the validation that follows it, and
    ``epoch_joules`` what the device's counter says of it, None without one (:mod:`qbench.energy`).
    ``module`` is what ``around`` made of the network, where there was one.
    """

    module: nn.Module
    metrics: dict[str, Any]


def train(
    model: Model,
    optimizer: Optimizer,
    data: Examples,
    training: Training,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    *,
    start: Mapping[str, Tensor] | None = None,
    lr_factor: float = 1.0,
    around: Around | None = None,
    backward: Backward | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train ``model`` from a fresh initialization or given weights; test examples decide nothing.

    Of them the accuracy of the last epoch's weights is noted, so that it stands beside that of the weights kept.

    Args:
        data: on any device; moved to ``device``.
        seed: fixes initialization, validation split, batch order and the network's own randomness.
        progress: called after each epoch with epochs done, epochs planned and validation accuracy.
        start: the state dictionary to start from, normalization of the input included; None for a fresh one.
        lr_factor: what the optimizer's learning rate is multiplied by.
        around: makes of the network and the number of steps planned the network that is trained in its place, such as
            one with quantized weights; called in training mode once a step, and told of every update where it is
            :class:`Updated`. What it has of parameters beside the network's is learned by the same optimizer without
            weight decay.
        backward: takes the network, a batch and its labels, leaves a gradient in the parameters and returns the loss;
            :func:`plain_backward`, if None.
        watch: is shown every step.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
        ParameterError: text that is to be cropped or flipped.
        ValueError: too few examples to hold the validation share back.
    """
    device = torch.device(device)
    if data.inputs == "text" and (training.crop or training.flip):
        raise ParameterError(
            f"crop={training.crop}, flip={training.flip} change pictures, and these examples are text; "
            "set crop=0 and flip=false"
        )
    with _seeded(seed, device), exact_kernels():
        started = time.perf_counter()
        split = Split.of(data, training.validation, seed, device)
        batches = Batches(split, training.batch_size, seed, crop=training.crop, flip=training.flip)
        module: nn.Module = classifier(model, data.shape, data.classes, split.inputs)
        if start is not None:
            module.load_state_dict(start)
        module = module.to(device)
        rule, module = _prepared(module, optimizer, lr_factor, around, training.epochs * len(batches))
        if watch is not None:
            watch.begin(module, training.epochs * len(batches))
        steps = _Steps(module, rule, backward or plain_backward, watch)
        history = _fit(steps, batches, training, progress)
        last = _test_accuracy(module, data, device)
        history.choose(module)
        seconds = time.perf_counter() - started
    metrics = {**history.metrics, "last_test_accuracy": last, "seconds": seconds}
    shown = metrics["epochs"] * metrics["epoch_examples"]
    return Trained(module.eval(), {**metrics, "examples_per_second": shown / seconds})


def _test_accuracy(module: nn.Module, data: Examples, device: torch.device) -> float | None:
    if not len(data.test_labels):
        return None
    hits = evaluate(module, data.test_inputs).argmax(1) == data.test_labels.flatten().to(device)
    return int(hits.sum()) / len(hits)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Layers draw from the global generators: seeded within the block, afterwards as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(derived_seed(seed, "initialization"))
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(derived_seed(seed, "network"))
        yield


def training_examples(data: Examples, training: Training, seed: int) -> tuple[Tensor, Tensor]:
    """The training inputs that :func:`train` does not hold back, and their labels, in a random order."""
    split = Split.of(data, training.validation, seed, data.train_inputs.device)
    return split.inputs, split.labels


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
    if isinstance(network, Updated):
        updated = network.updated
        rule.register_step_post_hook(lambda *_: updated())
    return rule, network


def mean_loss(module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy, in the precision in which networks are trained on the inputs' device."""
    precision = autocast_dtype(inputs.device)
    with torch.autocast(inputs.device.type, dtype=precision, enabled=precision is not None):
        logits = module(inputs)
    return cross_entropy(logits, labels)


def plain_backward(module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of a batch, and its gradient in the parameters."""
    loss = mean_loss(module, inputs, labels)
    module.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


@dataclass(frozen=True)
class _Steps:
    """What a step is made of."""

    module: nn.Module
    rule: torch.optim.Optimizer
    backward: Backward
    watch: Watch | None

    def take(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss before the step."""
        loss = self.backward(self.module, inputs, labels)
        if self.watch is None:
            self.rule.step()
            return loss
        self.watch.before(inputs, labels)
        self.rule.step()
        self.watch.after()
        return loss


def _fit(steps: _Steps, batches: Batches, training: Training, progress: Progress | None) -> "_History":
    """Train to the last epoch."""
    planned = training.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        steps.rule, lambda step: rate_factor(step, planned, training)
    )
    history = _History(training, batches)
    for epoch in range(training.epochs):
        meter, started = Meter(batches.split.inputs.device), time.perf_counter()
        loss = _epoch(steps, schedule, batches)
        accuracy = history.note(steps.module, loss, time.perf_counter() - started, meter.joules())
        if progress is not None:
            progress(epoch + 1, training.epochs, accuracy)
        if history.exhausted:
            break
    return history


def _epoch(steps: _Steps, schedule: torch.optim.lr_scheduler.LRScheduler, batches: Batches) -> float:
    """One pass over the batches; the mean loss. No step waits for the device."""
    steps.module.train()
    total = torch.zeros((), dtype=torch.float64, device=batches.split.inputs.device)
    for inputs, labels in batches:
        total += steps.take(inputs, labels)
        schedule.step()
    return float(total) / len(batches)


class _History:
    """Losses, times and accuracies by epoch, and the weights to keep."""

    def __init__(self, training: Training, batches: Batches) -> None:
        self.training, self.batches = training, batches
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.joules: list[float | None] = []
        self.accuracies: list[float] = []
        self.validation_losses: list[float] = []
        self.best = 0
        self.weights: dict[str, Tensor] | None = None

    def note(self, module: nn.Module, loss: float, seconds: float, joules: float | None) -> float | None:
        self.losses.append(loss)
        self.seconds.append(seconds)
        self.joules.append(joules)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of epoch {len(self.losses)} is {loss}; lower lr")
        split = self.batches.split
        if not len(split.validation_labels):
            return None
        logits = evaluate(module, split.validation_inputs)
        self.validation_losses.append(float(cross_entropy(logits, split.validation_labels)))
        hits = logits.argmax(1) == split.validation_labels.flatten()
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
        last, split = self.training.selection == "last", self.batches.split
        return {
            "epochs": len(self.losses),
            "training_loss": self.losses,
            "epoch_seconds": self.seconds,
            "epoch_joules": self.joules,
            "epoch_examples": len(self.batches) * self.batches.size,
            "validation_accuracy": self.accuracies,
            "validation_loss": self.validation_losses,
            "validation_predictions": split.validation_labels.numel(),
            "selection": self.training.selection,
            "selected_epoch": len(self.losses) if last else self.best + 1,
            "precision": str(autocast_dtype(split.inputs.device) or torch.float32).removeprefix("torch."),
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
