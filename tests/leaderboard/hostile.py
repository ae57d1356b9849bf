"""A registry that holds whatever somebody may send who means ill, in every place that holds a text."""

from pathlib import Path

from registries import CATALOG, ENVIRONMENT, compressed, gradients, layers, scans, sources
from synthetic import add

from qbench.environment import environment_id
from qbench.registry import Registry, RunCell
from qbench.registry_file import RegistryFile
from qbench.schema import Result, Spec

MARKUP = "</script><img src=x onerror=window.pwned=1>"
TEXTS = (
    MARKUP,
    '"><svg onload=window.pwned=1><!--',
    "line\u2028line\u2029line",
    "\u202egnp.exe\u202c\u2066\u200f",
    "\x00\x07\x1b[31mred\r\n\t",
    "long" * 2_500,
    "__proto__",
    "constructor",
    "=1+1",
    "@SUM(A1)",
    "{{payload}} ${window.pwned=1} %s",
    "javascript:window.pwned=1",
    "\U0001f4a9 e\u0301\u0301\u0301",
)


def hostile(path: Path) -> Registry:
    """Two boards and something for every chart; suites, devices, errors, parameters, facts and environments are ill."""
    add(path, quantizers=len(TEXTS) + 1, hostile=TEXTS, suite=MARKUP)
    add(path, quantizers=3, bits=(5,), models=1, datasets=1, hostile=TEXTS, suite=MARKUP, status="error")
    registry = Registry(path)
    plain = [*sources(), *layers(), *scans(), *gradients(), *compressed()]
    write(registry, [ill(one, number) for number, one in enumerate(plain)])
    with RegistryFile(path).transaction() as connection:
        odd = "concat(device, chr(8232), chr(8238), '=1+1')"
        connection.execute(f"UPDATE results SET device = {odd} WHERE length(device) < 200")
    return registry


def ill(one: Result, number: int) -> Result:
    """The same with ill texts among the parameters, the facts and where else there is room for any."""
    text = TEXTS[number % len(TEXTS)]
    specs = {kind: getattr(one.cell, kind) for kind in ("quantizer", "model", "dataset", "optimizer")}
    given = {kind: _ill(spec, text) for kind, spec in specs.items() if spec and spec.name != "gaussian"}
    facts = {
        name: _ill_words(value, text) if name == "layers" else value for name, value in one.facts.items()
    }
    facts |= {"__proto__": text, "constructor": text, "origin": text, text[:60]: text}
    cell = one.cell.model_copy(update=given)
    if one.cell.track == "lattice-scaling":
        cell = cell.model_copy(update={"budget": cell.budget | {"note": text, text[:40]: 1}})
    measured = dict(one.measurements)
    if one.cell.track == "gradient-statistics":
        measured |= {
            f"{window}.density.{text[:80]}": measured["early.density.one"] for window in ("early", "late")
        }
    changes = {"cell": cell, "facts": facts, "device": text[:256], "measurements": measured}
    return one.model_copy(update=changes)


def _ill(spec: Spec, text: str) -> Spec:
    return Spec(
        name=spec.name, parameters=spec.parameters | {"note": text, "__proto__": 1, "constructor": text}
    )


def _ill_words(value: object, text: str) -> str:
    words = str(value).split()
    return " ".join([("".join(text.split()) or "x")[:200], *words[1:]])


def write(registry: Registry, results: list[Result]) -> None:
    """A run of a suite that is called ``=cmd``, in an environment of ill words."""
    environment = {**ENVIRONMENT, "cpu": MARKUP, "system": TEXTS[3], "packages": {"torch": TEXTS[5]}}
    cells = [RunCell(one.cell_id, one.cell.track, MARKUP) for one in results]
    run_id = registry.begin_run("=cmd|' /C calc'!A0", environment, cells)
    known = environment_id(environment)
    registry.write([one.model_copy(update={"run_id": run_id, "environment_id": known}) for one in results])
    registry.finish_run(run_id)


def catalog() -> dict[str, dict[str, str]]:
    """What plugins say of themselves."""
    own = {"family": "constructor", "reference": MARKUP, "distribution": TEXTS[5], "kind": "quantizer"}
    return {name: about | {"reference": MARKUP} for name, about in CATALOG.items()} | {"hostile": own}
