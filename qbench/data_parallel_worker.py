"""One worker of a data-parallel training in processes: torch.distributed, and a hook that sends coded gradients.

Started by :mod:`qbench.worker_group` with a folder and its number. In the folder lie ``job.json`` (:class:`Job`),
``examples.safetensors`` and the file through which the processes meet; ``result-N.json`` is written there, by worker 0
``weights.safetensors`` and, after every epoch, ``progress.json`` as well. The first that fails leaves ``failed.json``.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, final

import torch
import torch.distributed as dist
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._C._distributed_c10d import FileStore, GradBucket
from torch.nn.parallel import DistributedDataParallel

from . import plugins
from .channel import Receiver
from .components import Examples
from .data_parallel import Granularity, Scheme, Traffic, mean_of
from .errors import InvalidReconstructionError
from .measuring import clock
from .message import Message, pack, to_device, unpack
from .schema import Frozen, Spec, canonical_json
from .training import Training, train

DIVERGED = 3  # exit code: the loss or a gradient was no longer finite


class Job(Frozen):
    """What every worker is told."""

    model: Spec
    optimizer: Spec
    quantizer: Spec | None
    training: dict[str, Any]
    seed: int
    lr_factor: float
    workers: int
    error_feedback: bool
    granularity: Granularity
    backend: Literal["gloo", "nccl"]
    device: str
    threads: int = Field(default_factory=torch.get_num_threads)
    patience: float = Field(300.0, description="seconds that a worker waits for the others")


@final
class Processes:
    """This process's worker; a :data:`qbench.training.Backward`.

    The hook keeps the buckets of DistributedDataParallel until the last is there, then codes by parameter: how
    gradients are bucketed, and that it changes after the first step, is of no consequence. Lengths are gathered, then
    bytes, padded to the longest; ``traffic`` counts the bytes themselves.
    """

    def __init__(self, scheme: Scheme, rank: int, device: torch.device) -> None:
        self.scheme, self.rank, self.device = scheme, rank, device
        self.traffic = Traffic()
        self._channel = scheme.channel()
        self._receivers: dict[tuple[str, int], Receiver] = {}
        self._network: DistributedDataParallel | None = None
        self._buckets: list[tuple[torch.futures.Future[Tensor], Tensor]] = []
        self._gradients: dict[Tensor, Tensor] = {}
        self._step = 0
        self.failure: Exception | None = None

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        network = self._network = self._network or self._around(module)
        loss = self.scheme.loss(module, network, inputs, labels, self._step, self.rank)
        loss.backward()  # type: ignore[no-untyped-call]
        self._share_buffers(module)
        self._step += 1
        return self._mean_loss(loss.detach())

    def _around(self, module: nn.Module) -> DistributedDataParallel:
        with warnings.catch_warnings():
            # later releases have another name for it, torch 2.11 has not
            warnings.simplefilter("ignore", FutureWarning)
            network = DistributedDataParallel(module, broadcast_buffers=False)
        network.register_comm_hook(dict(module.named_parameters()), self._hook)
        return network

    def _hook(self, named: dict[str, nn.Parameter], bucket: GradBucket) -> torch.futures.Future[Tensor]:
        """All buckets wait for the last one."""
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        self._buckets.append((future, bucket.buffer()))
        for parameter, flat in zip(bucket.parameters(), bucket.gradients(), strict=True):
            # a bucket holds a gradient in the strides of its parameter, and gives it as if it were contiguous
            strided = flat.as_strided(parameter.shape, parameter.stride(), flat.storage_offset())
            self._gradients[parameter] = strided
        if bucket.is_last():
            self._exchange({n: self._gradients[p] for n, p in named.items() if p in self._gradients})
            for done, buffer in self._buckets:
                done.set_result(buffer)
            self._buckets, self._gradients = [], {}
        return future

    def _exchange(self, gradients: dict[str, Tensor]) -> None:
        """Put everyone's mean in the place of this worker's gradients."""
        shapes = {name: gradient.shape for name, gradient in gradients.items()}
        try:
            sites = self.scheme.sites(gradients)
            means = self._reduced(sites) if self.scheme.all_reducible else self._gathered(sites)
        except Exception as error:
            # what comes out of the backward pass is a RuntimeError
            self.failure = error
            raise
        for name, mean in self.scheme.parameters_of(means, shapes).items():
            gradients[name].copy_(mean)

    def _gathered(self, sites: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert self._channel is not None
        own, packed = [], []
        for site, x in sites.items():
            message = self._channel.send(x, site=site, worker=self.rank)
            packed.append(message.to_bytes())
            self.traffic.sent(message, len(packed[-1]))
            own.append((x, message.reconstruction))
        self.traffic.reconstructed(own)
        everyones = all_gather(packed, self.device)
        self.traffic.down_nbytes += sum(
            len(part) for worker, parts in enumerate(everyones) for part in parts if worker != self.rank
        )
        return {
            site: mean_of(
                [self._received(site, worker, parts[i], x) for worker, parts in enumerate(everyones)]
            )
            for i, (site, x) in enumerate(sites.items())
        }

    def _received(self, site: str, worker: int, data: bytes, like: Tensor) -> Tensor:
        receiver = self._receivers.get((site, worker))
        if receiver is None:
            assert self.scheme.quantizer is not None
            receiver = self._receivers[site, worker] = Receiver(self.scheme.quantizer)
        began = clock(like)
        y = receiver.receive(data, like.shape, like.device)
        self.traffic.decode_seconds += clock(like) - began
        return y

    def _reduced(self, sites: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What an all-reduce would add up on the way is gathered and added up here, in the one order.

        The gradients themselves are gathered too, to be compared with; that is not counted.
        """
        exact = {site: mean_of(self._gather_floats(x)) for site, x in sites.items()}
        means = exact if self._channel is None else {site: self._mean(site, x) for site, x in sites.items()}
        if self._channel is None:
            nbytes = sum(pair.numel() * pair.element_size() for pair in means.values())
            self.traffic.up_nbytes += nbytes
            self.traffic.down_nbytes += nbytes
        self.traffic.reconstructed([(exact[site], mean) for site, mean in means.items()])
        return means

    def _mean(self, site: str, x: Tensor) -> Tensor:
        assert self._channel is not None
        began = clock(x)
        reduced = self._channel.all_reduce([x], site=site, first_worker=self.rank, gather=self._gather)
        self.traffic.encode_seconds += clock(x) - began
        self.traffic.up_nbytes += reduced.up_nbytes
        self.traffic.down_nbytes += reduced.down_nbytes
        return reduced.mean

    def _gather_floats(self, x: Tensor) -> list[Tensor]:
        return [y for message in self._gather([{"x": x}]) for y in message.values() if isinstance(y, Tensor)]

    def _gather(self, messages: Sequence[Message]) -> list[Message]:
        everyones = all_gather([pack(message) for message in messages], self.device)
        return [to_device(unpack(part)[0], self.device) for parts in everyones for part in parts]

    def _share_buffers(self, module: nn.Module) -> None:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)

    def _mean_loss(self, loss: Tensor) -> Tensor:
        own = loss.to(_meeting_place(self.device))
        losses = [torch.empty_like(own) for _ in range(self.scheme.workers)]
        dist.all_gather(losses, own)
        return torch.stack(losses).mean().to(loss.device)


