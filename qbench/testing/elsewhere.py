"""A Python process of its own that decodes payload files: nothing that an encoder left behind can reach it.

It is spawned once, not forked, so it suits an interactive session. It forks for every question, and the child alone
loads third parties' plugins, so that edited ones are read anew.
"""

import atexit
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import plugins
from ..errors import QBenchError
from ..measuring import decode
from ..processes import die_with_parent

_DECODED, _ERROR = "decoded.safetensors", "error.txt"


class DecodingElsewhereError(QBenchError):
    """The other process could not decode; says what it raised."""


def decode_elsewhere(payloads: Sequence[bytes]) -> list[Tensor]:
    """What another process makes of these bytes and nothing else.

    Raises:
        DecodingElsewhereError: its decoder raised or the process was killed.
    """
    with TemporaryDirectory(prefix="qbench-") as name:
        folder = Path(name)
        for index, payload in enumerate(payloads):
            (folder / f"{index}.payload").write_bytes(payload)
        status = _ask(name)
        if (folder / _ERROR).exists():
            raise DecodingElsewhereError((folder / _ERROR).read_text())
        if status:
            raise DecodingElsewhereError(f"the decoding process ended with status {status}")
        found = load_file(folder / _DECODED)
        return [found[str(index)].clone() for index in range(len(payloads))]


def _ask(folder: str) -> str:
    """Have the payloads of a folder decoded; how that process ended, or nothing if it ended well."""
    if _process().poll() is not None:
        _process.cache_clear()
    process = _process()
    path = [str(Path(entry).absolute()) for entry in sys.path]
    process.stdin.write(json.dumps({"folder": folder, "path": path}) + "\n")
    process.stdin.flush()
    answer: str = process.stdout.readline().strip() or f"{process.wait()}, before it answered"
    return "" if answer == "0" else answer


@functools.cache
def _process() -> Any:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", "from qbench.testing.elsewhere import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    atexit.register(_end, process)
    return process


def _end(process: Any) -> None:
    """At once: a decoder that hangs must not keep this one from ending."""
    with process:
        process.kill()


def serve() -> None:
    """Answer questions from stdin until it ends. Whatever a plugin prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    plugins.load(["all"])
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            child = os.fork()
            if child == 0:
                _answer(**json.loads(line))
                os._exit(0)
            answers.write(f"{os.waitpid(child, 0)[1]}\n")
            answers.flush()


def _answer(folder: str, path: list[str]) -> None:
    die_with_parent()
    sys.path[:] = path
    importlib.invalidate_caches()
    try:
        payloads = {p.stem: p.read_bytes() for p in Path(folder).glob("*.payload")}
        save_file({name: decode(payload) for name, payload in payloads.items()}, str(Path(folder) / _DECODED))
    except BaseException as error:
        (Path(folder) / _ERROR).write_text(f"{type(error).__name__}: {error}")
