"""How fast a device copies memory, which bounds a code that reads a tensor from there and writes its bits.

A quantizer that reads float32 and writes b bits moves 4 + b/8 bytes an element, so from memory it takes at most
``copy_bandwidth / (4 + b / 8)`` elements a second. One whose tensor stays in a cache may take more.
"""

import functools

import torch
from torch import Tensor

from .measuring import clock

# Elements of the tensor, several times what caches hold, and copies that are timed as one.
_SIZES = {"cpu": (2**24, 1), "cuda": (2**26, 8)}
_TIMES = 3
_MOVED = 2 * 4


@functools.cache
def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written a second while a float32 tensor is copied on ``device``, by the threads of this process.

    B = 8 n / t with t the least of three times, after a copy that is not counted, that n elements took: 64 MiB on a
    CPU; on a GPU 256 MiB eight times over. Measured once in a process, which takes that memory twice for less than
    a tenth of a second on a machine that is not busy. As in STREAM, what a cache reads besides is not counted.

    Reference: McCalpin 1995, "Memory Bandwidth and Machine Balance in Current High Performance Computers" (STREAM).
    """
    elements, copies = _SIZES[device.type]
    # written, so that its pages are its own: those of zeros may all be one
    source = torch.ones(elements, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    seconds = min(_seconds(source, target, copies) for _ in range(_TIMES))
    return _MOVED * elements * copies / seconds


def _seconds(source: Tensor, target: Tensor, copies: int) -> float:
    began = clock(source)
    for _ in range(copies):
        target.copy_(source)
    return clock(target) - began
