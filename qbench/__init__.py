"""qbench: every way of quantizing a neural network, measured by the same honest rules.

Names are loaded when first used, so that ``import qbench`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import open_registry as open_registry
    from .api import quantizer as quantizer
    from .api import run as run
    from .autograd import straight_through as straight_through
    from .channel import Channel as Channel
    from .components import Collective as Collective
    from .components import Component as Component
    from .components import Constrained as Constrained
    from .components import Context as Context
    from .components import Dataset as Dataset
    from .components import Differential as Differential
    from .components import Examples as Examples
    from .components import Images as Images
    from .components import Model as Model
    from .components import Optimizer as Optimizer
    from .components import Parameters as Parameters
    from .components import Quantizer as Quantizer
    from .components import Source as Source
    from .components import Stored as Stored
    from .components import Text as Text
    from .components import Track as Track
    from .components import Trainable as Trainable
    from .components import Transform as Transform
    from .components import UserData as UserData
    from .components import Wrapper as Wrapper
    from .hookspecs import hookimpl as hookimpl
    from .measuring import Measured as Measured
    from .measuring import decode as decode
    from .measuring import measure as measure
    from .message import Message as Message
    from .message import Stream as Stream
    from .quantizers.lattices import Lattice as Lattice
    from .quantizers.lattices import lattice as lattice
    from .schema import Measurement as Measurement
    from .schema import Outcome as Outcome
    from .schema import Recipe as Recipe
    from .schema import Result as Result
    from .schema import Spec as Spec
    from .training import Training as Training
    from .vector_verdicts import gradient_verdicts as gradient_verdicts
    from .workbench import Workbench as Workbench

__version__ = "0.1.0"

_HOMES = {
    "api": (
        "open_registry",
        "quantizer",
        "run",
    ),
    "channel": ("Channel",),
    "components": (
        "Collective",
        "Component",
        "Constrained",
        "Context",
        "Dataset",
        "Differential",
        "Examples",
        "Images",
        "Model",
        "Optimizer",
        "Parameters",
        "Quantizer",
        "Source",
        "Stored",
        "Text",
        "Track",
        "Trainable",
        "Transform",
        "UserData",
        "Wrapper",
    ),
    "hookspecs": ("hookimpl",),
    "measuring": (
        "Measured",
        "decode",
        "measure",
    ),
    "message": (
        "Message",
        "Stream",
    ),
    "quantizers.lattices": (
        "Lattice",
        "lattice",
    ),
    "schema": (
        "Measurement",
        "Outcome",
        "Recipe",
        "Result",
        "Spec",
    ),
    "autograd": ("straight_through",),
    "training": ("Training",),
    "vector_verdicts": ("gradient_verdicts",),
    "workbench": ("Workbench",),
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
