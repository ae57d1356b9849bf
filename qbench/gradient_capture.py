"""What the gradients of a training were, kept within bounds while it runs.

Nothing of the training changes: random states, buffers and gradients are afterwards what they were without it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from .classifier import cross_entropy
from .errors import InputError
from .gradient_sampling import LENGTH, Site, Window, shares, windows
from .layers import weight_tensors
from .training import Watch

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def exact_loss(module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy in float32, whatever precision the network is trained in."""
    return cross_entropy(module(inputs), labels)


class Pair(NamedTuple):
    """Squared norms of a step, for every layer, float64 [layers].

    With g(w, b) the gradient of batch b at weights w, all but the last by the capture's own loss:

    - ``gradient``: g(w_t, b_t); ``update``: w_t+1 - w_t.
    - ``drift``: g(w_t+1, b_t) - g(w_t, b_t), the same batch after the update.
    - ``noise``: g(w_t+1, b_t+1) - g(w_t+1, b_t), another batch at the same weights.
    - ``increment``: the sum of these two. Both are None for the last step of a training.
    """

    step: int
    gradient: Tensor
    update: Tensor
    drift: Tensor
    noise: Tensor | None = None
    increment: Tensor | None = None


class Snapshot(NamedTuple):
    """The gradient at a step, evaluated again, and the update that the optimizer made of it: a matrix a layer."""

    step: int
    gradients: list[Tensor]
    updates: list[Tensor]


@final
@dataclass
class Record:
    """What was kept of a window; samples are [coordinates of all sites], one for every step."""

    window: Window
    gradients: list[Tensor] = field(default_factory=list)
    updates: list[Tensor] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        matrices = [x for one in self.snapshots for x in (*one.gradients, *one.updates)]
        return sum(x.nbytes for x in (*self.gradients, *self.updates, *matrices))


class _Before(NamedTuple):
    """What stood before the optimizer's step at a paired step."""

    inputs: Tensor
    labels: Tensor
    gradients: list[Tensor]
    weights: list[Tensor]


