"""Joules as a device's own counters have them: NVML for a GPU, Linux powercap (RAPL) for the packages of a CPU.

They are those of the whole device, whoever used it meanwhile, idle power included. What cannot be read is None, never
an error: NVML needs the package nvidia-ml-py, powercap mostly the rights of root.
"""

import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

POWERCAP = Path("/sys/class/powercap")
_MOST_WATTS = 500.0  # that a package takes; how soon its counter may have come round


@final
@dataclass(frozen=True)
class Counter:
    """Joules since some moment. It starts again from 0 at ``end``."""

    read: Callable[[], float]
    end: float = math.inf


def counters(device: torch.device, powercap: Path = POWERCAP) -> list[Counter]:
    """Those of a device, none of them a part of another; empty where it has none that can be read."""
    try:
        found = _gpu(device) if device.type == "cuda" else _packages(powercap) if device.type == "cpu" else []
        for counter in found:
            counter.read()
    except Exception:  # a driver's binding raises what it likes
        return []
    return found


def _gpu(device: torch.device) -> list[Counter]:
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    # by what it is: NVML does not know how CUDA_VISIBLE_DEVICES numbers them
    handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")

    def read() -> float:
        torch.cuda.synchronize(device)
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3

    return [Counter(read)]


def _packages(powercap: Path) -> list[Counter]:
    """Zones ``intel-rapl:N`` named package-N, AMD's too; not their own zones, nor psys, which holds all of them."""
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    return [_package(zone) for zone in zones if (zone / "name").read_text().startswith("package-")]


def _package(zone: Path) -> Counter:
    def joules(name: str) -> float:
        return int((zone / name).read_text()) / 1e6

    return Counter(lambda: joules("energy_uj"), joules("max_energy_range_uj"))


@final
class Meter:
    """What a device spends from the moment that the meter is made."""

    def __init__(self, device: torch.device, powercap: Path = POWERCAP) -> None:
        self._counters = counters(device, powercap)
        self._began, self._before = time.monotonic(), _readings(self._counters)

    def joules(self) -> float | None:
        """Joules until now; None where no counter moved, or one may have come round more than once."""
        after, seconds = _readings(self._counters), time.monotonic() - self._began
        if (
            self._before is None
            or after is None
            or any(seconds * _MOST_WATTS > c.end for c in self._counters)
        ):
            return None
        pairs = zip(self._before, after, self._counters, strict=True)
        return math.fsum(now - then + (c.end if now < then else 0.0) for then, now, c in pairs) or None


def _readings(found: list[Counter]) -> list[float] | None:
    try:
        return [counter.read() for counter in found]
    except Exception:  # it could be read before
        return None


def joules_per_call(
    call: Callable[[], object], device: torch.device, seconds: float = 1.0, powercap: Path = POWERCAP
) -> float | None:
    """The mean of calls that together take so many ``seconds``, after one that warms up; None without a counter.

    NVML's counter moves ten times a second or so. Without a counter nothing is called.
    """
    if not counters(device, powercap):
        return None
    call()
    meter, began, calls = Meter(device, powercap), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        call()
        calls += 1
    spent = meter.joules()
    return None if spent is None else spent / calls
