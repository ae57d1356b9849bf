"""What calibration pictures say about the layers of a network: importances, input moments, output errors."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from .classifier import cross_entropy, exact_kernels
from .layers import LAYERS, Weight, unfolded, weight_tensors

_BATCH = 32


@dataclass(frozen=True)
class Given:
    """What a quantizer finds in its context; ``None`` is what it does not need."""

    importance: Tensor | None = None
    gram: Tensor | None = None
    loss: Callable[[Tensor], Tensor] | None = None


@final
class Calibration:
    """A network, pictures, and what its quantizers need of them, layer by layer.

    Grams and losses are those of a layer whose inputs come from a network in which earlier layers already hold
    their decoded weights: ask for layers in forward order, and :meth:`replace` each. Importances are those of the
    float network. A weight that several layers share, or that one layer uses several times, is calibrated on all its
    inputs. ``seconds`` is the time it all took.

    Args:
        module: the float network, from ``images`` to logits; it is copied.
        images: calibration pictures, none of them a test picture. labels: their classes, [n].
        needs: some of importance, gram, loss.
    """

    def __init__(self, module: nn.Module, images: Tensor, labels: Tensor, needs: frozenset[str]) -> None:
        self.needs, self.seconds = needs, 0.0
        self._images, self._float, self._quantized = images, deepcopy(module).eval(), deepcopy(module).eval()
        with self._timed():
            self._uses = forward_uses(self._float, images[:_BATCH])
            wanted = "importance" in needs
            self._importance = empirical_fisher(self._float, images, labels) if wanted else {}

    @property
    def sequential(self) -> bool:
        """Whether a layer's context depends on the decoded weights of earlier ones."""
        return bool(self.needs & {"gram", "loss"})

    def reachable(self, weights: Sequence[Weight]) -> list[Weight]:
        """Those that the pictures reach, in forward order. Only they can be calibrated."""
        order = {name: position for position, name in enumerate(self._uses)}
        known = [weight for weight in weights if not self.sequential or weight.name in order]
        known = [
            weight for weight in known if "importance" not in self.needs or weight.name in self._importance
        ]
        return sorted(known, key=lambda weight: order.get(weight.name, len(order)))

    def of(self, weight: Weight) -> Given:
        """The context of a reachable weight, with all weights that were replaced until now."""
        moments = None
        with self._timed():
            if self.sequential:
                moments = self._moments(weight.name)
        return Given(
            self._importance.get(weight.name),
            moments.gram.mean(0) if moments is not None and "gram" in self.needs else None,
            moments.loss if moments is not None and "loss" in self.needs else None,
        )

    def replace(self, name: str, decoded: Tensor) -> None:
        """From now on later layers see this weight as decoded."""
        self._quantized.get_parameter(name).data.copy_(decoded)

    def _moments(self, name: str) -> "Moments":
        weight, uses = self._float.get_parameter(name).detach(), self._uses[name]
        sums = _Sums(weight)
        for at in range(0, len(self._images), _BATCH):
            batch = self._images[at : at + _BATCH]
            inputs = layer_inputs(self._quantized, name, batch, uses)
            exact = layer_inputs(self._float, name, batch, uses) if "loss" in self.needs else inputs
            for (layer, x), (_, float_x) in zip(inputs, exact, strict=True):
                sums.add(unfolded(layer, x), None if exact is inputs else unfolded(layer, float_x))
        return sums.means()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = _clock(self._images)
        yield
        self.seconds += _clock(self._images) - started


