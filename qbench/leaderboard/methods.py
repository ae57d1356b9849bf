"""Methods: a quantizer with its parameters, but for those that only set its rate."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, final

from ..schema import Spec
from ..settings import written

Catalog = Mapping[str, Mapping[str, str]]

# A parameter of such a name sets the rate, and a method has points at several of its values.
RATE_PARAMETERS = ("bits", "rate", "m", "levels", "stages", "fraction", "rank")
# So does one of such a name where a quantizer has none of those: the scale of an unbounded lattice.
ELSE_RATE = ("beta",)


def rate_parameters(spec: Spec) -> frozenset[str]:
    """Which parameters of ``spec`` itself set its rate.

    >>> sorted(rate_parameters(Spec.parse("lattice(lattice=E8,beta=2.0)")))
    ['beta']
    >>> sorted(rate_parameters(Spec.parse("nested-lattice(m=4,beta=auto,k=4)")))
    ['m']
    """
    named = frozenset(RATE_PARAMETERS) & spec.parameters.keys()
    return named or frozenset(ELSE_RATE) & spec.parameters.keys()


def core(spec: Spec) -> Spec:
    """``spec`` without what sets its rate, nor that of any inside it.

    >>> str(core(Spec.parse("entropy-coded(inner=uniform(bits=4,range=mse))")))
    'entropy-coded(inner=uniform(range=mse))'
    """
    own = rate_parameters(spec)
    kept = {name: value for name, value in spec.parameters.items() if name not in own}
    return Spec(
        name=spec.name, parameters={n: core(v) if isinstance(v, Spec) else v for n, v in kept.items()}
    )


def spec_of(name: str, parameters: str) -> Spec | None:
    """A specification from a name and parameters as JSON; None where there is no name."""
    return Spec(name=name, parameters=json.loads(parameters or "{}")) if name else None


def identity(spec: Spec | None, in_row: Mapping[str, Any]) -> str:
    """The text that names a method: its core, and the settings of its budget that rows name."""
    settings = ", ".join(written(in_row))
    own = str(core(spec)) if spec else "none"
    return f"{own} [{settings}]" if settings else own


def family_of(spec: Spec | None, catalog: Catalog) -> str:
    """What kind of code it is; a wrapper is of the kind of what it wraps."""
    while spec is not None:
        found = catalog.get(spec.name, {}).get("family")
        if found:
            return found
        spec = next((value for value in spec.parameters.values() if isinstance(value, Spec)), None)
    return "other"


@final
class Labels:
    """Short texts of specifications: only parameters that tell those of one name apart.

    >>> specs = [Spec.parse("uniform(range=mse,size=64)"), Spec.parse("uniform(range=minmax,size=64)")]
    >>> Labels(specs)(specs[0])
    'uniform (mse range)'
    """

    def __init__(self, specs: Iterable[Spec]) -> None:
        self._seen: dict[tuple[str, ...], set[str]] = defaultdict(set)
        self._count: dict[tuple[str, ...], int] = defaultdict(int)
        for spec in {str(one): one for one in specs}.values():
            self._note(spec, ())

    def __call__(self, spec: Spec, *further: str) -> str:
        words = [*self._words(spec, (spec.name,)), *further]
        return f"{spec.name} ({', '.join(words)})" if words else spec.name

    def _note(self, spec: Spec, path: tuple[str, ...]) -> None:
        path = (*path, spec.name)
        self._count[path] += 1
        for name, value in spec.parameters.items():
            if isinstance(value, Spec):
                self._note(value, (*path, name))
            self._seen[(*path, name)].add(_head(value))

    def _words(self, spec: Spec, path: tuple[str, ...]) -> list[str]:
        words = []
        for name, value in spec.parameters.items():
            if isinstance(value, Spec):
                inside = self._words(value, (*path, name, value.name))
                words.append(f"{value.name} ({', '.join(inside)})" if inside else value.name)
            elif len(self._seen[(*path, name)]) > 1:
                words.append(_spoken(name, value))
        return words


def _head(value: Any) -> str:
    return value.name if isinstance(value, Spec) else repr(value)


_SPOKEN = {
    "granularity": "per {}",
    "range": "{} range",
    "scheme": "{}",
    "lattice": "{}",
    "overload": "{}",
    "scale_dtype": "{} scales",
    "value_dtype": "{} values",
    "group_size": "groups of {}",
    "bucket_size": "buckets of {}",
    "coder": "{} coder",
    "table": "{} table",
    "element": "{}",
    "norm": "{} norm",
}


def _spoken(name: str, value: Any) -> str:
    said = name.replace("_", " ")
    if value is None or value is False:
        return f"no {said}"
    if value is True:
        return said
    if name in _SPOKEN and isinstance(value, str | int):
        return _SPOKEN[name].format(value)
    return f"{said} {value}"


def settings_spoken(settings: Mapping[str, Any], labels: Labels) -> list[str]:
    """Settings of a budget that a row names, in words; a quantizer of weights as short as others are.

    >>> settings_spoken({"method": "greedy", "error_feedback": False, "choices": [2, 4]}, Labels([]))
    ['greedy', 'no error feedback', 'choices=[2, 4]']
    """
    words = []
    for name, value in settings.items():
        if name == "weights":
            words.append(f"weights {labels(Spec.parse(value)) if value else 'float32'}")
        elif name == "method":
            words.append(str(value))
        elif isinstance(value, bool):
            words.append(_spoken(name, value))
        else:
            words += written({name: value})
    return words
