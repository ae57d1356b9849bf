"""Selections: ``track=ptq,rate-distortion quantizer=uniform(range=mse) bits=4``.

Terms are joined by *and*, the values of one term by *or*. A component is named with as many of its
parameters as matter: ``uniform(bits=4)`` meets every ``uniform`` of 4 bits. A key that is none of ``KEYS`` is
a parameter of the quantizer. Of an identifier its beginning will do. The same selection works on cells before
a run (:meth:`Selection.matches`) and in the registry (:meth:`Selection.sql`).
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from .errors import SpecError, SuiteError
from .schema import Spec
from .spelling import near

COMPONENTS = ("quantizer", "model", "dataset", "optimizer")
IDENTIFIERS = ("cell_id", "result_id", "run_id", "digest")
KEYS = ("track", "target", *COMPONENTS, "seed", "status", "device", "suite", *IDENTIFIERS)

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MISSING = object()
Clause = tuple[str, list[Any]]


@final
@dataclass(frozen=True)
class Term:
    """One key and the values it may have: texts, for components specifications, for parameters JSON."""

    key: str
    values: tuple[Any, ...]

    def matches(self, row: Mapping[str, Any]) -> bool:
        return any(_meets(self.key, value, row) for value in self.values)

    def sql(self) -> Clause:
        return _joined(" OR ", [_clause(self.key, value) for value in self.values])


@final
@dataclass(frozen=True)
class Selection:
    """Terms, all of which must be met; without terms everything is selected."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, texts: str | Iterable[str], parameters: Collection[str] | None = None) -> "Selection":
        """Read terms ``key=value[,value]`` separated by blanks, from one text or several.

        Args:
            texts: the terms; a value with blanks or commas is written in double quotes.
            parameters: names of quantizer parameters that exist; None takes any name for one.

        Raises:
            SuiteError: not of that form, or a key that nothing has; says which are allowed.

        >>> selection = Selection.parse("quantizer=uniform bits=2,4")
        >>> selection.matches({"quantizer": "uniform(bits=4)"})
        True
        """
        texts = [texts] if isinstance(texts, str) else texts
        return cls(tuple(_term(term, parameters) for text in texts for term in _split(text, " \t\n")))

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a cell or result meets every term.

        Args:
            row: values under ``KEYS``; a component is the text of its specification, or its name alone with
                the parameters apart, under ``parameters`` (the quantizer's), ``model_parameters``,
                ``dataset_parameters``, ``optimizer_parameters``. What the row lacks meets no term.
        """
        return all(term.matches(row) for term in self.terms)

    def sql(self) -> Clause:
        """A condition over the columns of the registry's view ``history``, with its parameters in order."""
        return _joined(" AND ", [term.sql() for term in self.terms])

    def only(self, keys: Collection[str]) -> "Selection":
        """The terms whose key is one of ``keys``."""
        return Selection(tuple(term for term in self.terms if term.key in keys))

    def without(self, keys: Collection[str]) -> "Selection":
        """The terms whose key is none of ``keys``."""
        return Selection(tuple(term for term in self.terms if term.key not in keys))


def _joined(word: str, clauses: list[Clause]) -> Clause:
    if not clauses:
        return "true", []
    texts, parameters = zip(*clauses)
    return f"({word.join(texts)})", [value for values in parameters for value in values]


def _term(text: str, parameters: Collection[str] | None) -> Term:
    key, sign, rest = text.partition("=")
    if not sign or not _KEY.fullmatch(key):
        raise SuiteError(f"cannot read selection term {text!r}: write key=value or key=value,value")
    if key not in KEYS and parameters is not None and key not in parameters:
        more = f", and the quantizer parameters {', '.join(sorted(parameters))}" if parameters else ""
        hint = near(key, [*KEYS, *parameters])
        raise SuiteError(
            f"unknown key {key!r} in selection term {text!r}; allowed: {', '.join(KEYS)}{more}{hint}"
        )
    values = _split(rest, ",")
    if not values or not all(values) or rest.endswith(","):
        raise SuiteError(f"selection term {text!r} lacks a value: write key=value or key=value,value")
    return Term(key, tuple(_value(key, value, text) for value in values))


def _split(text: str, separators: str) -> list[str]:
    """Pieces between separators outside brackets and double quotes; empty pieces count between commas."""
    pieces, depth, quoted, escaped = [""], 0, False, False
    for symbol in text:
        if symbol in separators and not depth and not quoted:
            pieces.append("")
            continue
        pieces[-1] += symbol
        if symbol == '"' and not escaped:
            quoted = not quoted
        elif not quoted:
            depth += (symbol in "([") - (symbol in ")]")
        escaped = quoted and symbol == "\\" and not escaped
    return pieces if "," in separators else [piece for piece in pieces if piece]


def _value(key: str, text: str, term: str) -> Any:
    try:
        if key in COMPONENTS:
            return Spec.parse(text)
        quoted = text.startswith('"')
        if quoted or key not in KEYS:
            value = Spec.parse(f"value(of={text})").parameters["of"]
            return str(value) if key in KEYS else value
    except (SpecError, ValueError) as error:
        raise SuiteError(f"cannot read {text!r} in selection term {term!r}: {error}") from None
    return text


def _meets(key: str, wanted: Any, row: Mapping[str, Any]) -> bool:
    if key in COMPONENTS:
        return _equal(_component(key, row), wanted)
    if key not in KEYS:
        quantizer = _component("quantizer", row)
        return quantizer is not None and _equal(quantizer["parameters"].get(key, _MISSING), wanted)
    if key == "device":
        return wanted in (row.get("device"), row.get("device_kind"))
    value = row.get(key)
    if value is None:
        return False
    return str(value).startswith(wanted) if key in IDENTIFIERS else str(value) == wanted


def _component(key: str, row: Mapping[str, Any]) -> dict[str, Any] | None:
    if row.get(key) is None:
        return None
    found = Spec.parse(str(row[key]))
    parameters = found.parameters or dict(row.get(parameters_of(key)) or {})
    return {"name": found.name, "parameters": parameters}


def _equal(value: Any, wanted: Any) -> bool:
    """Whether a value is what is wanted; of a specification only the parameters that are named count."""
    if isinstance(value, Spec):
        value = {"name": value.name, "parameters": value.parameters}
    if isinstance(wanted, Spec):
        return (
            _is_spec(value)
            and value["name"] == wanted.name
            and all(
                _equal(value["parameters"].get(name, _MISSING), inner)
                for name, inner in wanted.parameters.items()
            )
        )
    if isinstance(wanted, list):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(_equal(one, other) for one, other in zip(value, wanted))
        )
    if wanted is None or isinstance(wanted, bool):
        return value is wanted
    if isinstance(wanted, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool) and value == wanted
    return bool(value == wanted or (_is_spec(value) and value["name"] == wanted))


