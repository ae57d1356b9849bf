"""Why a selection finds nothing in a registry: the value that no result has, and the values that there are."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final, get_args

from .errors import SuiteError
from .schema import Spec, Status, Target
from .selection import COMPONENTS, IDENTIFIERS, KEYS, Selection, Term, parameters_of
from .spelling import near

if TYPE_CHECKING:
    from .registry import Registry

MOST = 60  # values that a message lists
FIXED = {"status": tuple(Status), "target": get_args(Target), "device": ("cpu", "cuda")}
_PARAMETERS = "SELECT DISTINCT unnest(json_keys(parameters)) FROM results"


@final
@dataclass(frozen=True)
class Slip:
    """A term that no result meets; ``remedy`` says what there is."""

    term: str
    remedy: str

    def text(self, place: str) -> str:
        """The message; ``place`` is what was looked through."""
        return f"selection {self.term}: no result of {place} has it; {self.remedy}"


def require(registry: "Registry", where: Iterable[str]) -> None:
    """A value that nothing has is a slip, also beside one that something has.

    Raises:
        SuiteError: names the term, the value, the values that there are, and the one that was perhaps meant.
    """
    for slip in slips(registry, where):
        raise SuiteError(slip.text(f"registry {registry.path}"))


def reason(registry: "Registry", where: Iterable[str]) -> str:
    """Why no result meets a selection in which there is no slip."""
    if not registry.sql("SELECT result_id FROM results LIMIT 1").fetchall():
        run = f"qbench run --suite smoke --registry {shlex.quote(str(registry.path))}"
        return f"no results: registry {registry.path} is empty; `{run}` makes the first"
    return f"no result meets {' '.join(where)!r}; leave a term out; `qbench results` lists what there is"


def slips(registry: "Registry", where: Iterable[str], within: Selection | None = None) -> list[Slip]:
    """The values of a selection that no result has; none where there is no result at all.

    A status, target or kind of device is no slip where it could be: no result may have ended so.

    Args:
        where: terms as of ``qbench results``.
        within: what all results that are looked at meet.

    Raises:
        RegistryError: the registry cannot be read.
        SuiteError: an unknown key, or a term that cannot be read.
    """
    parameters = {name for (name,) in registry.sql(_PARAMETERS).fetchall()}
    terms = Selection.parse(where, parameters or None).terms
    held = _Held(registry, within or Selection())
    if not held.has():
        return []
    pairs = [(term.key, value) for term in terms for value in term.values]
    return [held.slip(key, value) for key, value in pairs if not held.could_be(key, value)]


@final
@dataclass(frozen=True)
class _Held:
    """The results of a registry within a selection."""

    registry: "Registry"
    within: Selection

    def has(self, *terms: Term) -> bool:
        condition, values = Selection((*self.within.terms, *terms)).sql()
        query = f"SELECT result_id FROM history WHERE {condition} LIMIT 1"
        return bool(self.registry.sql(query, values).fetchall())

    def could_be(self, key: str, value: Any) -> bool:
        return value in FIXED.get(key, ()) or self.has(Term(key, (value,)))

    def slip(self, key: str, value: Any) -> Slip:
        if key in COMPONENTS and self.has(Term(key, (Spec(name=value.name),))):
            return self._slip_of_parameter(key, value)
        return Slip(f"{key}={_written(value)}", self._remedy(key, value))

    def _slip_of_parameter(self, key: str, value: Spec) -> Slip:
        """The first parameter that no component of this name has so; else they are not together in one."""
        for name, wanted in value.parameters.items():
            alone = Spec(name=value.name, parameters={name: wanted})
            if not self.has(Term(key, (alone,))):
                bare = Term(key, (Spec(name=value.name),))
                return Slip(f"{key}={alone}", self._of_parameter(parameters_of(key), name, wanted, bare))
        return Slip(f"{key}={value}", "each of its parameters is there, but not together; leave one out")

    def _remedy(self, key: str, value: Any) -> str:
        if key in IDENTIFIERS:
            return "it is the beginning of none; `qbench results --json` lists them"
        if key not in KEYS:
            return self._of_parameter("parameters", key, value)
        names = ("device", "device_kind") if key == "device" else (key,)
        found = [text for name in names for text in self._distinct(f"CAST({name} AS VARCHAR)")]
        return _there_are(
            [*found, *FIXED.get(key, ())], value.name if isinstance(value, Spec) else str(value)
        )

    def _of_parameter(self, column: str, name: str, wanted: Any, *terms: Term) -> str:
        found = self._distinct(f"CAST(json_extract({column}, ?) AS VARCHAR)", f'$."{name}"', terms=terms)
        if found:
            values = [_written(json.loads(text)) for text in found]
            return _there_are(values, _written(wanted), f"{name} is one of")
        names = self._distinct(f"unnest(json_keys({column}))", terms=terms)
        return _there_are(names, name, "the parameters are")

    def _distinct(self, what: str, *values: Any, terms: Iterable[Term] = ()) -> list[str]:
        condition, more = Selection((*self.within.terms, *terms)).sql()
        query = f"SELECT DISTINCT {what} FROM history WHERE {condition}"
        found = self.registry.sql(query, [*values, *more]).fetchall()
        return [text for (text,) in found if text is not None]


def _there_are(found: Iterable[str], wanted: str, says: str = "there are") -> str:
    known = sorted(set(found), key=_order)
    more = f", ... ({len(known):,} in all)" if len(known) > MOST else ""
    return f"{says}: {', '.join(known[:MOST]) or 'none'}{more}{near(wanted, known)}"


def _order(text: str) -> tuple[float, str]:
    """Numbers by size, then words."""
    try:
        return float(text), ""
    except ValueError:
        return float("inf"), text


def _written(value: Any) -> str:
    """As it is written in a term."""
    if isinstance(value, dict) and set(value) == {"name", "parameters"}:
        return str(Spec(**value))
    return str(value) if isinstance(value, str | Spec) else json.dumps(value)
