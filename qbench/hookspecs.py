"""The hooks of a plugin. Each returns nouns and changes nothing; all are optional.

A plugin is a module (or an object) named by an entry point of the group ``qbench``.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from .schema import Result

if TYPE_CHECKING:
    from .components import Dataset, Model, Optimizer, Quantizer, Track, Transform

hookspec = pluggy.HookspecMarker("qbench")
hookimpl = pluggy.HookimplMarker("qbench")


@hookspec
def qbench_quantizers() -> "Iterable[type[Quantizer]]":  # type: ignore[empty-body]
    """Quantizer classes."""


@hookspec
def qbench_models() -> "Iterable[type[Model]]":  # type: ignore[empty-body]
    """Model classes."""


@hookspec
def qbench_datasets() -> "Iterable[type[Dataset]]":  # type: ignore[empty-body]
    """Data set classes: sources and pictures."""


@hookspec
def qbench_optimizers() -> "Iterable[type[Optimizer]]":  # type: ignore[empty-body]
    """Optimizer classes."""


@hookspec
def qbench_transforms() -> "Iterable[type[Transform]]":  # type: ignore[empty-body]
    """Transform classes."""


@hookspec
def qbench_tracks() -> "Iterable[type[Track]]":  # type: ignore[empty-body]
    """Track classes."""


@hookspec
def qbench_suites() -> Iterable[Path]:  # type: ignore[empty-body]
    """Paths of suite files (TOML)."""


@hookspec
def qbench_result(result: Result) -> None:
    """Called in the running process after a result was written to the registry."""
