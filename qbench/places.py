"""Where data sets, caches and results lie unless told otherwise.

Environment variables come first (``QBENCH_DATA``, ``QBENCH_CACHE``, ``QBENCH_REGISTRY``; an empty one counts
as unset, ``~`` is the home), then the folders of the operating system. Nothing is created here.
"""

import os
from pathlib import Path

import platformdirs

DATA_VARIABLE = "QBENCH_DATA"
CACHE_VARIABLE = "QBENCH_CACHE"
REGISTRY_VARIABLE = "QBENCH_REGISTRY"


def data_root() -> Path:
    """The folder that holds data sets: ``$QBENCH_DATA``, else ``data`` in qbench's user data folder."""
    return _stated(DATA_VARIABLE) or Path(platformdirs.user_data_dir("qbench")) / "data"


def cache_root() -> Path:
    """The folder for what can be made again: ``$QBENCH_CACHE``, else the user's cache folder of qbench."""
    return _stated(CACHE_VARIABLE) or Path(platformdirs.user_cache_dir("qbench"))


def registry_path() -> Path:
    """The file of results: ``$QBENCH_REGISTRY``, else ``qbench.duckdb`` in the working folder."""
    return _stated(REGISTRY_VARIABLE) or Path("qbench.duckdb")


def _stated(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None
