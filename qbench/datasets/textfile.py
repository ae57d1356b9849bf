"""A user's own text."""

from pathlib import Path
from typing import final

from pydantic import Field

from ..components import UserData
from ..errors import DataError
from ..places import DATA_VARIABLE
from .characters import Characters, CharactersParameters, content_of
from .downloads import one_line


class TextFileParameters(CharactersParameters):
    """``path`` is read from the data root unless it is absolute."""

    path: str = Field("textfile.txt", min_length=1, description="a file in UTF-8")


@final
class TextFile(Characters, UserData):
    """A file in UTF-8, every character as it stands, line ends too; a byte order mark at its start is left out."""

    name = "textfile"
    Parameters = TextFileParameters

    def fetch(self, root: Path) -> None:
        self.text(root)

    def content(self, root: Path) -> str:
        """sha256 of the text.

        Raises:
            DataError: the file is not there or cannot be read.
        """
        return content_of(self.text(root))

    def text(self, root: Path) -> str:
        wanted = self.parameters.path
        try:
            path = root.absolute() / Path(wanted).expanduser()
            if not path.is_file():
                why = "is no file" if path.exists() else "is not there"
                remedy = f"path={wanted} is read from {root.absolute()}, which {DATA_VARIABLE} moves"
                raise DataError(f"{self.name}: {path} {why}; {remedy}")
            return path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.name}: {path} is not UTF-8 (byte {error.start}: {error.reason}); convert it to UTF-8"
            ) from error
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # ValueError: a null byte; RuntimeError: no such user
            raise DataError(
                f"{self.name}: cannot read {wanted!r}: {one_line(error)}; name another path"
            ) from error
