"""Data-parallel training: a part of the batch for each worker, whose coded gradients everyone adds up in one order.

What a step is, whichever way it is executed (:class:`Simulated` here, :mod:`qbench.data_parallel_worker` in processes):

- Worker w has the w-th of K equal parts of the batch and computes its mean loss and gradient. What layers draw at
  random (dropout) comes from the global generator, seeded by training seed, step and worker.
- It codes its gradient, every parameter in a stream of its own or all of them as one vector, in the order of
  ``named_parameters``; buckets of the communication change nothing.
- Everyone adds up the reconstructions, worker 0 first, and divides by K. That is the gradient the optimizer sees.
- Buffers (the running means of batch normalization) are afterwards those of worker 0, which normalized its own part.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor, nn

from .channel import Channel, Sent
from .components import Collective, Quantizer
from .errors import InputError
from .measuring import Distortion, clock
from .message import is_coded
from .schema import derived_seed
from .training import mean_loss

Granularity = Literal["layer", "model"]
_WHOLE = "model"
_FLOAT = 4


@final
@dataclass(frozen=True)
class Scheme:
    """How gradients travel.

    Attributes:
        quantizer: codes them; None sends float32.
        granularity: layer: every parameter is a message; model: all of them are one vector, in one message.
        seed: of the training; what encoders and layers draw follows from it.
    """

    quantizer: Quantizer | None
    workers: int
    error_feedback: bool
    granularity: Granularity
    seed: int

    @property
    def all_reducible(self) -> bool:
        """Whether what travels can be added up on the way: floats, or messages of a :class:`Collective`."""
        return self.quantizer is None or isinstance(self.quantizer, Collective)

    def channel(self) -> Channel | None:
        """The sender's side of every worker in this process."""
        if self.quantizer is None:
            return None
        return Channel(self.quantizer, error_feedback=self.error_feedback, seed=self.seed)

    def part(self, batch: Tensor, worker: int) -> Tensor:
        """That worker's part of a batch.

        Raises:
            InputError: the batch has no K equal parts.
        """
        if len(batch) % self.workers:
            raise InputError(
                f"a batch of {len(batch)} examples has no {self.workers} equal parts; choose a batch_size that "
                "workers divides, and not more than the examples there are"
            )
        return batch.chunk(self.workers)[worker]

    def loss(
        self, module: nn.Module, network: nn.Module, inputs: Tensor, labels: Tensor, step: int, worker: int
    ) -> Tensor:
        """That worker's mean loss in that step; gradients of ``module`` are gone, those to come are its own.

        Args:
            network: what computes: ``module`` or what is around it.

        Raises:
            FloatingPointError: it is not finite.
        """
        _seed(derived_seed("worker", self.seed, step, worker), inputs.device)
        loss = mean_loss(network, self.part(inputs, worker), self.part(labels, worker))
        module.zero_grad()
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(
                f"the loss of worker {worker} in step {step} is {float(loss.detach())}; lower lr"
            )
        return loss

    def sites(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What travels, by its stream, of gradients by the name of their parameter.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        for name, gradient in gradients.items():
            if not bool(torch.isfinite(gradient).all()):
                raise FloatingPointError(f"the gradient of {name} has values that are not finite; lower lr")
        if self.granularity == "layer":
            return dict(gradients)
        return {_WHOLE: torch.cat([gradient.reshape(-1) for gradient in gradients.values()])}

    def parameters_of(
        self, sites: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
    ) -> dict[str, Tensor]:
        """The inverse of :meth:`sites`."""
        if self.granularity == "layer":
            return dict(sites)
        parts = torch.split(sites[_WHOLE], [shape.numel() for shape in shapes.values()])
        return {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}


@final
@dataclass
class Traffic:
    """What one worker has sent and received so far, and how well; plain numbers, :func:`vars` is JSON.

    Attributes:
        up_nbytes: bytes it sent; down_nbytes: bytes it received: the messages of the K - 1 others, or, where they are
            added up on the way, one mean.
        epochs: the two after every epoch.
        errors: ``|g^ - g|^2 / |g|^2`` of every step, over its whole gradient.
        projections: ``<g^, g> / |g|^2`` likewise.
        coded: whether a message was entropy-coded.
    """

    up_nbytes: int = 0
    down_nbytes: int = 0
    epochs: list[tuple[int, int]] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    projections: list[float] = field(default_factory=list)
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    coded: bool = False

    def sent(self, message: Sent, nbytes: int) -> None:
        self.up_nbytes += nbytes
        self.encode_seconds += message.encode_seconds
        self.coded = self.coded or is_coded(message.codes) or is_coded(message.codebook)

    def reconstructed(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Note a step's gradient and reconstruction, in pieces."""
        parts = [Distortion.between(x, y) for x, y in pairs]
        energy = math.fsum(part.energy for part in parts)
        self.errors.append(math.fsum(part.error for part in parts) / energy if energy else 0.0)
        self.projections.append(math.fsum(part.product for part in parts) / energy if energy else 1.0)

    def end_epoch(self) -> None:
        self.epochs.append((self.up_nbytes, self.down_nbytes))


@final
class Simulated:
    """All workers in turn in this process; a :data:`qbench.training.Backward`."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.traffic = [Traffic() for _ in range(scheme.workers)]
        self._channel = scheme.channel()
        self._step = 0

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        losses, gradients = self._gradients(module, inputs, labels)
        sites = [self.scheme.sites(of_one) for of_one in gradients]
        shapes = {name: gradient.shape for name, gradient in gradients[0].items()}
        means = self.scheme.parameters_of(self._means(sites), shapes)
        for name, parameter in module.named_parameters():
            if name in means:
                parameter.grad = torch.empty_like(parameter).copy_(means[name])
        self._step += 1
        return torch.stack(losses).mean()

    def end_epoch(self) -> None:
        for traffic in self.traffic:
            traffic.end_epoch()

    def _gradients(
        self, module: nn.Module, inputs: Tensor, labels: Tensor
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Losses and gradients of all workers; buffers are then those of worker 0."""
        losses, gradients, buffers = [], [], list(module.buffers())
        before = [buffer.clone() for buffer in buffers]
        kept = before
        for worker in range(self.scheme.workers):
            if worker:
                _restore(buffers, before)
            loss = self.scheme.loss(module, module, inputs, labels, self._step, worker)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            gradients.append(gradients_of(module))
            if not worker:
                kept = [buffer.clone() for buffer in buffers]
        _restore(buffers, kept)
        return losses, gradients

    def _means(self, sites: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        by_site = {site: [of_one[site] for of_one in sites] for site in sites[0]}
        if self._channel is None:
            return self._added_up(by_site, {site: mean_of(xs) for site, xs in by_site.items()})
        if self.scheme.all_reducible:
            return self._reduced(self._channel, by_site)
        return self._gathered(self._channel, by_site)

    def _gathered(self, channel: Channel, by_site: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """Every worker's messages reach every other one."""
        found: dict[str, list[Tensor]] = {site: [] for site in by_site}
        lengths = []
        for worker, traffic in enumerate(self.traffic):
            before = traffic.up_nbytes
            for site, xs in by_site.items():
                message = channel.send(xs[worker], site=site, worker=worker)
                traffic.sent(message, message.nbytes)
                traffic.decode_seconds += message.decode_seconds
                found[site].append(message.reconstruction)
            lengths.append(traffic.up_nbytes - before)
            traffic.reconstructed((xs[worker], found[site][worker]) for site, xs in by_site.items())
        for traffic, own in zip(self.traffic, lengths, strict=True):
            traffic.down_nbytes += sum(lengths) - own
        return {site: mean_of(ys) for site, ys in found.items()}

    def _reduced(self, channel: Channel, by_site: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        """A collective's messages are added up on the way."""
        means = {}
        for site, xs in by_site.items():
            began = clock(xs[0])
            reduced = channel.all_reduce(xs, site=site)
            seconds = clock(xs[0]) - began
            for traffic in self.traffic:
                traffic.up_nbytes += reduced.up_nbytes // len(xs)
                traffic.down_nbytes += reduced.down_nbytes // len(xs)
                traffic.encode_seconds += seconds / len(xs)
            means[site] = reduced.mean
        return self._noted(by_site, means)

    def _added_up(self, by_site: Mapping[str, list[Tensor]], means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Floats, added up on the way."""
        for traffic in self.traffic:
            nbytes = _FLOAT * sum(mean.numel() for mean in means.values())
            traffic.up_nbytes += nbytes
            traffic.down_nbytes += nbytes
        return self._noted(by_site, means)

    def _noted(self, by_site: Mapping[str, list[Tensor]], means: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is added up on the way is compared as a mean, the same for every worker."""
        pairs = [(mean_of(xs), means[site]) for site, xs in by_site.items()]
        for traffic in self.traffic:
            traffic.reconstructed(pairs)
        return means


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    """By name of the parameter, in the module's order; those that have none are left out."""
    found = ((name, parameter.grad) for name, parameter in module.named_parameters())
    return {name: gradient for name, gradient in found if gradient is not None}


def mean_of(ys: Sequence[Tensor]) -> Tensor:
    """Added up in order, then divided: the same bits wherever it is computed."""
    total = ys[0].clone(memory_format=torch.contiguous_format)
    for y in ys[1:]:
        total += y
    return total / len(ys)


def _restore(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(buffers, values, strict=True):
            buffer.copy_(value)


def _seed(seed: int, device: torch.device) -> None:
    """Of the global generators, within :func:`qbench.training.train`, which leaves them as they were."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
