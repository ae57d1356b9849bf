"""Counters as the kernel and the driver lay them out, read while they move and come round."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from qbench import energy
from qbench.energy import Meter, counters, joules_per_call

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RANGE = 262_143_328_850  # of a package whose unit is 2^-14 J


class Powercap:
    """/sys of a machine of two packages: in the class all zones side by side, links into the tree of devices."""

    zones = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }

    def __init__(self, sys: Path) -> None:
        self.folder, devices = sys / "class" / "powercap", sys / "devices" / "virtual" / "powercap"
        self.folder.mkdir(parents=True)
        for zone, name in self.zones.items():
            control, number, *inner = zone.split(":")
            real = devices / control / f"{control}:{number}" / (zone if inner else "")
            real.mkdir(parents=True)
            (real / "name").write_text(f"{name}\n")
            (real / "max_energy_range_uj").write_text(f"{RANGE}\n")
            (self.folder / zone).symlink_to(real)
            self.set(zone, 1_000_000)
        (devices / "intel-rapl" / "enabled").write_text("1\n")
        (self.folder / "intel-rapl").symlink_to(devices / "intel-rapl")

    def set(self, zone: str, microjoules: int) -> None:
        (self.folder / zone / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path)


def test_packages_add_up_and_nothing_counts_twice(powercap: Powercap) -> None:
    meter = Meter(CPU, powercap.folder)
    for number, zone in enumerate(powercap.zones):
        powercap.set(zone, 1_000_000 + 10**number)
    assert meter.joules() == pytest.approx((1 + 1000) * 1e-6, rel=1e-6)


def test_a_counter_comes_round(powercap: Powercap) -> None:
    powercap.set("intel-rapl:0", RANGE - 3_000_000)
    meter = Meter(CPU, powercap.folder)
    powercap.set("intel-rapl:0", 4_000_000)
    powercap.set("intel-rapl:1", 1_500_000)
    assert meter.joules() == pytest.approx(3 + 4 + 0.5)


def test_a_counter_may_have_come_round_twice(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 500 W a package spends 262,143 J in 524 s."""
    clock = [100.0]
    monkeypatch.setattr(energy.time, "monotonic", lambda: clock[0])
    meter = Meter(CPU, powercap.folder)
    powercap.set("intel-rapl:0", 2_000_000)
    clock[0] += 524
    assert meter.joules() == pytest.approx(1)
    clock[0] += 1
    assert meter.joules() is None


def test_a_counter_that_stands_still_says_nothing(powercap: Powercap) -> None:
    assert Meter(CPU, powercap.folder).joules() is None


@pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj", "name"])
@pytest.mark.parametrize("how", ["gone", "refused", "no number"])
def test_what_cannot_be_read_is_none(powercap: Powercap, broken: str, how: str) -> None:
    """Where one of two packages is missing their sum would be wrong. Root may read any file: a folder refuses."""
    file = powercap.folder / "intel-rapl:1" / broken
    file.unlink()
    if how == "refused":
        file.mkdir()
    elif how == "no number" and broken != "name":
        file.write_text("unknown\n")
    assert counters(CPU, powercap.folder) == []
    assert Meter(CPU, powercap.folder).joules() is None


def test_a_counter_may_vanish(powercap: Powercap) -> None:
    meter = Meter(CPU, powercap.folder)
    powercap.set("intel-rapl:0", 2_000_000)
    (powercap.folder / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules() is None


def test_machines_without_counters(tmp_path: Path) -> None:
    calls: list[int] = []
    for device, folder in ((CPU, tmp_path / "none"), (torch.device("meta"), tmp_path)):
        assert Meter(device, folder).joules() is None
        assert joules_per_call(lambda: calls.append(1), device, powercap=folder) is None
    assert calls == []


class Nvml:
    """What of nvidia-ml-py is used, on a machine of one GPU."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.millijoules, self.broken = 5_000_000, ""

    def nvmlInit(self) -> None:  # noqa: N802
        self._refuse("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self._refuse("nvmlDeviceGetHandleByUUID")
        assert uuid == "GPU-5a1c"
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        self._refuse("nvmlDeviceGetTotalEnergyConsumption")
        assert handle == "GPU-5a1c"
        return self.millijoules

    def _refuse(self, function: str) -> None:
        if self.broken == function:
            raise self.NVMLError("not supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    found = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", found)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="5a1c"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return found


def test_a_gpu_counts_millijoules(nvml: Nvml) -> None:
    meter = Meter(GPU)
    nvml.millijoules += 2_500
    assert meter.joules() == pytest.approx(2.5)


@pytest.mark.parametrize(
    "broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"]
)
def test_a_driver_may_refuse(nvml: Nvml, broken: str) -> None:
    meter = Meter(GPU)
    nvml.millijoules, nvml.broken = nvml.millijoules + 2_500, broken
    assert counters(GPU) == []
    assert (meter.joules() is None) == (broken == "nvmlDeviceGetTotalEnergyConsumption")


def test_without_the_package_a_gpu_has_no_counter(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert counters(GPU) == []


def test_joules_of_a_call_are_a_mean_without_the_first(nvml: Nvml) -> None:
    """The first call costs 90 J and every other one 3 J; several are made in the time."""
    costs: list[int] = []

    def call() -> None:
        costs.append(3_000 if costs else 90_000)
        nvml.millijoules += costs[-1]
        time.sleep(0.001)

    assert joules_per_call(call, GPU, seconds=0.02) == pytest.approx(3)
    assert len(costs) > 2


def sysfs() -> Any:
    return [zone for zone in energy.POWERCAP.glob("intel-rapl:*") if zone.name.count(":") == 1]


@pytest.mark.skipif(not sysfs(), reason="the kernel shows no RAPL zone here")
def test_this_machine_says_what_it_can() -> None:
    spent = joules_per_call(lambda: torch.randn(300, 300).cov(), CPU, seconds=0.2)
    assert spent is None or 0 < spent < 500
