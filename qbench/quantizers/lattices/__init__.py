"""Lattices by name."""

from ...errors import ParameterError
from .e8 import E8
from .lattice import Lattice
from .z import Z

LATTICES: dict[str, Lattice] = {kind.name: kind() for kind in (Z, E8)}

__all__ = ["E8", "LATTICES", "Lattice", "Z", "lattice"]


def lattice(name: str) -> Lattice:
    """The lattice of that name.

    Raises:
        ParameterError: there is none; names those there are.
    """
    if name not in LATTICES:
        raise ParameterError(f"there is no lattice {name!r}; use one of {', '.join(LATTICES)}")
    return LATTICES[name]
