"""Specifications short enough for a table: without defaults, unless rows differ in them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, final

from ..components import Kind
from ..errors import QBenchError
from ..plugins import Catalog
from ..schema import Spec
from .rendering import spec_text

_ALWAYS = frozenset({"bits"})


@final
class Labels:
    """Labels of the components that ``specs`` lists, all of one kind; each names the same component."""

    def __init__(self, catalog: Catalog, kind: Kind, specs: Iterable[Spec]) -> None:
        self._catalog, self._kind = catalog, kind
        self._seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        for spec in set(specs):
            for name, value in spec.parameters.items():
                self._seen[spec.name, name].add(str(value))

    def __call__(self, spec: Spec) -> str:
        return spec_text(self._short(spec, self._kind, outer=True))

    def _short(self, spec: Spec, kind: Kind, *, outer: bool) -> Spec:
        defaults = self._defaults(kind, spec.name)
        kept = {}
        for name, value in spec.parameters.items():
            differs = outer and value is not None and len(self._seen[spec.name, name]) > 1
            if differs or name in _ALWAYS or name not in defaults or value != defaults[name]:
                kept[name] = (
                    self._short(value, "quantizer", outer=False) if isinstance(value, Spec) else value
                )
        return Spec(name=spec.name, parameters=kept)

    def _defaults(self, kind: Kind, name: str) -> dict[str, Any]:
        try:
            component = self._catalog.build(kind, Spec(name=name))
        except QBenchError:
            return {}
        return dict(component.spec.parameters)