def all_gather(parts: Sequence[bytes], device: torch.device) -> list[list[bytes]]:
    """What every process gives, as many parts each, by the number of the process."""
    place = _meeting_place(device)
    lengths = torch.tensor([len(part) for part in parts], device=place)
    everyones = [torch.empty_like(lengths) for _ in range(dist.get_world_size())]
    dist.all_gather(everyones, lengths)
    sizes = [each.tolist() for each in everyones]
    longest = max(map(sum, sizes))
    data = torch.frombuffer(bytearray(b"".join(parts).ljust(max(1, longest), b"\0")), dtype=torch.uint8)
    found = [torch.empty(len(data), dtype=torch.uint8, device=place) for _ in sizes]
    dist.all_gather(found, data.to(place))
    return [_cut(one.cpu().numpy().tobytes(), size) for one, size in zip(found, sizes, strict=True)]


def _meeting_place(device: torch.device) -> torch.device:
    """Where tensors lie that are gathered: NCCL takes those of its devices, gloo those of the CPU."""
    return device if dist.get_backend() == "nccl" else torch.device("cpu")


def _cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    ends = [*accumulate(sizes)]
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def main() -> None:
    """Train, write what was found, and end; with :data:`DIVERGED` where the loss did not stay finite."""
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    job = Job.model_validate_json((folder / "job.json").read_text())
    torch.set_num_threads(job.threads)
    device = torch.device(f"cuda:{rank}" if job.backend == "nccl" else job.device)
    dist.init_process_group(
        job.backend,
        store=FileStore(str(folder / "meeting"), job.workers),
        rank=rank,
        world_size=job.workers,
        timeout=timedelta(seconds=job.patience),
    )
    catalog = plugins.catalog()
    quantizer = None if job.quantizer is None else catalog.build("quantizer", job.quantizer)
    scheme = Scheme(quantizer, job.workers, job.error_feedback, job.granularity, job.seed)
    worker = Processes(scheme, rank, device)
    try:
        _train(job, folder, worker, catalog)
    except Exception as error:
        failure = worker.failure or error
        if isinstance(failure, FloatingPointError):
            # no farewell: the others wait in an exchange that will never come
            os._exit(DIVERGED)
        _leave_word(folder, rank, failure)
        raise
    dist.destroy_process_group()


def _leave_word(folder: Path, rank: int, failure: Exception) -> None:
    """Who failed, unless another did before; that the line is cut makes the others fail later."""
    invalid = str(failure) if isinstance(failure, InvalidReconstructionError) else None
    own = folder / f"failed-{rank}.json"
    own.write_text(canonical_json([rank, invalid]))
    with suppress(FileExistsError):
        os.link(own, folder / "failed.json")


def _train(job: Job, folder: Path, worker: Processes, catalog: plugins.Catalog) -> None:
    def progress(epoch: int, epochs: int, accuracy: float | None) -> None:
        worker.traffic.end_epoch()
        if worker.rank == 0:
            write(folder / "progress.json", canonical_json([epoch, epochs]))

    data = load_file(folder / "examples.safetensors")
    classes = int(data.pop("classes"))
    trained = train(
        catalog.build("model", job.model),
        catalog.build("optimizer", job.optimizer),
        Examples(**data, classes=classes),
        Training(**job.training),
        job.seed,
        worker.device,
        progress,
        lr_factor=job.lr_factor,
        backward=worker,
    )
    if worker.rank == 0:
        tensors = {
            name: x.detach().cpu().contiguous().clone() for name, x in trained.module.state_dict().items()
        }
        save_file(tensors, folder / "weights.safetensors")
    found = {"metrics": trained.metrics, "traffic": vars(worker.traffic)}
    write(folder / f"result-{worker.rank}.json", canonical_json(found))


def write(path: Path, text: str) -> None:
    """All of it or nothing."""
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)
