"""What the gradients of a training were, kept within bounds while it runs.

Nothing of the training changes: random states, buffers and gradients are afterwards what they were without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from .capture import left_alone, output_gradients, random_state
from .classifier import cross_entropy
from .errors import InputError
from .gradient_sampling import LENGTH, Site, Window, shares, windows
from .layers import weight_tensors
from .training import Watch

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Gradient = Literal["weights", "outputs"]


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

    Of outputs, whose coordinates are other pictures in another batch, there are ``gradient`` and ``drift`` alone.
    """

    step: int
    gradient: Tensor
    update: Tensor | None
    drift: Tensor
    noise: Tensor | None = None
    increment: Tensor | None = None


class Snapshot(NamedTuple):
    """The gradient at a step, evaluated again, and the optimizer's update, where there is one: a matrix a layer."""

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
    """What stood before the optimizer's step at a paired step; ``weights`` where updates are looked at."""

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

    gradient=outputs: what :func:`qbench.capture.output_gradients` gives, rows are output channels as those of a weight
    are, columns pictures and positions. Such a gradient is looked at in paired steps alone, on the batch of the step,
    so that nothing is followed from step to step but its drift. ``sites`` are known once one was.

    Gradients that were computed in bfloat16 lie on its grid of 8 bits, and weights rounded to it do not notice small
    updates: figures of them are figures of that grid. ``loss`` therefore is one in float32; pass
    :func:`qbench.training.mean_loss` for gradients in the trainer's precision.

    Args:
        gradient: of the loss for each layer's weight, or for its output.
        loss: takes network, inputs and labels.
        length: most steps of a window.
        seed: of which coordinates are looked at.
    """

    def __init__(
        self,
        *,
        gradient: Gradient = "weights",
        loss: Loss = exact_loss,
        length: int = LENGTH,
        snapshots: int = 6,
        coordinates: int = 2**16,
        matrices: int = 2**19,
        seed: int = 0,
    ) -> None:
        self.gradient, self.loss, self.seed = gradient, loss, seed
        self.length, self.snapshots = length, snapshots
        self.coordinates, self.matrices = coordinates, matrices
        self.sites: list[Site] = []
        self.records: list[Record] = []
        self.steps = 0

    def begin(self, module: nn.Module, steps: int) -> None:
        """Raises: InputError: as :func:`windows`, or a network without layers that have weights."""
        weights = weight_tensors(module)
        if not weights:
            raise InputError("the network has no linear or convolutional layer whose gradient could be kept")
        self._module, self._weights, self.sites = module, [weight.parameter for weight in weights], []
        if self._follows:
            self._settle({weight.name: weight.parameter for weight in weights}, self.coordinates)
        self.records = [Record(window) for window in windows(steps, self.length, self.snapshots)]
        self.steps, self._last = 0, None
        self._arrive()

    def before(self, inputs: Tensor, labels: Tensor) -> None:
        if self._follows:
            self._follow()
        if self._record is not None and self.steps in self._record.window.paired:
            again = self._again(inputs, labels)
            weights = [w.detach().clone() for w in self._weights] if self._follows else []
            self._before = _Before(inputs, labels, again, weights)

    def after(self) -> None:
        if self._record is not None:
            if self._follows:
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

    @property
    def _follows(self) -> bool:
        """Whether a coordinate is the same thing in every step."""
        return self.gradient == "weights"

    def _settle(self, tensors: Mapping[str, Tensor], coordinates: int) -> None:
        """Where to look in these, by the name of a weight."""
        kinds = {weight.name: weight.kind for weight in weight_tensors(self._module)}
        sizes = [x.numel() for x in tensors.values()]
        budgets = zip(tensors.items(), shares(sizes, coordinates), shares(sizes, self.matrices), strict=True)
        for (name, x), sampled, kept in budgets:
            own = name if self._follows else f"{name.removesuffix('weight')}output"
            self.sites.append(Site.of(own, kinds[name], x, sampled, kept, self.seed))

    def _follow(self) -> None:
        gradients = self._standing
        if self._last is not None:
            self._complete(gradients)
        if self._record is not None:
            self._record.gradients.append(self._sample(gradients))
            self._old = self._sample(self._weights)

    def _arrive(self) -> None:
        """What the next step draws is known before it starts."""
        inside = (r for r in self.records if r.window.start <= self.steps < r.window.stop)
        self._record = next(inside, None)
        if self._record is not None and self.steps in self._record.window.paired:
            self._random = random_state(self._weights[0].device)

    @property
    def _standing(self) -> list[Tensor]:
        """The gradients that stand in the parameters; zeros where the loss does not depend on one."""
        return [torch.zeros_like(w) if w.grad is None else w.grad for w in self._weights]

    def _sample(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([site.sample(x) for site, x in zip(self.sites, tensors, strict=True)])

    def _again(self, inputs: Tensor, labels: Tensor) -> list[Tensor]:
        plain = torch.autocast(inputs.device.type, enabled=False)
        with left_alone(self._module, self._random), torch.enable_grad(), plain:
            if not self._follows:
                return self._of_outputs(inputs, labels)
            value = self.loss(self._module, inputs, labels)
            found = torch.autograd.grad(value, self._weights, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(self._weights, found, strict=True)]

    def _of_outputs(self, inputs: Tensor, labels: Tensor) -> list[Tensor]:
        found = output_gradients(self._module, lambda: self.loss(self._module, inputs, labels))
        if not self.sites:
            self._settle(found, 0)
        return list(found.values())

    def _pair(self, record: Record, before: _Before) -> None:
        after = self._again(before.inputs, before.labels)
        updates = _minus([w.detach() for w in self._weights], before.weights) if self._follows else []
        drift = _squared(_minus(after, before.gradients))
        moved = _squared(updates) if self._follows else None
        record.pairs.append(Pair(self.steps, _squared(before.gradients), moved, drift))
        if self._follows:
            self._last = record, before.gradients, after
        if self.steps in record.window.snapshots:
            kept = self._matrices(before.gradients), self._matrices(updates) if self._follows else []
            record.snapshots.append(Snapshot(self.steps, *kept))

    def _matrices(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [site.matrix(x) for site, x in zip(self.sites, tensors, strict=True)]

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
