"""The rules of the house: imports run downwards, examples are true, start-up loads nothing heavy."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import qbench

ROOT = Path(qbench.__file__).parent

# Each module may import what stands above it, and nothing else of the package. One line, one floor.
FLOORS = [
    ["errors"],
    [
        "schema",
        "places",
        "settings",
        "spelling",
        "attempts",
        "typesetting",
        "significance",
        "packing",
        "quantities",
        "allocation",
        "autograd",
        "energy",
        "families",
    ],
    ["coders", "selection", "environment", "processes", "reporting", "distributions"],
    ["message", "registry_rows", "migrations", "hypotheses", "headlines", "unmet"],
    ["components", "registry_file", "registry_trust", "registry_incoming", "verdicts"],
    ["hookspecs", "codec", "registry_exchange", "registry_sql", "fingerprint"],
    ["registry", "plugins", "quantizers", "models", "datasets", "optimizers"],
    ["measuring", "suite", "classifier", "metrics", "layers", "records", "citation"],
    [
        "augmentation",
        "costs",
        "decoder",
        "channel",
        "pairs",
        "capture",
        "calibration",
        "transforms",
        "observers",
        "sample_codes",
        "gradient_coding",
        "gradient_sampling",
        "gradient_dynamics",
        "bandwidth",
    ],
    ["activation_codes", "batches", "staged_code", "gradient_structure", "agreement", "tolerances"],
    ["training", "gradient_figures"],
    [
        "baselines",
        "quantized_training",
        "saved_tensors",
        "gradient_capture",
        "data_parallel",
        "vector_verdicts",
    ],
    ["data_parallel_worker"],
    ["workbench", "worker_group"],
    ["tracks"],
    ["builtin", "worker", "executors", "plan"],
    ["fetching", "testing", "evidence"],
    ["runner"],
    ["api", "reproduction"],
    ["leaderboard"],
    ["cli"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
NO_TORCH = (
    "attempts",
    "typesetting",
    "significance",
    "registry_trust",
    "records",
    "pairs",
    "agreement",
    "tolerances",
    "citation",
    "spelling",
    "unmet",
    "leaderboard.own_files",
    "leaderboard.points",
    "leaderboard.standings",
    "errors",
    "schema",
    "places",
    "packing",
    "coders",
    "selection",
    "environment",
    "registry",
    "quantities",
    "allocation",
    "hypotheses",
    "verdicts",
    "families",
    "distributions",
)


def modules() -> list[str]:
    return [info.name for info in pkgutil.walk_packages([str(ROOT)], "qbench.")]


def part(module: str) -> str:
    """The first name below the package."""
    return module.split(".")[1]


def imported(module: str) -> set[str]:
    """Absolute names of the package's modules that a module imports when it runs."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    package = module if spec.submodule_search_locations else module.rpartition(".")[0]
    found = set()
    for node in runtime_nodes(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if node.level else base
            found |= {base} if base != "qbench" else {f"qbench.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("qbench.")} - {"qbench.__version__"}


def runtime_nodes(tree: ast.AST):
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            yield from runtime_nodes(node)


@pytest.mark.parametrize("module", [name for name in modules() if name != "qbench.__main__"])
def test_imports_run_downwards(module: str) -> None:
    own = part(module)
    assert own in FLOOR, f"{own} has no floor: add it to the table"
    above = sorted(
        other for other in imported(module) if part(other) != own and FLOOR[part(other)] >= FLOOR[own]
    )
    assert above == []


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split("\n")[-2].split())


def test_importing_qbench_loads_nothing_heavy() -> None:
    assert not loaded_by("import qbench") & {"torch", "pydantic", "duckdb", "rich", "numpy", "scipy"}


def test_these_modules_do_without_torch() -> None:
    assert "torch" not in loaded_by("".join(f"import qbench.{name}\n" for name in NO_TORCH))


def test_every_public_name_is_there() -> None:
    assert [name for name in qbench.__all__ if not hasattr(qbench, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qbench.nothing  # noqa: B018


@pytest.mark.parametrize("module", [name for name in modules() if not name.endswith("__main__")])
def test_examples_in_docstrings_are_true(module: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(module))
    assert failures == 0


def overridden(cls: type) -> set[str]:
    """What a class of the package defines anew: a method or property that does something, or a value by either."""
    found = set()
    for base in cls.__mro__[1:]:
        for name in vars(base).keys() & vars(cls).keys() if base.__module__.startswith("qbench") else ():
            own, inherited = vars(cls)[name], vars(base)[name]
            does = any(inspect.isroutine(one) or isinstance(one, property) for one in (own, inherited))
            if does and not name.startswith("__") and not getattr(inherited, "__isabstractmethod__", False):
                found.add(f"{base.__name__}.{name}")
    return found


@pytest.mark.parametrize("module", [name for name in modules() if not name.endswith("__main__")])
def test_nothing_that_is_implemented_is_overridden(module: str) -> None:
    classes = [value for value in vars(importlib.import_module(module)).values() if inspect.isclass(value)]
    found = {cls.__name__: overridden(cls) for cls in classes if cls.__module__ == module}
    assert {name: names for name, names in found.items() if names} == {}


def test_an_override_is_noticed() -> None:
    from qbench.components import Quantizer

    class Claims(Quantizer):
        unbiased = property(lambda self: True)

        def suits(self, target, provides):
            return True

    assert overridden(Claims) == {"Quantizer.unbiased", "Quantizer.suits"}


def test_classes_are_abstract_or_final() -> None:
    """No component has a concrete base in the package."""
    from qbench import plugins

    for entry in plugins.load(["all"]).entries.values():
        if entry.kind == "suite":
            continue
        bases = [b for b in entry.component.__mro__[1:] if b.__module__.startswith("qbench")]
        assert all(base.__abstractmethods__ or base.__name__ in ("Component", "Dataset") for base in bases)