def _clock(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


@final
@dataclass(frozen=True)
class Moments:
    """Second moments of a layer's inputs x~, and of e = W (x~ - x), what earlier layers did to its output.

    Attributes:
        weight: W as rows by group, [groups, out, inputs]; out and inputs are those of a group.
        gram: mean of x~ x~^T over pictures and positions, [groups, inputs, inputs].
        cross: mean of e x~^T, [groups, out, inputs]. floor: mean of e^2, also over outputs, [].
        rows: x~ and e themselves where there are no more of them than inputs, [groups, positions, inputs or out].
    """

    weight: Tensor
    gram: Tensor
    cross: Tensor
    floor: Tensor
    rows: tuple[Tensor, Tensor] | None

    def loss(self, reconstruction: Tensor) -> Tensor:
        """mean |W~ x~ - W x|^2 over pictures, positions and outputs, for a W~ of the weight's shape; differentiable.

        With D = W~ - W the output's error is D x~ + e, and the mean of its square that of D G D^T + 2 D x~ e^T + e^2:
        exact over all positions, at a cost that does not grow with their number.

        Reference: Nagel, Amjad, van Baalen, Louizos, Blankevoort 2020, "Up or Down? Adaptive Rounding for
        Post-Training Quantization", section 3.3: asymmetric reconstruction, here without the activation function.
        """
        change = reconstruction.to(self.gram.dtype).reshape(self.weight.shape) - self.weight
        if self.rows is not None:
            x, error = self.rows
            return (x @ change.mT + error).square().mean()
        # D (2 P + 2 C) - D P with P held fixed: the same value, and a gradient without a second product
        outputs, fixed = self.weight.shape[0] * self.weight.shape[1], change.detach()
        product = fixed @ self.gram
        sums = 2 * (change * (product + self.cross)).sum() - (fixed * product).sum()
        return sums / outputs + self.floor


class _Sums:
    """Moments while they are added up."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.count = weight, 0
        self.gram = self.cross = weight.new_zeros(0)
        self.floor = weight.new_zeros(())
        self.rows: list[tuple[Tensor, Tensor]] = []

    def add(self, x: Tensor, exact: Tensor | None) -> None:
        """Inputs as rows by group, [groups, positions, inputs], of the quantized and of the float network."""
        groups, positions, inputs = x.shape
        if not self.count:
            self.weight = self.weight.reshape(groups, -1, inputs)
            self.gram = x.new_zeros(groups, inputs, inputs)
            self.cross = torch.zeros_like(self.weight)
        self.count += positions
        self.gram.baddbmm_(x.mT, x)
        if exact is not None:
            error = (x - exact) @ self.weight.mT
            self.cross.baddbmm_(error.mT, x)
            self.floor += error.square().sum()
            self.rows = [*self.rows, (x, error)] if self.count <= inputs else []

    def means(self) -> Moments:
        outputs = self.weight.shape[0] * self.weight.shape[1]
        x, error = (
            (torch.cat(parts, 1) for parts in zip(*self.rows, strict=True)) if self.rows else (None, None)
        )
        return Moments(
            self.weight,
            self.gram / self.count,
            self.cross / self.count,
            self.floor / (self.count * outputs),
            None if x is None or error is None else (x, error),
        )


def empirical_fisher(module: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per weight and element: the mean over pictures of the squared gradient of the picture's own cross-entropy.

    By the weight's name, of its shape; a weight that the pictures do not reach is left out. ``module`` is in
    evaluation mode.

    Reference: Choi, El-Khamy, Lee 2017, "Towards the Limit of Network Quantization", which proposes second moments
    of gradients in place of the diagonal of the Hessian.
    """
    weights = weight_tensors(module)
    parameters = [weight.parameter.requires_grad_() for weight in weights]
    sums: dict[str, Tensor] = {}
    with _exactly(images), torch.enable_grad():
        for at in range(len(images)):
            loss = cross_entropy(module(images[at : at + 1]), labels[at : at + 1])
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for weight, gradient in zip(weights, found, strict=True):
                if gradient is not None:
                    total = sums.setdefault(weight.name, torch.zeros_like(gradient))
                    total.addcmul_(gradient, gradient)
    return {name: total / len(images) for name, total in sums.items()}


def forward_uses(module: nn.Module, images: Tensor) -> dict[str, int]:
    """How often each weight is used in a forward pass, by name, in the order of first use."""
    names = {id(weight.parameter): weight.name for weight in weight_tensors(module)}
    uses: dict[str, int] = {}

    def count(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = names[id(layer.weight)]
        uses[name] = uses.get(name, 0) + 1

    layers = [part for part in _layers(module) if id(part._parameters.get("weight")) in names]
    with _watched(layers, count), _exactly(images), torch.no_grad():
        module(images)
    return uses


def layer_inputs(module: nn.Module, name: str, images: Tensor, uses: int) -> list[tuple[nn.Module, Tensor]]:
    """The first ``uses`` inputs that meet a weight, with the layers that hold it; what comes later is not computed."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # a copy: later operations may write into their input
        seen.append((layer, (args[0] if args else kwargs["input"]).detach().float().clone()))
        if len(seen) == uses:
            raise _EnoughError

    weight = module.get_parameter(name)
    layers = [part for part in _layers(module) if part._parameters.get("weight") is weight]
    with _watched(layers, keep), _exactly(images), torch.no_grad(), suppress(_EnoughError):
        module(images)
    return seen


class _EnoughError(Exception):
    """Ends a forward pass."""


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if isinstance(part, LAYERS))


@contextmanager
def _watched(layers: Sequence[nn.Module], hook: Callable[..., None]) -> Iterator[None]:
    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _exactly(images: Tensor) -> Iterator[None]:
    with exact_kernels(), torch.autocast(images.device.type, enabled=False):
        yield
