"""``qbench fetch``: bring data sets to this machine and verify them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from .. import plugins
from ..components import Stored
from ..errors import DataError
from ..fetching import bytes_below
from ..places import data_root
from ..quantities import size_text
from ..reporting import Progress, Report
from . import rendering
from .rendering import Screen


@click.command("fetch")
@click.argument("names", metavar="DATASET...", nargs=-1, required=True)
def fetch_command(names: Sequence[str]) -> None:
    """Fetch and verify data sets.

    What is there and whole is left as it is. The folder is $QBENCH_DATA, else the user's data folder.
    """
    screen, root = Screen(), data_root()
    for dataset in [_images(name) for name in names]:
        if dataset.missing(root) is None:
            screen.say(f"{dataset.name}: there and whole in {root}")
            continue
        with rendering.progress() as report, _watched(dataset, root, report):
            dataset.fetch(root)
        problem = dataset.missing(root)
        if problem:
            raise DataError(f"{dataset.name} was fetched and still cannot be used: {problem}")
        screen.say(f"{dataset.name}: fetched {size_text(dataset.download_bytes)} into {root}")


def _images(name: str) -> Stored:
    dataset = plugins.catalog().build("dataset", name)
    if not isinstance(dataset, Stored):
        raise DataError(f"{name} is drawn from a random number generator; there is nothing to fetch")
    return dataset


@contextmanager
def _watched(dataset: Stored, root: Path, report: Report) -> Iterator[None]:
    """Report the growth of the folder twice a second."""
    ended, before = threading.Event(), bytes_below(root)

    def watch() -> None:
        while not ended.wait(0.5):
            got = min(bytes_below(root) - before, dataset.download_bytes)
            report(Progress(got, dataset.download_bytes, f"fetching {dataset.name}", unit="bytes"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
