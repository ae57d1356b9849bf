"""What code a component consists of: its module and everything that imports from its own package.

A result is reused only while the fingerprints of its components stand. Imports are read from the source (those under
``if TYPE_CHECKING`` aside), so the hash does not depend on what happens to be loaded.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path


@functools.cache
def fingerprint(module: str) -> str:
    """sha256 (16 digits) over the sources of ``module`` and of what it reaches inside its own top-level package."""
    reached: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = _source(name)
        if name in reached or path is None:
            continue
        reached[name] = path.read_bytes()
        todo += [other for other in _imports(name) if other.split(".")[0] == module.split(".")[0]]
    state = hashlib.sha256()
    for name in sorted(reached):
        state.update(f"{name}\0{len(reached[name])}\0".encode() + reached[name])
    return state.hexdigest()[:16]


@functools.cache
def _source(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """Absolute names of the modules that a module imports, and of names that may be modules."""
    path = _source(module)
    assert path is not None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in _runtime_nodes(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else node.module
            )
            if base:
                found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from _runtime_nodes(other)
            continue
        yield node
        yield from _runtime_nodes(node)
