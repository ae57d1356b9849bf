"""The Python functions behind the command line: quantizers by name, runs, registries.

Imports are made when a function is called, so that a registry opens without torch.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ParameterError, RegistryError
from .quantities import byte_count, seconds
from .reporting import Lines, Report

if TYPE_CHECKING:
    from .components import Quantizer
    from .plan import Options
    from .registry import Registry
    from .runner import Summary

_DEVICES = ("auto", "cpu", "cuda")
_LISTS = ("select", "quantizers", "disabled")
_PATHS = ("registry", "data_root", "cache_root")
_SWITCHES = ("offline", "force", "retry_failed")


def quantizer(name: str, /, **parameters: Any) -> "Quantizer":
    """A quantizer by name from any installed plugin.

    >>> quantizer("uniform", bits=4).parameters.bits
    4

    ``quantizer("uniform(bits=4)")`` and ``quantizer("uniform:bits=4")`` say the same.

    Raises:
        UnknownComponentError: no installed plugin has it; says which there are.
        ParameterError: a parameter it does not have, or a value it does not allow; says what is allowed.
    """
    from . import plugins

    return plugins.catalog().quantizer(name, **parameters)


def run(
    suite: str | os.PathLike[str] = "standard",
    registry: str | os.PathLike[str] | None = None,
    device: str = "auto",
    *,
    report: "Report | None" = None,
    **others: Any,
) -> "Summary":
    """Run a suite. Works from a notebook or stdin too: workers need no ``__main__`` guard.

    Args:
        suite: name of an installed suite, or path of a TOML file.
        registry: file of results; default ``$QBENCH_REGISTRY``, else ``qbench.duckdb`` in the working folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        report: called with a :class:`qbench.runner.Progress` now and then; default: lines on stderr.
        others: any further field of :class:`qbench.plan.Options`. Durations may be texts such as ``"10m"``,
            sizes such as ``"4GiB"``; ``select`` and ``quantizers`` take one text or several.

    Raises:
        QBenchError: bad input; nothing was changed.
    """
    chosen = options(suite=suite, registry=registry, device=device, **others)
    from . import runner

    return runner.run(chosen, report or Lines(sys.stderr, every=10.0))


def open_registry(path: str | os.PathLike[str] | None = None) -> "Registry":
    """The registry at ``path``; default ``$QBENCH_REGISTRY``, else ``qbench.duckdb`` in the working folder.

    Raises:
        RegistryError: there is none, or it cannot be read by this version.
    """
    from . import registry

    return registry.open_registry(path)


def options(**given: Any) -> "Options":
    """Validated options of a run; None means the default.

    Raises:
        ParameterError: an unknown option or a value outside its range.
    """
    from .plan import Options

    allowed = [field.name for field in dataclasses.fields(Options)]
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise ParameterError(f"a run has no option {unknown[0]!r}; it has: {', '.join(allowed)}")
    return Options(**{name: _checked(name, value) for name, value in given.items() if value is not None})


def _checked(name: str, value: Any) -> Any:
    if name in _PATHS or name == "suite":
        text = _path(name, value)
        return text if name == "suite" else _place(name, Path(text).expanduser())
    if name in _LISTS:
        texts = _texts(name, value)
        return (*texts, *_disabled_already()) if name == "disabled" and texts else texts
    if name in _SWITCHES and not isinstance(value, bool):
        raise ParameterError(f"{name}={value!r} must be True or False")
    if name in ("time_budget", "timeout"):
        return seconds(value, name)
    if name == "memory":
        return byte_count(value, name)
    if name == "device" and value not in _DEVICES:
        raise ParameterError(f"device={value!r} is not one of {', '.join(_DEVICES)}")
    if name == "workers" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ParameterError(f"workers={value!r} must be a whole number of at least 1")
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ParameterError(f"{name}={value!r} must be a path" + (" or a name" if name == "suite" else ""))
    return os.fsdecode(value)


def _place(name: str, path: Path) -> Path:
    if name == "registry" and not path.absolute().parent.is_dir():
        raise RegistryError(f"registry {path}: there is no folder {path.absolute().parent}; create it first")
    return path


def _disabled_already() -> list[str]:
    from .plugins import DISABLE_VARIABLE

    return [name for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name]


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """One text, or several; quantizers may be objects, whose specification is meant."""
    several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    items = tuple(item if isinstance(item, str) else str(getattr(item, "spec", "")) for item in several)
    if not all(items):
        raise ParameterError(f"{name}={value!r} must be a text or a list of texts")
    return items