def _is_spec(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"name", "parameters"}


def _clause(key: str, wanted: Any) -> Clause:
    if key in COMPONENTS:
        inner = [
            _json_clause(parameters_of(key), _path("$", name), v) for name, v in wanted.parameters.items()
        ]
        return _joined(" AND ", [(f"{key} = ?", [wanted.name]), *inner])
    if key not in KEYS:
        return _json_clause("parameters", _path("$", key), wanted)
    if key == "device":
        return "(device = ? OR device_kind = ?)", [wanted, wanted]
    return (f"starts_with({key}, ?)" if key in IDENTIFIERS else f"CAST({key} AS VARCHAR) = ?"), [wanted]


def _json_clause(column: str, path: str, wanted: Any) -> Clause:
    """What :func:`_equal` says, over the value at ``path`` of a JSON column."""
    kind, text = f"json_type({column}, ?)", f"json_extract_string({column}, ?)"
    if isinstance(wanted, Spec):
        inside = _path(path, "parameters")
        inner = [
            _json_clause(column, _path(inside, name), value) for name, value in wanted.parameters.items()
        ]
        return _joined(" AND ", [_named(column, path, wanted.name), *inner])
    if isinstance(wanted, list):
        inner = [_json_clause(column, f"{path}[{index}]", value) for index, value in enumerate(wanted)]
        size = (f"({kind} = 'ARRAY' AND json_array_length({column}, ?) = ?)", [path, path, len(wanted)])
        return _joined(" AND ", [size, *inner])
    if wanted is None:
        return f"{kind} = 'NULL'", [path]
    if isinstance(wanted, bool):
        return f"({kind} = 'BOOLEAN' AND {text} = ?)", [path, path, str(wanted).lower()]
    if isinstance(wanted, int | float):
        numbers = "('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE')"
        return f"({kind} IN {numbers} AND TRY_CAST({text} AS DOUBLE) = ?)", [path, path, float(wanted)]
    exactly = (f"({kind} = 'VARCHAR' AND {text} = ?)", [path, path, wanted])
    return _joined(" OR ", [exactly, _named(column, path, wanted)])


def _named(column: str, path: str, name: str) -> Clause:
    """The value at ``path`` is a specification of that name."""
    name_path, inside = _path(path, "name"), _path(path, "parameters")
    clause = f"(json_type({column}, ?) = 'OBJECT' AND json_extract_string({column}, ?) = ?)"
    return clause, [inside, name_path, name]


def _path(path: str, name: str) -> str:
    return f'{path}."{name}"'


def parameters_of(component: str) -> str:
    """The column of the view ``history`` that holds a component's parameters."""
    return "parameters" if component == "quantizer" else f"{component}_parameters"