@final
class Capture(Watch):
    """Keeps gradients and updates of a training in three windows, float32.

    At every step of a window: the gradient as the optimizer got it, and the update, each at a fixed stratified sample
    of ``coordinates`` weights. At its paired steps the batch is evaluated again by ``loss`` before and after the
    update, with the random numbers that it was trained with; squared norms of whole tensors are kept (:class:`Pair`).
    At its snapshots a submatrix of every layer, ``matrices`` coordinates in all.

    Kept are at most 3 x 4 bytes x 2 x (length x coordinates + snapshots x matrices); while a step is paired, two more
    copies of gradient and weights. Only weights that :func:`qbench.layers.weight_tensors` lists count: no biases.

    Gradients that were computed in bfloat16 lie on its grid of 8 bits, and weights rounded to it do not notice small
    updates: figures of them are figures of that grid. ``loss`` therefore is one in float32; pass
    :func:`qbench.training.mean_loss` for gradients in the trainer's precision.

    Args:
        loss: takes network, inputs and labels.
        length: most steps of a window.
        seed: of which coordinates are looked at.
    """

    def __init__(
        self,
        *,
        loss: Loss = exact_loss,
        length: int = LENGTH,
        snapshots: int = 6,
        coordinates: int = 2**16,
        matrices: int = 2**19,
        seed: int = 0,
    ) -> None:
        self.loss, self.length, self.snapshots, self.seed = loss, length, snapshots, seed
        self.coordinates, self.matrices = coordinates, matrices
        self.sites: list[Site] = []
        self.records: list[Record] = []
        self.steps = 0

    def begin(self, module: nn.Module, steps: int) -> None:
        """Raises: InputError: as :func:`windows`, or a network without layers that have weights."""
        weights = weight_tensors(module)
        if not weights:
            raise InputError("the network has no linear or convolutional layer whose gradient could be kept")
        self._module, self._weights = module, [weight.parameter for weight in weights]
        sizes = [parameter.numel() for parameter in self._weights]
        budgets = zip(weights, shares(sizes, self.coordinates), shares(sizes, self.matrices), strict=True)
        self.sites = [Site.of(w.name, w.kind, w.parameter, n, kept, self.seed) for w, n, kept in budgets]
        self.records = [Record(window) for window in windows(steps, self.length, self.snapshots)]
        self.steps, self._last = 0, None
        self._arrive()

    def before(self, inputs: Tensor, labels: Tensor) -> None:
        gradients = self._standing
        if self._last is not None:
            self._complete(gradients)
        if self._record is None:
            return
        self._record.gradients.append(self._sample(gradients))
        self._old = self._sample(self._weights)
        if self.steps in self._record.window.paired:
            again = self._again(inputs, labels)
            self._before = _Before(inputs, labels, again, [w.detach().clone() for w in self._weights])

    def after(self) -> None:
        if self._record is not None:
            self._record.updates.append(self._sample(self._weights) - self._old)
            if self.steps in self._record.window.paired:
                self._pair(self._record, self._before)
                del self._before
        self.steps += 1
        self._arrive()

    def series(self, samples: Sequence[Tensor]) -> list[Tensor]:
        """A record's samples for every site, [steps, coordinates], on the CPU."""
        parts = [len(site.coordinates) for site in self.sites]
        return list(torch.split(torch.stack(list(samples)).cpu(), parts, 1))

    def _arrive(self) -> None:
        """What the next step draws is known before it starts."""
        inside = (r for r in self.records if r.window.start <= self.steps < r.window.stop)
        self._record = next(inside, None)
        if self._record is not None and self.steps in self._record.window.paired:
            self._random = _random_state(self._weights[0].device)

    @property
    def _standing(self) -> list[Tensor]:
        """The gradients that stand in the parameters; zeros where the loss does not depend on one."""
        return [torch.zeros_like(w) if w.grad is None else w.grad for w in self._weights]

    def _sample(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([site.sample(x) for site, x in zip(self.sites, tensors, strict=True)])

    def _again(self, inputs: Tensor, labels: Tensor) -> list[Tensor]:
        plain = torch.autocast(inputs.device.type, enabled=False)
        with _left_alone(self._module, self._random), torch.enable_grad(), plain:
            value = self.loss(self._module, inputs, labels)
            found = torch.autograd.grad(value, self._weights, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(self._weights, found, strict=True)]

    def _pair(self, record: Record, before: _Before) -> None:
        after = self._again(before.inputs, before.labels)
        updates = [w.detach() - old for w, old in zip(self._weights, before.weights, strict=True)]
        drift = _squared(_minus(after, before.gradients))
        record.pairs.append(Pair(self.steps, _squared(before.gradients), _squared(updates), drift))
        self._last = record, before.gradients, after
        if self.steps in record.window.snapshots:
            matrices = (
                [site.matrix(x) for site, x in zip(self.sites, tensors, strict=True)]
                for tensors in (before.gradients, updates)
            )
            record.snapshots.append(Snapshot(self.steps, *matrices))

    def _complete(self, gradients: list[Tensor]) -> None:
        """What the batch after a paired step tells of it."""
        assert self._last is not None
        record, old, after = self._last
        noise, increment = (_squared(_minus(gradients, x)) for x in (after, old))
        record.pairs[-1] = record.pairs[-1]._replace(noise=noise, increment=increment)
        self._last = None

    _module: nn.Module
    _weights: list[nn.Parameter]
    _record: Record | None
    _last: tuple[Record, list[Tensor], list[Tensor]] | None
    _before: _Before
    _random: tuple[Tensor, Tensor | None]
    _old: Tensor


def _minus(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    return [a - b for a, b in zip(first, second, strict=True)]


def _squared(tensors: Sequence[Tensor]) -> Tensor:
    """Squared norms, float64 [tensors]."""
    return torch.stack([torch.linalg.vector_norm(x.detach()).double().square() for x in tensors])


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def _left_alone(module: nn.Module, random: tuple[Tensor, Tensor | None]) -> Iterator[None]:
    """Within the block random numbers are drawn from that state; afterwards they and all buffers are as before."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    device = next(module.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(random[0])
        if random[1] is not None:
            torch.cuda.set_rng_state(random[1], device)
        yield
    for buffer, value in buffers:
        buffer.copy_(value)
