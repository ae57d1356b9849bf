"""How long two networks take for the same inputs, measured in turns, and what energy."""

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from qbench import Measurement
from qbench.energy import joules_per_call


def in_turns(
    networks: Sequence[nn.Module], inputs: Tensor, warmup: int, repetitions: int
) -> list[list[float]]:
    """Seconds of each call of each network, called in turns, first to last and last to first.

    Whatever slows the machine for a while, and whatever comes in a rhythm, falls on all of them.
    """
    for network in networks:
        for _ in range(warmup):
            network(inputs)
    found: list[list[float]] = [[] for _ in networks]
    turns = list(zip(found, networks, strict=True))
    for number in range(repetitions):
        for samples, network in turns if number % 2 == 0 else reversed(turns):
            samples.append(_seconds(network, inputs))
    return found


def _seconds(network: Callable[[Tensor], Tensor], inputs: Tensor) -> float:
    started = _now(inputs)
    network(inputs)
    return _now(inputs) - started


def _now(inputs: Tensor) -> float:
    if inputs.device.type == "cuda":
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter()


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of all do not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def latency(name: str, samples: list[float]) -> dict[str, Measurement]:
    """Median, with the samples, and 90th percentile."""
    points = {"p50": (0.5, samples), "p90": (0.9, [])}
    return {
        f"{name}_{point}": Measurement(
            value=quantile(samples, share), unit="s", samples=kept, n=len(samples), timing=True
        )
        for point, (share, kept) in points.items()
    }


def measured_energy(network: nn.Module, inputs: Tensor) -> Measurement:
    """Joule for one input by the device's counter, everything else that runs included; null where there is none."""
    spent = joules_per_call(lambda: network(inputs), inputs.device)
    return Measurement(value=None if spent is None else spent / len(inputs), unit="J", timing=True)


def working_bytes(network: nn.Module, inputs: Tensor) -> int | None:
    """Most memory that a call takes beside what was taken before it; None where the device does not count."""
    if inputs.device.type != "cuda":
        return None
    torch.cuda.synchronize(inputs.device)
    torch.cuda.reset_peak_memory_stats(inputs.device)
    before = torch.cuda.memory_allocated(inputs.device)
    network(inputs)
    torch.cuda.synchronize(inputs.device)
    return int(torch.cuda.max_memory_allocated(inputs.device) - before)
