"""Lattices by name."""

import re
from functools import cache

from ...errors import ParameterError
from .an import AN
from .an_dual import A3Dual
from .bw16 import BW16
from .dn import DN
from .e8 import E8
from .lattice import Lattice
from .leech import Leech
from .z import Z

LATTICES: dict[str, Lattice] = {
    kind.name: kind for kind in (Z(), AN(2), AN(3), A3Dual(), DN(4), E8(), BW16(), Leech())
}
MAX_DIMENSION = 24
_FAMILIES: dict[str, type[AN] | type[DN]] = {"A": AN, "D": DN}

__all__ = ["AN", "BW16", "DN", "E8", "LATTICES", "A3Dual", "Lattice", "Leech", "Z", "lattice"]


@cache
def lattice(name: str) -> Lattice:
    """The lattice of that name: one of ``LATTICES``, or An or Dn with n from 2 to 24.

    Raises:
        ParameterError: there is none; names those there are.
    """
    if name in LATTICES:
        return LATTICES[name]
    family = re.fullmatch(r"([AD])([1-9][0-9]?)", name)
    if family and 2 <= int(family[2]) <= MAX_DIMENSION:
        return _FAMILIES[family[1]](int(family[2]))
    raise ParameterError(
        f"there is no lattice {name!r}; use one of {', '.join(LATTICES)}, or An or Dn with n from 2 to "
        f"{MAX_DIMENSION}"
    )
