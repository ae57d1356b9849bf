"""Discovery: entry points of the group ``qbench`` become a catalog of components.

Built-in components come through the same door as everybody else's. A plugin that cannot be imported, or a component
that contradicts itself, is a row with its error in ``qbench plugins``; everything else goes on. What cannot be left
standing is ambiguity: two components of one name, or two distributions with one entry-point name.
"""

import functools
import importlib.metadata
import inspect
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pluggy

from . import hookspecs
from .components import Dataset, Kind, Model, Optimizer, Quantizer, Track, Transform
from .errors import PluginError, QBenchError, UnknownComponentError
from .fingerprint import fingerprint
from .schema import NAME_PATTERN, Result, Spec, Target

GROUP = "qbench"
OWN_DISTRIBUTION = "qbench-suite"
DISABLE_VARIABLE = "QBENCH_DISABLE_PLUGINS"

_HOOKS: dict[str, tuple[Kind, type]] = {
    "qbench_quantizers": ("quantizer", Quantizer),
    "qbench_models": ("model", Model),
    "qbench_datasets": ("dataset", Dataset),
    "qbench_optimizers": ("optimizer", Optimizer),
    "qbench_transforms": ("transform", Transform),
    "qbench_tracks": ("track", Track),
    "qbench_suites": ("suite", Path),
}


@dataclass(frozen=True)
class Origin:
    """Where a component comes from."""

    distribution: str
    version: str
    entry_point: str


@dataclass(frozen=True)
class Entry:
    """A component of the catalog: its class (a path for a suite), origin, and hash of its source.

    A wrapper says that it is one, and is found among the quantizers.
    """

    kind: Kind
    name: str
    component: Any
    origin: Origin
    fingerprint: str


@dataclass(frozen=True)
class Broken:
    """A plugin or component that could not be used, and why."""

    origin: Origin
    error: str
    kind: Kind | None = None
    name: str | None = None


@dataclass
class Catalog:
    """Every component that is installed and usable."""

    entries: dict[tuple[Kind, str], Entry] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    observers: list[Callable[..., Any]] = field(default_factory=list)

    def names(self, kind: Kind) -> list[str]:
        return sorted(name for entry_kind, name in self.entries if entry_kind == kind)

    def entry(self, kind: Kind, name: str) -> Entry:
        """The entry of that name.

        Raises:
            UnknownComponentError: there is none; says which there are.
        """
        try:
            return self.entries[kind, name]
        except KeyError:
            known = ", ".join(self.names(kind)) or "none"
            failed = "; ".join(
                f"{b.origin.distribution} failed to load" for b in self.broken if b.kind is None
            )
            hint = f" ({failed}: see `qbench plugins`)" if failed else ""
            raise UnknownComponentError(f"no {kind} is called {name!r}; installed: {known}{hint}") from None

    def build(self, kind: Kind, spec: Spec | str) -> Any:
        """A component from its specification; specifications among its parameters become quantizers.

        Raises:
            UnknownComponentError: no such component.
            ParameterError: a parameter it does not have or a value it does not allow.
        """
        spec = Spec.parse(spec) if isinstance(spec, str) else spec
        component = self.entry(kind, spec.name).component
        fields = component.Parameters.model_fields
        parameters = {
            key: self.build("quantizer", value) if _wants_quantizer(fields.get(key), value) else value
            for key, value in spec.parameters.items()
        }
        return component(**parameters)

    def quantizer(self, name: str, /, **parameters: Any) -> Quantizer:
        """``quantizer("uniform", bits=4)`` or ``quantizer("uniform(bits=4)")``."""
        spec = Spec.parse(name)
        quantizer: Quantizer = self.build(
            "quantizer", Spec(name=spec.name, parameters={**spec.parameters, **parameters})
        )
        return quantizer

    def fingerprint(self, kind: Kind, spec: Spec) -> str:
        """Hash of the source of a component and of those nested in it."""
        nested = [self.fingerprint("quantizer", v) for v in spec.parameters.values() if isinstance(v, Spec)]
        return "+".join([self.entry(kind, spec.name).fingerprint, *nested])

    def observe(self, result: Result) -> None:
        """Tell every plugin about a result. An observer that raises is left out from then on."""
        for observer in list(self.observers):
            try:
                observer(result)
            except (Exception, SystemExit):
                self.observers.remove(observer)
                origin = Origin(getattr(observer, "__module__", "?"), "", "")
                self.broken.append(Broken(origin, f"qbench_result raised: {_last_line()}"))


def _wants_quantizer(parameter: Any, value: Any) -> bool:
    if isinstance(value, Spec):
        return True
    return isinstance(value, str) and parameter is not None and parameter.annotation is Quantizer


@functools.cache
def catalog() -> Catalog:
    """The catalog of this process, loaded once.

    Raises:
        PluginError: two components of one name, or qbench itself is not installed.
    """
    return load(tuple(filter(None, os.environ.get(DISABLE_VARIABLE, "").split(","))))


