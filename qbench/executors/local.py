"""Worker processes on this machine: started ahead, watched for time and memory, replaced when they fall."""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from ..environment import clean_traceback
from ..errors import WorkerError
from ..schema import Status

TICK = 0.1
SPARE_AFTER = 5.0
MEMORY_CHECK = 0.2
LOG_BYTES = 1 << 16
NOTE_LENGTH = 256
EVENTS = ("ready", "loaded", "note", "done", "failed")
# bound to its parent before it spends seconds on importing torch
_WORKER = """
from qbench.processes import die_with_parent
die_with_parent()
from qbench.worker import main
main()
"""
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """A unit of work for a worker.

    Attributes:
        key: names it among its like.
        question: what the worker is sent.
        group: tasks of one group share data and baseline; a warm worker prefers its last group.
        after: key of the task that must have succeeded before, or None.
        limit: seconds from the moment data and baseline are loaded.
    """

    key: str
    question: dict[str, Any]
    group: str = ""
    after: str | None = None
    limit: float = 300.0


@dataclass(frozen=True)
class Finished:
    """How a task ended."""

    task: Task
    status: Status
    error: str | None
    outcome: dict[str, Any] | None
    started: datetime
    seconds: float


@dataclass(frozen=True)
class Settings:
    """What every worker is told at its start.

    Attributes:
        memory: limit per worker in bytes, decoder included.
        device_share: part of a GPU's memory that a worker may take.
    """

    device: str
    data_root: Path
    cache_root: Path
    memory: int
    threads: int = 1
    device_share: float = 1.0
    load_limit: float = 600.0
    environment: dict[str, str] = field(default_factory=dict)


