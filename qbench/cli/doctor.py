"""``qbench doctor``: what is installed, found and usable here, and what to do about the rest."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from ..errors import QBenchError
from ..places import CACHE_VARIABLE, DATA_VARIABLE, REGISTRY_VARIABLE, cache_root, data_root, registry_path
from ..quantities import size_text
from . import rendering
from .options import json_option, registry_option
from .rendering import BAD, DOUBTFUL, GOOD, Screen

_PACKAGES = ("torch", "torchvision", "duckdb", "numpy", "scikit-learn")
_STYLES = {"ok": GOOD, "warn": DOUBTFUL, "bad": BAD}
_LITTLE_SPACE = 2_000_000_000


@dataclass(frozen=True)
class Finding:
    """One line: ``bad`` means that runs cannot work."""

    check: str
    status: Literal["ok", "warn", "bad"]
    detail: str
    remedy: str | None = None


@click.command("doctor")
@registry_option
@json_option("a line per check: check, status, detail, remedy")
def doctor_command(registry: Path | None, json_output: bool) -> int:
    """Check versions, devices, data and registry.

    Every line is ok, warn (something is missing that some cells need) or bad (runs cannot work). Exit code 1
    where one is bad, else 0.
    """
    screen = Screen(json_output=json_output)
    worst = 0
    for finding in findings(registry or registry_path()):
        worst = max(worst, int(finding.status == "bad"))
        if json_output:
            rendering.json_lines([asdict(finding)])
        else:
            _show(screen, finding)
    return worst


def _show(screen: Screen, finding: Finding) -> None:
    mark = rendering.text(finding.status, _STYLES[finding.status])
    remedy = rendering.text(f"\n{finding.remedy}" if finding.remedy else "", rendering.QUIET)
    cells = (mark, rendering.text(finding.check), rendering.text(finding.detail) + remedy)
    screen.show(rendering.grid((4, 14), cells))


def findings(registry: Path) -> Iterator[Finding]:
    """Every check in turn; one that fails in a way nobody foresaw is itself a finding."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "device": _devices,
        "threads": _threads,
        "plugins": _plugins,
        "data": _data,
        "registry": lambda: _registry(registry),
        "caches": _caches,
    }
    for name, check in checks.items():
        try:
            yield from check()
        except Exception as error:
            yield Finding(name, "bad", f"{type(error).__name__}: {error}", "please report this")


def _versions() -> Iterator[Finding]:
    yield Finding("qbench", "ok", f"{_version('qbench-suite')} in {Path(__file__).parents[1]}")
    yield Finding("python", "ok", f"{platform.python_version()} {sys.executable} on {platform.platform()}")
    for name in _PACKAGES:
        version = _version(name)
        if version:
            yield Finding(name, "ok", version)
        else:
            yield Finding(name, "bad", "not installed", "pip install qbench-suite brings it")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        built = (
            f"torch is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "torch is built without CUDA"
        )
        yield Finding("device", "ok", f"cpu; no GPU is seen ({built})")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding("device", "ok", f"cuda:{index} {properties.name}, {size_text(properties.total_memory)}")


def _threads() -> Iterator[Finding]:
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    yield Finding("cores", "ok", f"{usable} usable: as many workers on the CPU, one thread each")
    share = memory.available / usable
    detail = f"{size_text(memory.available)} of {size_text(memory.total)} available"
    if share < _LITTLE_SPACE / 2:
        yield Finding("memory", "warn", detail, f"little for {usable} workers: run with fewer, --workers 1")
    else:
        yield Finding("memory", "ok", detail)


