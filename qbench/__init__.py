"""qbench: every way of quantizing a neural network, measured by the same honest rules.

Names are loaded when first used, so that ``import qbench`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import open_registry, quantizer, run
    from .channel import Channel
    from .components import (
        Collective,
        Component,
        Context,
        Dataset,
        ImageData,
        Images,
        Model,
        Optimizer,
        Parameters,
        Quantizer,
        Source,
        Track,
        Trainable,
        Transform,
        Wrapper,
    )
    from .hookspecs import hookimpl
    from .measuring import Measured, decode, measure
    from .message import Message, Stream
    from .quantizers.lattices import Lattice, lattice
    from .schema import Measurement, Outcome, Recipe, Result, Spec
    from .straight_through import straight_through

__version__ = "0.1.0"

_HOMES = {
    "api": ("open_registry", "quantizer", "run"),
    "channel": ("Channel",),
    "components": (
        "Collective",
        "Component",
        "Context",
        "Dataset",
        "ImageData",
        "Images",
        "Model",
        "Optimizer",
        "Parameters",
        "Quantizer",
        "Source",
        "Track",
        "Trainable",
        "Transform",
        "Wrapper",
    ),
    "hookspecs": ("hookimpl",),
    "measuring": ("Measured", "decode", "measure"),
    "message": ("Message", "Stream"),
    "quantizers.lattices": ("Lattice", "lattice"),
    "schema": ("Measurement", "Outcome", "Recipe", "Result", "Spec"),
    "straight_through": ("straight_through",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'qbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
