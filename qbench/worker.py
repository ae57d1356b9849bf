"""A worker: takes tasks as JSON lines from its own file descriptor, one at a time, and answers on it.

Questions: ``{"op": "cell", "cell": ...}``, ``{"op": "baseline", "recipe": ...}``, ``{"op": "fetch", "dataset": ...}``.
Answers: ``ready``, ``loaded`` (the clock starts), ``note`` (how far a long task is), then ``done`` or ``failed``. After
a failure that may have left the process in another state than before, ``tainted`` is true and the worker ends.
"""

import json
import os
import queue
import random
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import plugins
from .baselines import weights_sha256
from .components import Stored
from .decoder import Decoder, DecoderGoneError
from .environment import clean_traceback
from .errors import InvalidReconstructionError, QBenchError
from .schema import Cell, Recipe, Spec, Status
from .workbench import Workbench


class Control:
    """The line to the parent. When the parent is gone, so is this process and everything it started."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self._socket.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                self._tasks.put(json.loads(line))
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def next(self) -> dict[str, Any]:
        return self._tasks.get()

    def send(self, event: str, **fields: Any) -> None:
        self._socket.sendall((json.dumps({"event": event, **fields}) + "\n").encode())


def process_state() -> dict[str, Any]:
    """What a plugin must leave as it was."""
    generator: Any = np.random.get_state(legacy=False)
    return {
        "the default dtype": torch.get_default_dtype(),
        "the default device": str(torch.get_default_device()),
        "the thread count": torch.get_num_threads(),
        "the gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's global random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's global random state": (generator["state"]["key"].tobytes(), generator["state"]["pos"]),
        "Python's global random state": random.getstate(),
        "the working directory": str(Path.cwd()),
        "the running threads": {thread.name for thread in threading.enumerate()},
    }


def changed_state(before: dict[str, Any], bench: Workbench) -> list[str]:
    """Names of what is no longer as it was, the baseline's weights included."""
    after = process_state()
    changed = [name for name, value in before.items() if after[name] != value]
    for baseline in bench.baselines():
        if weights_sha256(baseline.module.state_dict()) != baseline.sha256:
            changed.append("the baseline's weights")
    return changed


def perform(task: dict[str, Any], bench: Workbench) -> dict[str, Any]:
    """Do one task; whatever happens becomes an answer."""
    before = process_state()
    answer = _attempt(task, bench)
    changed = changed_state(before, bench) if task["op"] == "cell" else []
    if changed:
        error = f"left {', '.join(changed)} changed; draw from context.generator and restore what you set"
        if answer["event"] == "failed":
            error = f"{answer['error']}\nIt also {error}"
        answer = {"event": "failed", "status": Status.ERROR, "error": error, "tainted": True}
    return answer


def _attempt(task: dict[str, Any], bench: Workbench) -> dict[str, Any]:
    try:
        return {"event": "done", "outcome": _OPERATIONS[task["op"]](task, bench)}
    except InvalidReconstructionError as error:
        return _failed(Status.INVALID, str(error))
    except DecoderGoneError as error:
        return _failed(Status.CRASHED, str(error), tainted=True)
    except QBenchError as error:
        return _failed(Status.ERROR, str(error))
    except (MemoryError, torch.OutOfMemoryError):
        return _failed(Status.OUT_OF_MEMORY, traceback.format_exc(), tainted=True)
    except BaseException as error:
        no_memory = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        return _failed(Status.OUT_OF_MEMORY if no_memory else Status.ERROR, traceback.format_exc())


def _failed(status: Status, error: str, tainted: bool = False) -> dict[str, Any]:
    return {"event": "failed", "status": status, "error": clean_traceback(error), "tainted": tainted}


def _cell(task: dict[str, Any], bench: Workbench) -> dict[str, Any]:
    cell = Cell.model_validate(task["cell"])
    track = bench.build("track", Spec(name=cell.track, parameters=cell.budget))
    outcome: dict[str, Any] = track.run(cell, bench).model_dump(mode="json")
    return outcome


def _baseline(task: dict[str, Any], bench: Workbench) -> None:
    bench.loaded()
    bench.baseline(Recipe.model_validate(task["recipe"]))


def _fetch(task: dict[str, Any], bench: Workbench) -> None:
    dataset = bench.build("dataset", Spec.model_validate(task["dataset"]))
    if not isinstance(dataset, Stored):
        raise QBenchError(f"data set {dataset} is not fetched from anywhere")
    bench.loaded()
    dataset.fetch(bench.data_root)


_OPERATIONS = {"cell": _cell, "baseline": _baseline, "fetch": _fetch}


def main() -> None:
    """Work until the parent is gone; its process dies with the parent (:mod:`qbench.processes`)."""
    settings = json.loads(sys.argv[1])
    control = Control(settings["descriptor"])
    torch.set_num_threads(settings["threads"])
    bench = Workbench(
        catalog=plugins.catalog(),
        device=torch.device(settings["device"]),
        data_root=Path(settings["data_root"]),
        cache_root=Path(settings["cache_root"]),
        decoder=Decoder(close=[settings["descriptor"]]),
        loaded=lambda: control.send("loaded"),
        note=lambda text: control.send("note", text=text),
    )
    # after the decoder was forked: CUDA does not survive a fork
    if bench.device.type == "cuda" and settings["device_share"] < 1:
        torch.cuda.set_per_process_memory_fraction(settings["device_share"])
    control.listen()
    control.send("ready")
    while True:
        answer = perform(control.next(), bench)
        control.send(**answer)
        if answer.get("tainted"):
            return