def load(disabled: Iterable[str] = (), *, strict: bool = True) -> Catalog:
    """Read every entry point.

    Args:
        disabled: names of entry points or distributions to leave out; ``all`` or ``1`` leaves only the built-in ones.
        strict: raise where two components have one name; otherwise the later one is a broken row.

    Raises:
        PluginError: names the component and both distributions.
    """
    found = Catalog()
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    seen: dict[str, Origin] = {}
    for point in _entry_points():
        origin = _origin(point)
        if _is_disabled(origin, set(disabled)):
            continue
        if point.name in seen:
            _ambiguous(found, f"entry point {point.name!r}", seen[point.name], origin, strict)
            continue
        seen[point.name] = origin
        try:
            plugin = point.load()
            manager.register(plugin, name=f"{origin.distribution}:{point.name}")
        except Exception:
            found.broken.append(Broken(origin, _last_line()))
            continue
        _collect(found, manager, plugin, origin, strict)
    if not found.entries:
        raise PluginError(
            "qbench has no components: it is not installed here; run `pip install .` in its folder"
        )
    return found


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    points = importlib.metadata.entry_points(group=GROUP)
    return sorted(
        points, key=lambda p: (_origin(p).distribution != OWN_DISTRIBUTION, _origin(p).distribution, p.name)
    )


def _origin(point: importlib.metadata.EntryPoint) -> Origin:
    dist = point.dist
    name = re.sub(r"[-_.]+", "-", dist.name).lower() if dist else "unknown"
    return Origin(name, dist.version if dist else "", point.name)


def _is_disabled(origin: Origin, disabled: set[str]) -> bool:
    if origin.distribution == OWN_DISTRIBUTION:
        return False
    return bool(disabled & {"1", "all", origin.distribution, origin.entry_point})


def _collect(
    found: Catalog, manager: pluggy.PluginManager, plugin: Any, origin: Origin, strict: bool
) -> None:
    for caller in manager.get_hookcallers(plugin) or ():
        implementations = [impl for impl in caller.get_hookimpls() if impl.plugin is plugin]
        if caller.name == "qbench_result":
            found.observers.extend(impl.function for impl in implementations)
            continue
        kind, base = _HOOKS[caller.name]
        for implementation in implementations:
            try:
                function: Any = implementation.function
                components = list(function())
            except Exception:
                found.broken.append(Broken(origin, f"{caller.name} raised: {_last_line()}", kind))
                continue
            for component in components:
                _add(found, kind, base, component, origin, strict)


def _add(found: Catalog, kind: Kind, base: type, component: Any, origin: Origin, strict: bool) -> None:
    name = getattr(component, "stem" if kind == "suite" else "name", None)
    try:
        _check(kind, base, component, name)
        mark = "" if kind == "suite" else fingerprint(component.__module__)
        entry = Entry(getattr(component, "kind", kind), str(name), component, origin, mark)
        if kind == "quantizer":
            for point in component.sweep:
                component(**point)
    except Exception as error:
        why = str(error) if isinstance(error, QBenchError) else _last_line()
        found.broken.append(Broken(origin, why, kind, str(name) if name else None))
        return
    if (kind, str(name)) in found.entries:
        _ambiguous(found, f"{kind} {name!r}", found.entries[kind, str(name)].origin, origin, strict)
        return
    found.entries[kind, str(name)] = entry


def _check(kind: Kind, base: type, component: Any, name: Any) -> None:
    if kind == "suite":
        if not isinstance(component, Path):
            raise PluginError(
                f"qbench_suites returned {component!r}; a pathlib.Path of a TOML file is needed"
            )
        return
    if not inspect.isclass(component) or not issubclass(component, base):
        raise PluginError(f"qbench_{kind}s returned {component!r}; a subclass of {base.__name__} is needed")
    if not isinstance(name, str) or not re.match(NAME_PATTERN, name):
        raise PluginError(f"{component.__qualname__}.name is {name!r}; it must match {NAME_PATTERN}")
    checked: Any = component
    missing = sorted(checked.__abstractmethods__)
    if missing:
        raise PluginError(f"{component.__qualname__} lacks {', '.join(missing)}")
    if kind == "quantizer":
        _check_sets(checked)
    for parameter, info in checked.Parameters.model_fields.items():
        if info.is_required():
            raise PluginError(
                f"parameter {parameter!r} of {component.__qualname__} has no default; give it one"
            )


def _check_sets(quantizer: Any) -> None:
    where, targets = quantizer.__qualname__, get_args(Target)
    if (
        isinstance(quantizer.targets, str)
        or not set(quantizer.targets) <= set(targets)
        or not quantizer.targets
    ):
        raise PluginError(
            f"{where}.targets is {quantizer.targets!r}; it must be a tuple of some of {', '.join(targets)}"
        )
    if not isinstance(quantizer.needs, frozenset | set):
        raise PluginError(f"{where}.needs is {quantizer.needs!r}; it must be a frozenset of names")


def _ambiguous(found: Catalog, what: str, first: Origin, second: Origin, strict: bool) -> None:
    message = (
        f"{what} is provided by both {first.distribution} {first.version} and {second.distribution} {second.version}; "
        f"uninstall one, or leave one out with --no-plugin {second.distribution}"
    )
    if strict:
        raise PluginError(message)
    found.broken.append(Broken(second, message))


def _last_line() -> str:
    return "".join(traceback.format_exc(limit=0)).strip().splitlines()[-1]


def rows(found: Catalog) -> Iterator[dict[str, Any]]:
    """One flat row per component and one per broken plugin, as ``qbench plugins --json`` prints them."""
    for entry in sorted(found.entries.values(), key=lambda e: (e.kind, e.name)):
        yield _row(entry.kind, entry.name, entry.origin, None)
    for broken in found.broken:
        yield _row(broken.kind, broken.name, broken.origin, broken.error)


def _row(kind: str | None, name: str | None, origin: Origin, error: str | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "distribution": origin.distribution,
        "version": origin.version,
        "entry_point": origin.entry_point,
        "error": error,
    }
