"""What a name that nothing has may have been meant for."""

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message: the known name that is spelled most like ``name``, or nothing. Numbers are no names.

    >>> near("unifrom", ["binary", "uniform"])
    "; did you mean 'uniform'?"
    >>> near("9", ["99"])
    ''
    """
    found = difflib.get_close_matches(name, known, n=1) if any(map(str.isalpha, name)) else []
    return f"; did you mean {found[0]!r}?" if found else ""