def _plugins() -> Iterator[Finding]:
    from collections import Counter

    from .. import plugins

    found = plugins.load(filter(None, os.environ.get(plugins.DISABLE_VARIABLE, "").split(",")), strict=False)
    counts = Counter(kind for kind, _ in found.entries)
    detail = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in sorted(counts.items()))
    strangers = sorted({e.origin.distribution for e in found.entries.values()} - {plugins.OWN_DISTRIBUTION})
    if not counts:
        yield Finding(
            "plugins", "bad", "nothing is installed, not even qbench's own", "pip install qbench-suite"
        )
        return
    yield Finding("plugins", "ok", detail + (f"; third parties: {', '.join(strangers)}" if strangers else ""))
    for broken in found.broken:
        remedy = f"update or uninstall it, or leave it out with --no-plugin {broken.origin.distribution}"
        yield Finding("plugins", "warn", f"{broken.origin.distribution}: {broken.error}", remedy)


def _data() -> Iterator[Finding]:
    from .. import plugins
    from ..components import Stored

    root = data_root()
    source = DATA_VARIABLE if os.environ.get(DATA_VARIABLE) else "default place"
    yield Finding("data folder", "ok", f"{root} ({source}{'' if root.exists() else ', not there yet'})")
    catalog = plugins.load(
        filter(None, os.environ.get(plugins.DISABLE_VARIABLE, "").split(",")), strict=False
    )
    for name in catalog.names("dataset"):
        dataset = catalog.build("dataset", name)
        if isinstance(dataset, Stored):
            yield _dataset(dataset, root)


def _dataset(dataset: Any, root: Path) -> Finding:
    try:
        problem = dataset.missing(root)
    except (QBenchError, OSError) as error:
        problem = str(error)
    if problem is None:
        place = "comes with a package" if not dataset.download_bytes else "there and whole"
        return Finding("data set", "ok", f"{dataset.name}: {place}")
    remedy = (
        f"qbench fetch {dataset.name} ({size_text(dataset.download_bytes)})"
        if dataset.download_bytes
        else None
    )
    prefix = "" if problem.startswith(dataset.name) else f"{dataset.name}: "
    return Finding("data set", "warn", f"{prefix}{problem}", remedy)


def _registry(path: Path) -> Iterator[Finding]:
    from ..registry import Registry

    source = REGISTRY_VARIABLE if os.environ.get(REGISTRY_VARIABLE) else "default place"
    if not path.exists():
        yield _place(
            "registry",
            path.absolute().parent,
            f"{path.absolute()} ({source}): none yet; the first run makes it",
        )
        return
    try:
        held = Registry(path)
        counts = held.sql(
            "SELECT count(*), count(*) FILTER (status = 'ok'), count(DISTINCT run_id) FROM results"
        )
        schema = held.sql("SELECT max(number) FROM migrations").fetchall()[0][0]
        (rows, good, runs), size = counts.fetchall()[0], size_text(path.stat().st_size)
    except QBenchError as error:
        yield Finding("registry", "bad", str(error), "name another with --registry or $QBENCH_REGISTRY")
        return
    detail = f"{held.path}: {rows:,} results ({good:,} ok) of {runs:,} runs, schema {schema}, {size}"
    if os.access(path, os.W_OK):
        yield Finding("registry", "ok", detail)
    else:
        yield Finding("registry", "warn", f"{detail}; not writable", "make it writable to run")


def _caches() -> Iterator[Finding]:
    root = cache_root()
    source = CACHE_VARIABLE if os.environ.get(CACHE_VARIABLE) else "default place"
    files = list(root.rglob("*.safetensors")) if root.exists() else []
    held = f"{len(files)} baselines" if files else "no baselines yet"
    yield _place("cache", root, f"{root} ({source}): {held}")


def _place(check: str, folder: Path, detail: str) -> Finding:
    """A folder that is or can be made: warn where the disk is nearly full, bad where it cannot be written."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(check, "bad", f"{detail}; {existing} cannot be written", "choose another place")
    free = shutil.disk_usage(existing).free
    if free < _LITTLE_SPACE:
        return Finding(check, "warn", f"{detail}; {size_text(free)} free", "make room")
    return Finding(check, "ok", f"{detail}; {size_text(free)} free")
