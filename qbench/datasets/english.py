"""English that CPython ships: nothing to download."""

from pathlib import Path
from typing import final

from ..components import UserData
from ..errors import DataError
from .characters import Characters, content_of


@final
class English(Characters, UserData):
    """The topics of Python's ``help()``, about half a million characters of technical prose, in the order of names.

    The text changes with Python's version, and so does everything that is named by its content.

    Reference: The Python Language Reference, Python Software Foundation.
    """

    name = "english"
    reference = "The Python Language Reference (pydoc_data.topics)"

    def fetch(self, root: Path) -> None:
        self.text(root)

    def content(self, root: Path) -> str:
        """sha256 of the text.

        Raises:
            DataError: this Python comes without it.
        """
        return content_of(self.text(root))

    def text(self, root: Path) -> str:
        try:
            from pydoc_data.topics import topics
        except ImportError as error:
            raise DataError(
                f"{self.name}: this Python has no pydoc_data.topics ({error}); install the package of your system "
                "that holds the topics of help(), or name textfile(path=...)"
            ) from error
        return "\n".join(topics[name] for name in sorted(topics))