class WorkerProcess:
    """The parent's side of one worker."""

    def __init__(self, settings: Settings) -> None:
        self.socket, theirs = socket.socketpair()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            told = {
                "descriptor": theirs.fileno(),
                "device": settings.device,
                "device_share": settings.device_share,
                "threads": settings.threads,
                "data_root": str(settings.data_root),
                "cache_root": str(settings.cache_root),
            }
            self.process = subprocess.Popen(
                [sys.executable, "-c", _WORKER, json.dumps(told)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
                env={
                    **os.environ,
                    **dict.fromkeys(_ONE_THREAD, str(settings.threads)),
                    **settings.environment,
                },
            )
        self.settings = settings
        self.state: Literal["starting", "idle", "busy"] = "starting"
        self.task: Task | None = None
        self.group = self.note = ""
        self._buffer = b""
        self.log_start = 0
        self._seen_ended = False
        self._set_clock(settings.load_limit)

    def _set_clock(self, limit: float) -> None:
        self.limit = limit
        self.deadline = time.monotonic() + limit

    def give(self, task: Task) -> None:
        """Send a task.

        Raises:
            OSError: the process is gone; nothing was given.
        """
        self.log_start = self.log.seek(0, os.SEEK_END)
        self.socket.sendall((json.dumps(task.question) + "\n").encode())
        self.task, self.state, self.group = task, "busy", task.group
        self.began, self.clock = datetime.now(UTC), time.monotonic()
        self._set_clock(self.settings.load_limit)

    def read(self) -> list[dict[str, Any]] | None:
        """New answers, or None when the process is gone or writes what is no answer."""
        try:
            data = self.socket.recv(1 << 20)
            if not data:
                return None
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            answers = [json.loads(line) for line in lines]
        except (OSError, ValueError):
            return None
        return answers if all(isinstance(a, dict) and a.get("event") in EVENTS for a in answers) else None

    def loaded(self) -> None:
        if self.task is not None:
            self._set_clock(self.task.limit)

    def finish(self, status: Status, error: str | None, outcome: dict[str, Any] | None) -> Finished:
        assert self.task is not None
        finished = Finished(self.task, status, error, outcome, self.began, time.monotonic() - self.clock)
        self.task, self.state, self.note = None, "idle", ""
        return finished

    def own_bytes(self, limit: int) -> int:
        """Memory of the worker and of what it started, without what they share by being forks of each other.

        Where all they hold is within the limit it is not looked at who shares what, which takes milliseconds: 0.
        """
        try:
            worker = psutil.Process(self.process.pid)
            processes = [worker, *worker.children(recursive=True)]
            if sum(process.memory_info().rss for process in processes) <= limit:
                return 0
            return sum(map(_own_bytes, processes))
        except psutil.Error:
            return 0

    def ended(self) -> bool:
        """Whether the process ended and had time to be read; a child it left may still hold its line open."""
        before, self._seen_ended = self._seen_ended, self.process.poll() is not None
        return before

    def exit_code(self) -> int:
        """Of a process that closed its line; one that lingers is killed."""
        try:
            return self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def log_tail(self) -> str:
        """The end of what the current task printed."""
        self.log.seek(max(self.log_start, self.log.seek(0, os.SEEK_END) - LOG_BYTES))
        return clean_traceback(self.log.read().decode(errors="replace"))

    def kill(self) -> None:
        """End the worker and every process in its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.socket.close()
        self.log.close()


def _own_bytes(process: psutil.Process) -> int:
    memory = process.memory_full_info()
    return int(getattr(memory, "uss", memory.rss))


def _is_blocked(task: Task, ended: Mapping[str, "Finished"]) -> bool:
    before = None if task.after is None else ended.get(task.after)
    return before is not None and before.status is not Status.OK


class LocalPool:
    """A fixed number of workers and, in a run of more than a few seconds, one spare."""

    def __init__(self, settings: Settings, workers: int) -> None:
        self.settings, self.size = settings, workers
        self.workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._spare_from = float("inf")
        self._memory_seen = 0.0

    def __enter__(self) -> "LocalPool":
        for _ in range(self.size):
            self._start()
        self._spare_from = time.monotonic() + SPARE_AFTER
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self.workers):
            self._remove(worker)
        self._selector.close()

    def _start(self) -> None:
        worker = WorkerProcess(self.settings)
        self.workers.append(worker)
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)

    def _remove(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.socket)
        self.workers.remove(worker)
        worker.kill()

    def notes(self) -> list[str]:
        """What workers say of long tasks under way."""
        return [worker.note for worker in self.workers if worker.note]

    def restart(self) -> None:
        """Kill whatever is under way and start anew."""
        for worker in list(self.workers):
            self._replace(worker)

    def run(self, tasks: list[Task]) -> Iterator[Finished | None]:
        """Each task's end as it comes, and None at least every tenth of a second between them.

        A task whose ``after`` failed ends as ``blocked``. Stop iterating to stop working; what is under way is lost.
        """
        waiting, ended = list(tasks), dict[str, Finished]()
        while waiting or any(worker.task for worker in self.workers):
            yield from self._hand_out(waiting, ended)
            for finished in self._advance():
                ended[finished.task.key] = finished
                yield finished
            yield None

    def _hand_out(self, waiting: list[Task], ended: dict[str, Finished]) -> Iterator[Finished]:
        while task := next((task for task in waiting if _is_blocked(task, ended)), None):
            waiting.remove(task)
            first = ended[str(task.after)]
            error = clean_traceback(f"its baseline ended as {first.status}: {first.error}")
            ended[task.key] = Finished(task, Status.BLOCKED, error, None, datetime.now(UTC), 0.0)
            yield ended[task.key]
        busy = sum(worker.state == "busy" for worker in self.workers)
        pending = {task.key for task in waiting} | {worker.task.key for worker in self.workers if worker.task}
        for worker in [worker for worker in self.workers if worker.state == "idle"][: self.size - busy]:
            ready = [task for task in waiting if task.after is None or task.after not in pending]
            if not ready:
                return
            task = next((task for task in ready if task.group == worker.group), ready[0])
            waiting.remove(task)
            try:
                worker.give(task)
            except OSError:  # it died while idle; its closed socket says so at the next reading
                waiting.insert(0, task)
        self._keep_spare(bool(waiting))

    def _keep_spare(self, needed: bool) -> None:
        """One worker more than work, so that a kill costs no import; a short run does without."""
        up = all(worker.state != "starting" for worker in self.workers)
        if needed and up and len(self.workers) <= self.size and time.monotonic() > self._spare_from:
            self._start()

    def _advance(self) -> Iterator[Finished]:
        for key, _ in self._selector.select(TICK):
            yield from self._read(key.data)
        now = time.monotonic()
        for worker in list(self.workers):
            if worker.state == "busy" and worker.ended():
                yield from self._gone(worker)
            elif worker.state == "busy" and now > worker.deadline:
                yield self._kill(worker, Status.TIMEOUT, f"no result within {worker.limit:g} s; killed")
            elif worker.state == "starting" and now > worker.deadline:
                self._gave_up(worker)
        yield from self._watch_memory(now)

    def _watch_memory(self, now: float) -> Iterator[Finished]:
        if now - self._memory_seen < MEMORY_CHECK:
            return
        self._memory_seen = now
        for worker in [worker for worker in self.workers if worker.state == "busy"]:
            used = worker.own_bytes(self.settings.memory)
            if used > self.settings.memory:
                limit = f"{self.settings.memory / 2**30:.1f} GiB"
                yield self._kill(
                    worker, Status.OUT_OF_MEMORY, f"used {used / 2**30:.1f} GiB of at most {limit}; killed"
                )

    def _read(self, worker: WorkerProcess) -> Iterator[Finished]:
        answers = worker.read()
        if answers is None:
            yield from self._gone(worker)
            return
        for answer in answers:
            if answer["event"] == "ready":
                worker.state, self._failed_starts = "idle", 0
            elif answer["event"] == "loaded":
                worker.loaded()
            elif answer["event"] == "note":
                worker.note = str(answer["text"])[:NOTE_LENGTH]
                worker.loaded()
            elif worker.task is None:
                self._replace(worker)
                return
            elif answer["event"] == "done":
                yield worker.finish(Status.OK, None, answer.get("outcome"))
            else:
                yield worker.finish(Status(answer["status"]), answer["error"], None)
                if answer["tainted"]:
                    self._replace(worker)
                    return

    def _gone(self, worker: WorkerProcess) -> Iterator[Finished]:
        if worker.state == "busy":
            code = worker.exit_code()
            how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
            yield self._kill(
                worker, Status.CRASHED, f"the process ended with {how}\n{worker.log_tail()}".rstrip()
            )
        elif worker.state == "starting":
            self._gave_up(worker)
        else:
            self._replace(worker)

    def _gave_up(self, worker: WorkerProcess) -> None:
        self._failed_starts += 1
        if self._failed_starts > self.size:
            said = " ".join(worker.log_tail().split()[-60:]) or "they say nothing"
            raise WorkerError(f"workers do not start: {said}; `qbench doctor` checks the installation")
        self._replace(worker)

    def _kill(self, worker: WorkerProcess, status: Status, error: str) -> Finished:
        finished = worker.finish(status, error, None)
        self._replace(worker)
        return finished

    def _replace(self, worker: WorkerProcess) -> None:
        self._remove(worker)
        self._start()
