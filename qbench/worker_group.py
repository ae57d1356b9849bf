"""Data-parallel training in processes, from the outside: start them, watch them, end them all when one ends badly."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load_file, save_file

from .baselines import network_of
from .components import Examples, Model
from .data_parallel import Traffic
from .data_parallel_worker import DIVERGED, Job
from .environment import clean_traceback
from .errors import InvalidReconstructionError, QBenchError
from .training import Trained

_TICK = 0.05
_GRACE = 1.0
_PREFIX = "qbench-workers-"
_SETTLED = 60.0  # seconds after which nobody is about to lock a folder that is not locked
_LOG_BYTES = 1 << 14
# bound to its parent before it spends seconds on importing torch
_WORKER = """
from qbench.processes import die_with_parent
die_with_parent()
from qbench.data_parallel_worker import main
main()
"""


class WorkerGoneError(QBenchError):
    """A worker of a data-parallel training ended before the training did; the others were ended too."""


def train_in_processes(
    job: Job, model: Model, data: Examples, progress: Callable[[int, int], None] = lambda epoch, epochs: None
) -> tuple[Trained, list[Traffic]]:
    """Train with ``job.workers`` processes; what worker 0 has in the end, and what each of them sent.

    Args:
        model: that which the job names.
        progress: called after each epoch with epochs done and epochs planned.

    Raises:
        WorkerGoneError: one of them was killed or failed; says which and how.
        InvalidReconstructionError: the quantizer gave what is no reconstruction.
        FloatingPointError: the loss or a gradient became NaN or infinite.
    """
    with _folder() as folder:
        (folder / "job.json").write_text(job.model_dump_json())
        _write_examples(data, folder / "examples.safetensors")
        with _Group(folder, job) as group:
            group.wait(progress)
        return _read(folder, job, model, data)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that is locked as long as this process lives; those that killed ones have left go first."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_left(left)
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name,
        _opened(name) as handle,
    ):
        # without a lock it is not removed either
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield Path(name)


def _remove_left(folder: Path) -> None:
    """A killed process removes nothing, and what it leaves can be a whole data set."""
    with suppress(OSError), _opened(folder) as handle:
        if time.time() - os.fstat(handle).st_mtime > _SETTLED:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(folder: Path | str) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def _write_examples(data: Examples, path: Path) -> None:
    tensors = {name: value for name, value in vars(data).items() if isinstance(value, torch.Tensor)}
    tensors["classes"] = torch.tensor(data.classes)
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path)


def _read(folder: Path, job: Job, model: Model, data: Examples) -> tuple[Trained, list[Traffic]]:
    found = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(job.workers)]
    module = network_of(model, data, load_file(folder / "weights.safetensors"))
    traffic = [Traffic(**one["traffic"]) for one in found]
    return Trained(module.to(job.device), found[0]["metrics"]), traffic


@final
class _Group:
    """The processes of one training; none of them outlives the block."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "_Group":
        try:
            for rank in range(self.job.workers):
                self.processes.append(self._start(rank))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _start(self, rank: int) -> subprocess.Popen[bytes]:
        # not in a session of its own: who ends the parent's group ends the workers with it
        with self._log(rank).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(self.folder), str(rank)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": str(self.job.threads), **_LOCAL},
            )

    def _log(self, rank: int) -> Path:
        return self.folder / f"log-{rank}"

    def wait(self, progress: Callable[[int, int], None]) -> None:
        """Until all have ended well.

        Raises:
            WorkerGoneError, InvalidReconstructionError, FloatingPointError: as :func:`train_in_processes` says.
        """
        seen: Any = None
        while None in (codes := self._codes()) and not any(codes):
            if (now := self._progress()) != seen:
                seen = now
                progress(*now)
            time.sleep(_TICK)
        if any(codes):
            self._fail()

    def _codes(self) -> list[int | None]:
        """Exit codes, None of those that still run."""
        return [process.poll() for process in self.processes]

    def _progress(self) -> Any:
        path = self.folder / "progress.json"
        return json.loads(path.read_text()) if path.exists() else None

    def _fail(self) -> None:
        """Say who ended first and how; those that fail because it is gone may have ended as well by now."""
        deadline = time.monotonic() + _GRACE
        codes = self._codes()
        first = [rank for rank, code in enumerate(codes) if code]
        while DIVERGED not in codes and not _killed(codes) and time.monotonic() < deadline:
            time.sleep(_TICK)
            codes = self._codes()
        self.end()
        if DIVERGED in codes:
            raise FloatingPointError("the loss or a gradient is no longer finite; lower lr")
        word, invalid = self._word(first[0])
        if invalid is not None:
            raise InvalidReconstructionError(invalid)
        rank = (_killed(codes) or [word])[0]
        code = codes[rank] or 0
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        raise WorkerGoneError(
            f"worker {rank} of {len(codes)} ended with {how} before the training did; the other workers were ended. "
            f"Run it again, with fewer workers where memory is short\n{self._log_tail(rank)}".rstrip()
        )

    def _word(self, otherwise: int) -> tuple[int, str | None]:
        """Who failed first by its own word, and what it found where its quantizer is at fault."""
        path = self.folder / "failed.json"
        rank, invalid = json.loads(path.read_text()) if path.exists() else (otherwise, None)
        return rank, invalid

    def _log_tail(self, rank: int) -> str:
        return clean_traceback(self._log(rank).read_bytes()[-_LOG_BYTES:].decode(errors="replace"))

    def end(self) -> None:
        """Kill and reap whatever still runs."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


# workers on one machine meet at its loopback, whatever its host name stands for
_LOCAL = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


def _killed(codes: list[int | None]) -> list[int]:
    return [rank for rank, code in enumerate(codes) if code is not None and code < 0]
