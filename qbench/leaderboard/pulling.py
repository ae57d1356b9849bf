"""Pull: what is published on the Hub into a registry, as if a stranger had written it."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..errors import RegistryError
from ..quantities import size_text
from ..registry import Merged, Registry
from .faults import HubError, persistently
from .hub import Head, Hub, Repository
from .published import FILE, MAX_FILE, sift

Say = Callable[[str], object]


@final
@dataclass(frozen=True)
class Fetched:
    """Published rows: the file as it came, the rows sifted from it, and what was left out of them.

    Attributes:
        source: the data set and the beginning of the commit that they are from, ``OWNER/NAME@COMMIT``.
    """

    raw: Path
    rows: Path
    dropped: Merged
    source: str


def fetch(hub: Hub, dataset: Repository, head: Head, folder: Path) -> Fetched:
    """Fetch the published rows of a commit into ``folder``.

    Raises:
        HubError: there are none, too many, they are damaged, or the Hub does not give them.
    """
    if FILE not in head.files:
        raise HubError(f"{dataset} holds no {FILE}: nothing was published there yet")
    size = head.files[FILE].size
    if size > MAX_FILE:
        limit = size_text(MAX_FILE)
        raise HubError(f"{FILE} of {dataset} has {size_text(size)}; at most {limit} are taken over")
    raw, rows = hub.download(dataset, head, FILE, folder), folder / "published.parquet"
    try:
        dropped = sift(raw, rows, f"{FILE} of {dataset} at {head.commit[:12]}")
    except RegistryError as error:
        raise HubError(str(error)) from None
    reason = "a row is too large to be a result" if dropped else None
    source = f"{dataset.name}@{head.commit[:12]}"
    return Fetched(raw, rows, Merged(rejected=dropped, reason=reason), source)


def pull(
    hub: Hub, dataset: Repository, revision: str | None, registry: Registry, say: Callable[[str], object]
) -> Merged:
    """Take published results over into a registry; what is there already stays as it is.

    Every row is validated with the schema; what its submitter says of how far to trust it is not read.

    Raises:
        HubError: there are none, or the Hub does not give them.
        RegistryError: the registry cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:

        def attempt() -> Fetched:
            head = hub.head(dataset, revision)
            if head is None:
                raise HubError(
                    f"there is no {dataset} at {hub.endpoint}, or the token may not see it (404); check the name, "
                    "or say where the results are with --dataset"
                )
            return fetch(hub, dataset, head, Path(folder))

        fetched = persistently(attempt, say)
        return registry.merge(fetched.rows, fetched.source) + fetched.dropped
