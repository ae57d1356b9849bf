"""Whether the files where a leaderboard is to be built are those of a leaderboard: others are never written over."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import RegistryError
from ..registry_file import explained
from .page import TITLE
from .published import holds_results

INDEX, PARQUET, CSV, CARD = "index.html", "results.parquet", "results.csv", "README.md"
MADE_BY = "Made by `qbench leaderboard build`."
# What tells the title of a page stands in front of its styles, scripts and data.
_BEGINNING = 16_384
_CSV_COLUMNS = {"result_id", "cell_id", "track", "status"}


def _is_card(path: Path) -> bool:
    text = _beginning(path)
    return text.startswith("---\n") and "\nsdk: static\n" in text and MADE_BY in text


def _is_page(path: Path) -> bool:
    return f"<title>{TITLE}</title>" in _beginning(path)


def _is_csv(path: Path) -> bool:
    return set(_beginning(path).partition("\n")[0].rstrip("\r").split(",")) >= _CSV_COLUMNS


_OWN: Mapping[str, tuple[Callable[[Path], bool], str]] = {
    CARD: (_is_card, f"it lacks the settings of a static Space, or the line {MADE_BY!r}"),
    INDEX: (_is_page, f"its title is not {TITLE!r}"),
    CSV: (_is_csv, "it lacks the columns of results"),
    PARQUET: (holds_results, "it is no Parquet file with the columns of results"),
}


def refuse_others(folder: Path) -> None:
    """See that a page can be built in a folder: each of its files is absent or was made by a building before.

    Raises:
        RegistryError: one of them is somebody else's, is a folder or cannot be read.
    """
    for name, (is_own, why) in _OWN.items():
        path = folder / name
        if path.is_dir():
            raise RegistryError(f"cannot write {path}: it is a folder; name another --out")
        with explained(path):
            if path.exists() and not is_own(path):
                raise RegistryError(
                    f"{path} is not of a leaderboard ({why}); name an empty folder with --out, or remove it"
                )


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_BEGINNING).decode("utf-8", "replace").replace("\r\n", "\n")
