"""The words of the project as validated types: specifications, cells, measurements, results.

Nothing here imports torch: a results file can be read, checked and ranked on a machine without it.
"""

import hashlib
import json
import math
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from .errors import SpecError

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_SAMPLES = 4096

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Target = Literal["source", "weight", "activation", "gradient"]


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no blanks, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of ``value``, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derived_seed(*parts: Any) -> int:
    """A seed of 60 bits that depends on every part; no small integer that somebody else may use as well."""
    return int(digest(list(parts))[:15], 16)


class Frozen(BaseModel):
    """Base of immutable records: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(Frozen):
    """A component by name with its parameters, such as ``uniform(bits=4, range=mse)``.

    Parameters are JSON scalars, lists of them, or further specifications: ``entropy-coded(inner=uniform(bits=4))``.

    >>> str(Spec.parse("uniform:bits=4,range=mse"))
    'uniform(bits=4,range=mse)'
    >>> str(Spec.parse("entropy-coded(uniform(bits=4))"))
    'entropy-coded(inner=uniform(bits=4))'
    """

    name: Name
    parameters: dict[str, Any] = Field(default_factory=dict)

    @field_validator("parameters")
    @classmethod
    def _nested_specs(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        return {key: _as_spec(value) for key, value in parameters.items()}

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """Read ``name``, ``name(key=value, ...)`` or, as the command line has it, ``name:key=value,...``.

        Raises:
            SpecError: the text is not of that form; says where it stops making sense.
        """
        return _SpecParser(text).whole()

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        inside = ",".join(f"{key}={_value_text(value)}" for key, value in sorted(self.parameters.items()))
        return f"{self.name}({inside})"

    def __hash__(self) -> int:
        return hash(str(self))


def _as_spec(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"name", "parameters"}:
        return Spec(**value)
    return value


_BARE = re.compile(r"[A-Za-z0-9._+/-]+")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and not _NUMBER.match(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Spec):
        return str(value) if value.parameters else f"{value}()"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value_text, value)) + "]"
    return json.dumps(value)


class _SpecParser:
    """Recursive descent.

    ``spec = name [ '(' pairs ')' | ':' pairs ]``, ``pair = key '=' value | spec`` (the key is then ``inner``),
    ``value = spec | number | word | string | list``.
    """

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def whole(self) -> Spec:
        spec = self.spec(top=True)
        self.blanks()
        if self.at != len(self.text):
            raise self.problem("the end")
        return spec

    def spec(self, top: bool = False) -> Spec:
        name = self.word("a component name")
        if not re.match(NAME_PATTERN, name):
            raise SpecError(f"{name!r} in {self.text!r} is not a component name: use a-z, 0-9, '.', '_', '-'")
        if self.take("("):
            return Spec(name=name, parameters=self.pairs(")"))
        if top and self.take(":"):
            return Spec(name=name, parameters=self.pairs(""))
        return Spec(name=name)

    def pairs(self, end: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not (self.take(end) if end else self.at == len(self.text)):
            if found and not self.take(","):
                raise self.problem(f"',' or {end!r}" if end else "','")
            start = self.at
            key = self.word("a parameter name")
            if self.text[self.at : self.at + 1] == "(":
                self.at, key = start, "inner"
            elif not self.take("="):
                raise self.problem("'=' or '('")
            if key in found:
                raise SpecError(f"parameter {key!r} is given twice in {self.text!r}")
            found[key] = self.value()
        return found

    def value(self) -> Any:
        self.blanks()
        if self.text[self.at : self.at + 1] == '"':
            try:
                value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                raise self.problem("a string closed by '\"'") from None
            return value
        if self.take("["):
            items: list[Any] = []
            while not self.take("]"):
                if items and not self.take(","):
                    raise self.problem("',' or ']'")
                items.append(self.value())
            return items
        start = self.at
        word = self.word("a value")
        if self.text[self.at : self.at + 1] == "(":
            self.at = start
            return self.spec()
        if word.lower() in _WORDS:
            return _WORDS[word.lower()]
        if _NUMBER.match(word):
            return float(word) if re.search(r"[.eE]", word) else int(word)
        return word

    def word(self, wanted: str) -> str:
        self.blanks()
        match = _BARE.match(self.text, self.at)
        if match is None:
            raise self.problem(wanted)
        self.at = match.end()
        return match.group()

    def take(self, symbol: str) -> bool:
        self.blanks()
        found = self.text.startswith(symbol, self.at)
        self.at += len(symbol) if found else 0
        return found

    def blanks(self) -> None:
        while self.text[self.at : self.at + 1] == " ":
            self.at += 1

    def problem(self, wanted: str) -> SpecError:
        return SpecError(
            f"cannot read {self.text!r}: expected {wanted} at character {self.at + 1}; "
            "write name, name:key=value,... or name(key=value,...)"
        )


class Cell(Frozen):
    """One point of the grid. ``cell_id`` names what is measured: neither the suite nor the device is part of it."""

    track: Name
    track_version: int = Field(ge=0, lt=2**31)
    target: Target
    quantizer: Spec | None = None
    model: Spec | None = None
    dataset: Spec | None = None
    optimizer: Spec | None = None
    seed: int = Field(default=0, gt=-(2**63), lt=2**63)
    budget: dict[str, Any] = Field(default_factory=dict)

    @property
    def cell_id(self) -> str:
        """sha256 of the canonical JSON of every field."""
        return digest(self.model_dump(mode="json"))

    def __str__(self) -> str:
        parts = [self.quantizer, self.model, self.dataset, self.optimizer]
        return f"{self.track} " + " ".join(str(part) for part in parts if part) + f" seed={self.seed}"


class Recipe(Frozen):
    """Everything that makes a trained float model. Every quantizer starts from the same ones.

    ``further`` is what of ``training`` is another in a second training that starts from the result of the first;
    None where there is no second.
    """

    model: Spec
    dataset: Spec
    optimizer: Spec
    seed: int
    training: dict[str, Any]
    further: dict[str, Any] | None = None

    @classmethod
    def of(cls, cell: Cell, training: dict[str, Any]) -> "Recipe":
        """The recipe of a cell that names model, data set and optimizer."""
        if cell.model is None or cell.dataset is None or cell.optimizer is None:
            raise SpecError(f"a cell of {cell.track} needs model, dataset and optimizer: {cell}")
        return cls(
            model=cell.model,
            dataset=cell.dataset,
            optimizer=cell.optimizer,
            seed=cell.seed,
            training=training,
        )

    @property
    def start(self) -> "Recipe | None":
        """The recipe of the model that further training starts from, or None."""
        return None if self.further is None else self.model_copy(update={"further": None})

    @property
    def baseline_id(self) -> str:
        """sha256 of the canonical JSON of the recipe; the weights have a hash of their own."""
        return digest(self.model_dump(mode="json"))

    def __str__(self) -> str:
        again = ", trained on" if self.further is not None else ""
        return f"{self.model} on {self.dataset} by {self.optimizer} seed={self.seed}{again}"


class Status(StrEnum):
    """How a cell ended. Only ``ok`` is reused; every other one is kept and run again with ``--retry-failed``."""

    OK = "ok"
    IMPOSSIBLE = "impossible"  # beats a physical limit or contradicts a known value: the code is wrong
    INVALID = "invalid"  # NaN, infinity or a wrong shape came out of the decoder
    ERROR = "error"  # an exception
    CRASHED = "crashed"  # the process ended without a word
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    BLOCKED = "blocked"  # its baseline failed


class Measurement(Frozen):
    """One measured quantity: its value, unit, the raw samples behind it and how many there were.

    ``timing`` marks quantities that depend on the machine's speed and are left out when two runs are compared.
    """

    value: float | None
    unit: str = Field(max_length=32)
    samples: list[float] = Field(default_factory=list, max_length=MAX_SAMPLES)
    n: int = Field(default=1, ge=1, lt=2**63)
    timing: bool = False

    @field_validator("value")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"a measurement is a finite number or null, not {value}")
        return value

    @field_validator("samples")
    @classmethod
    def _finite_samples(cls, samples: list[float]) -> list[float]:
        if not all(map(math.isfinite, samples)):
            raise ValueError("samples are finite numbers")
        return samples

    @classmethod
    def mean(cls, samples: list[float], unit: str, *, timing: bool = False) -> "Measurement":
        """The arithmetic mean of ``samples``, kept with them."""
        return cls(
            value=math.fsum(samples) / len(samples), unit=unit, samples=samples, n=len(samples), timing=timing
        )


Fact = bool | Annotated[int, Field(gt=-(2**63), lt=2**63)] | FiniteFloat | str | None


class Outcome(Frozen):
    """What a track returns for a cell: measurements by name, and facts in words (policy, coverage, rate class)."""

    measurements: dict[str, Measurement]
    facts: dict[str, Fact] = Field(default_factory=dict)
    status: Literal[Status.OK, Status.IMPOSSIBLE] = Status.OK
    error: str | None = Field(default=None, max_length=8192)
    baseline_id: str | None = None
    baseline_sha256: str | None = None


class Result(Frozen):
    """A finished cell as it stands in the registry."""

    cell: Cell
    attempt: int = Field(default=1, ge=1, lt=2**31)
    fingerprint: str
    device_kind: Literal["cpu", "cuda"]
    device: str = Field(max_length=256)
    environment_id: str
    run_id: str
    status: Status
    error: str | None = Field(default=None, max_length=8192)
    measurements: dict[str, Measurement] = Field(default_factory=dict)
    facts: dict[str, Fact] = Field(default_factory=dict)
    baseline_id: str | None = None
    baseline_sha256: str | None = None
    started: datetime
    seconds: float = Field(ge=0)

    @property
    def cell_id(self) -> str:
        return self.cell.cell_id

    @property
    def result_id(self) -> str:
        """Names the attempt: the same for two writers that ran the same cell with the same code."""
        return digest([self.cell_id, self.fingerprint, self.device_kind, self.attempt])[:16]

    @model_validator(mode="after")
    def _status_and_error_agree(self) -> Self:
        if self.status is Status.OK and self.error is not None:
            raise ValueError("a result with status ok has no error")
        if self.status is not Status.OK and not self.error:
            raise ValueError(f"a result with status {self.status} says why in 'error'")
        return self
