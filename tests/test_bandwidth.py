"""Copy bandwidth: bytes over time, by a clock whose times are known."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from qbench import bandwidth
from qbench.bandwidth import copy_bandwidth

CPU = torch.device("cpu")
ELEMENTS = 2**24


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    copy_bandwidth.cache_clear()
    yield
    copy_bandwidth.cache_clear()


def clock_of(durations: list[float]) -> Callable[[Tensor], float]:
    """A clock that shows the beginning and the end of each of those times, and no more."""
    times = iter([time for duration in durations for time in (7.0, 7.0 + duration)])
    return lambda x: next(times)


def test_the_least_time_counts_and_bytes_are_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB read and 64 MiB written in 1/64 s are 8 GiB/s."""
    monkeypatch.setattr(bandwidth, "clock", clock_of([0.25, 1 / 64, 0.5]))
    assert copy_bandwidth(CPU) == 2**33


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "clock", clock_of([0.5] * 3))
    assert copy_bandwidth(CPU) == copy_bandwidth(torch.device("cpu")) == 2**28


def test_what_is_timed_is_a_copy_of_float32_into_another_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tensor that was written before, into one that was as well: the first copy is not timed."""
    seen: list[tuple[torch.dtype, int, int, float]] = []

    def clock(x: Tensor) -> float:
        seen.append((x.dtype, x.numel(), x.data_ptr(), float(x[-1])))
        return float(len(seen))

    monkeypatch.setattr(bandwidth, "clock", clock)
    assert copy_bandwidth(CPU) == 8 * ELEMENTS
    assert {(dtype, elements, last) for dtype, elements, _, last in seen} == {(torch.float32, ELEMENTS, 1.0)}
    assert len({place for _, _, place, _ in seen}) == 2
    assert len(seen) == 6


def test_this_machine_copies_at_a_credible_speed() -> None:
    """Between a disk and all the caches there are: an error of units by a thousand is outside."""
    assert 1e8 < copy_bandwidth(CPU) < 1e12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_waits_for_its_copies() -> None:
    """No memory moves 20 TB/s: a time without waiting for the device would say more."""
    found = copy_bandwidth(torch.device("cuda"))
    assert 1e10 < found < 2e13
