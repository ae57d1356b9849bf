"""What a result was measured on, and texts of errors without anything private in them.

Recorded are versions, hardware and an allow-list of variables; never addresses, tokens or folders. torch is
not imported: what it knows about the device is handed in.
"""

import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from .schema import digest

VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
MAX_ERROR_BYTES = 8192

_SETTING = re.compile(r"[A-Za-z0-9_:,.;+-]{0,256}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}")
_CUT = "[...]\n"
# Enough to be cut to MAX_ERROR_BYTES afterwards, and little enough to search quickly.
_SEARCHED = 16 * MAX_ERROR_BYTES


def environment(device: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Versions, hardware and settings of this process.

    Args:
        device: what torch says of the device: kind, name, driver, capability, memory in bytes.
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "usable_threads": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "device": {key: _public(value) for key, value in (device or {}).items()},
        "packages": packages(),
        "variables": variables(),
    }


def environment_id(content: Mapping[str, Any]) -> str:
    """Names an environment: 16 digits of the sha256 of its canonical JSON."""
    return digest(dict(content))[:16]


def packages() -> dict[str, str]:
    """Every installed distribution and its version, from the packages' own metadata."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and version and _VERSION.fullmatch(name) and _VERSION.fullmatch(version):
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(found.items()))


def variables() -> dict[str, str]:
    """The allow-listed environment variables that are set to something that can be no path or address."""
    values = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {name: value for name, value in values.items() if _SETTING.fullmatch(value)}


def cpu_name() -> str:
    """The processor's model name, or what the platform calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def clean_traceback(text: str) -> str:
    """The end of an error text, at most 8 KiB of UTF-8, without homes, credentials and queries of URLs."""
    cleaned = _public_text(text[-_SEARCHED:]).encode("utf-8", "replace")
    if len(text) <= _SEARCHED and len(cleaned) <= MAX_ERROR_BYTES:
        return cleaned.decode()
    return _CUT + cleaned[len(_CUT) - MAX_ERROR_BYTES :].decode("utf-8", "ignore")


def _public(value: Any) -> Any:
    return _public_text(value) if isinstance(value, str) else value


def _public_text(text: str) -> str:
    text = _CREDENTIALS.sub(r"\1", text)
    text = _QUERY.sub(r"\1?[...]", text)
    text = _TOKEN.sub("[token]", text)
    for home in _homes():
        text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
    return _OTHER_HOME.sub("~", text)


_CREDENTIALS = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#'\"<>]*@")
_QUERY = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s?'\"<>]*)\?[^\s'\"<>]*")
_TOKEN = re.compile(r"\b(?:hf|gh[opsu]|github_pat|glpat|sk|pypi)[_-][A-Za-z0-9_-]{16,}")
_OTHER_HOME = re.compile(r"(?<![\w.~-])/(?:home|Users)/[^/\s'\":]+")


def _homes() -> list[str]:
    """This user's home folder by every name it goes by, longest first."""
    home = os.path.expanduser("~")
    names = {home, os.path.realpath(home)} if os.path.isabs(home) else set()
    return sorted((name.rstrip("/") for name in names if name.strip("/")), key=len, reverse=True)
