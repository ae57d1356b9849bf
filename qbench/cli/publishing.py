"""``qbench leaderboard push`` and ``pull``: results and their page to the Hugging Face Hub and back."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..leaderboard.faults import HubError
from ..leaderboard.hub import Repository, connect
from ..leaderboard.published import FILE, count, sift, write
from ..leaderboard.publishing import Build, Outcome, Wanted, push, site
from ..leaderboard.pulling import pull
from ..places import registry_path
from ..registry import Registry, open_registry
from . import complain, rendering
from .options import json_option, registry_option
from .rendering import DOUBTFUL, Screen


def _repository_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--dataset", metavar="OWNER/NAME", help="Data set of the results.  [default: OWNER/NAME-results]"
        ),
        click.option("--repo", required=True, metavar="OWNER/NAME", help="Space of the page."),
    ):
        function = option(function)
    return function


@click.command("push")
@_repository_options
@registry_option
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Push a page that `leaderboard build` made, and its results, instead of those of a registry.",
)
@click.option("--create-pr", is_flag=True, help="Open pull requests: for those who may not write.")
@click.option("--private", is_flag=True, help="Make new repositories private; refuse public ones.")
@click.option("--drop-rejected", is_flag=True, help="Leave out published rows that are not valid.")
def push_command(
    repo: str,
    dataset: str | None,
    registry: Path | None,
    folder: Path | None,
    create_pr: bool,
    private: bool,
    drop_rejected: bool,
) -> int:
    """Publish results and their page on the Hugging Face Hub.

    Creates or updates a static Space, OWNER/NAME, and a data set, OWNER/NAME-results. What is published already is
    taken over first and stays as it is; the page is built from all of it. Nothing is written where nothing changed.

    Log in with `hf auth login`, or set HF_TOKEN. Exit codes: 0 done, 1 the Hub failed or is out of reach, 2 refused.
    """
    if folder is not None and registry is not None:
        raise click.UsageError(
            "--folder brings its own results; leave out --registry, or leave out --folder."
        )
    wanted = Wanted(*_repositories(repo, dataset), private, create_pr, drop_rejected)
    with tempfile.TemporaryDirectory(prefix="qbench-") as working:
        own = Path(working) / FILE
        _own_results(registry, folder, own)
        page = folder or functools.partial(build_page, own=open_registry(registry))
        return _told(lambda: _push(wanted, own, page))


@click.command("pull")
@_repository_options
@click.option("--revision", metavar="REV", help="Branch, tag, commit or refs/pr/N.  [default: the newest]")
@registry_option
@json_option("one line: added, present, rejected, reason")
def pull_command(
    repo: str, dataset: str | None, revision: str | None, registry: Path | None, json_output: bool
) -> int:
    """Take published results over into a registry.

    Every row is validated; what the registry has stays as it is, and a bad row harms nothing. The rows are as their
    submitters reported them: run one again to know that it holds.
    """
    _, results = _repositories(repo, dataset)
    target = Registry(registry_path() if registry is None else registry)
    try:
        merged = pull(connect(must_write=False), results, revision, target, complain)
    except HubError as error:
        return _failed(error)
    if json_output:
        rendering.json_lines([vars(merged)])
        return 0
    screen = Screen()
    counts = f"{merged.added:,} new, {merged.present:,} known, {merged.rejected:,} rejected"
    screen.verbatim(f"{counts}; now in {target.path}")
    if merged.reason:
        screen.say(f"the first rejected: {merged.reason}", DOUBTFUL)
    return 0


def build_page(registry: Registry, folder: Path, own: Registry | None = None) -> None:
    """The page of a registry's results; their trust is what one's own registry says."""
    from ..leaderboard.build import build
    from .leaderboard import decided, installed

    if own is not None:
        registry.adopt_reproductions(own)
    build(registry, folder, installed(), decided(registry))


def _repositories(repo: str, dataset: str | None) -> tuple[Repository, Repository]:
    space = Repository.named("space", repo)
    return space, Repository.named("dataset", dataset or f"{repo}-results")


def _own_results(registry: Path | None, folder: Path | None, own: Path) -> None:
    if folder is None:
        write(open_registry(registry), own)
        return
    site(folder)
    if not (folder / FILE).is_file():
        raise HubError(f"{folder} has no {FILE}; make it with `qbench leaderboard build --out {folder}`")
    sift(folder / FILE, own, str(folder / FILE))


def _push(wanted: Wanted, own: Path, page: Build | Path) -> list[Outcome]:
    hub = connect(must_write=True)
    going = f"{count(own):,} results are going to {wanted.dataset}, their page to {wanted.space}"
    click.echo(f"{going}; what is published there is kept", err=True)
    return push(hub, wanted, own, page, complain)


def _told(pushed: Callable[[], list[Outcome]]) -> int:
    try:
        outcomes = pushed()
    except HubError as error:
        return _failed(error)
    for outcome in outcomes:
        Screen().verbatim(str(outcome))
    return 0


def _failed(error: HubError) -> int:
    """The line of an error; 1 where the same may succeed later, as nothing of the input is wrong."""
    if not error.passing:
        raise error
    complain(str(error))
    return 1
