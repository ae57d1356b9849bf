"""Push: results and their page to the Hub, so that nobody's rows are lost.

A push is tried as a whole, from the newest commits on, until both repositories have what it wants:

1. read the head of the Space, then that of the data set;
2. take over what is published, then one's own rows: what is published stays as it is;
3. build the page of all rows;
4. write the data set, if its rows changed, then the Space, if a file of it changed, each on top of its head.

A commit on a head that is no longer the newest is refused by the Hub, and the push begins anew. So does one whose
commit got no answer: if it was accepted after all, the new head holds its files and there is nothing left to do.
The Space is read first, so that a page can only replace pages whose rows it has: a page is written after its rows,
and any that was written by the time the Space was read has its rows in the data set that was read after it.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from ..quantities import size_text
from ..registry import Registry
from .card import CARD, card
from .faults import HubError, persistently
from .hub import Head, Hub, Repository
from .published import FILE, absent, count, same, write
from .pulling import Say, fetch

PAGE = ("index.html", "README.md", "results.csv")  # and the rows once more: the page has a link to them

Build = Callable[[Registry, Path], object]
Done = Literal["created", "updated", "unchanged", "proposed", "proposed before"]


@final
@dataclass(frozen=True)
class Wanted:
    """What to push to: a Space for the page, a data set for the rows.

    Attributes:
        private: make the repositories that are not there yet private; refuse those that are public.
        create_pr: open pull requests instead of writing.
        drop_rejected: leave out published rows that are not valid, instead of refusing.
    """

    space: Repository
    dataset: Repository
    private: bool = False
    create_pr: bool = False
    drop_rejected: bool = False


@final
@dataclass(frozen=True)
class Outcome:
    """What became of one repository."""

    repository: Repository
    done: Done
    address: str
    contents: str

    def __str__(self) -> str:
        words = {"proposed": "pull request opened", "proposed before": "a pull request has this already"}
        return f"{self.repository}: {words.get(self.done, self.done)}, {self.contents}: {self.address}"


@final
@dataclass(frozen=True)
class _Made:
    """All rows, the page made from them, and what of it was published when they were made."""

    base: str | None
    results: Path
    rows: int
    changed: bool
    page: Mapping[str, Path]


def site(folder: Path) -> dict[str, Path]:
    """The files of a page in a folder that ``qbench leaderboard build`` made.

    Raises:
        HubError: one of them is not there.
    """
    for name in PAGE:
        if not (folder / name).is_file():
            raise HubError(f"{folder} has no {name}; make it with `qbench leaderboard build --out {folder}`")
    return {name: folder / name for name in PAGE}


@final
class Push:
    """A push of the rows of a sifted file, with a page that ``build`` makes or one that is there.

    Args:
        own: the rows, as :func:`qbench.leaderboard.published.write` writes them.
        page: a builder, or the folder of a page of just these rows.
        folder: where to work.
    """

    def __init__(self, hub: Hub, wanted: Wanted, own: Path, page: Build | Path, folder: Path) -> None:
        self._hub, self._wanted, self._own, self._page, self._folder = hub, wanted, own, page, folder
        self._made: _Made | None = None
        self._created: set[Repository] = set()
        self._sent: set[Repository] = set()
        self.outcomes: dict[Repository, Outcome] = {}

    def attempt(self) -> None:
        """One try, from the newest commits on; ``outcomes`` says what became of each repository.

        Raises:
            HubError: the Hub refused or failed, or there is nothing to push.
        """
        wanted = self._wanted
        while True:
            space, dataset = self._head(wanted.space), self._head(wanted.dataset)
            made = self._make(dataset)
            if space is not None and dataset is not None:
                break
            # Whoever is faster may write to a new repository at once: read everything again.
            heads = {wanted.space: space, wanted.dataset: dataset}
            self._create([repository for repository, head in heads.items() if head is None])
        rows = {FILE: made.results} if made.changed or FILE not in dataset.files else {}
        if CARD not in dataset.files:  # one that is there is its owner's
            rows[CARD] = card(wanted.space.name, wanted.dataset.name, self._hub.endpoint, self._folder)
        size = size_text(made.results.stat().st_size)
        self._put(wanted.dataset, dataset, rows, f"{made.rows:,} results ({size})")
        self._put(wanted.space, space, {**made.page, FILE: made.results}, f"page of {made.rows:,} results")

    def _head(self, repository: Repository) -> Head | None:
        head = self._hub.head(repository)
        if head is None and self._wanted.create_pr:
            raise HubError(f"there is no {repository} to open a pull request on; push without --create-pr")
        if head is not None and self._wanted.private and not head.private:
            raise HubError(f"{repository} is public; make it private in its settings, or leave out --private")
        return head

    def _create(self, missing: list[Repository]) -> None:
        for repository in missing:
            if repository in self._created:
                raise HubError(f"{repository} was created and cannot be seen yet", again=True)
            self._hub.create(repository, private=self._wanted.private)
            self._created.add(repository)

    def _make(self, dataset: Head | None) -> _Made:
        """The rows and the page on top of what is published, made once for the same published file."""
        stored = dataset.files.get(FILE) if dataset else None
        base = (stored.sha256 or stored.blob) if stored else None
        made = self._made
        if made and stored and made.base != base and stored.holds(made.results):  # it is the one we sent
            self._made = _Made(base, made.results, made.rows, False, made.page)
        elif made is None or made.base != base:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            self._made = self._merge(base, dataset if stored else None, folder)
        assert self._made is not None
        return self._made

    def _merge(self, base: str | None, dataset: Head | None, folder: Path) -> _Made:
        registry, own, fetched = Registry(folder / "all.duckdb"), self._own, None
        if dataset is not None:
            fetched = fetch(self._hub, self._wanted.dataset, dataset, folder)
            merged = registry.merge(fetched.rows, fetched.source) + fetched.dropped
            self._refuse(merged.rejected, merged.reason)
            own = folder / "new.parquet"
            absent(self._own, fetched.rows, own)
        new = registry.merge(own)
        if new.rejected:
            raise HubError(f"{new.rejected:,} of your results are not valid, the first: {new.reason}")
        if not registry.path.exists():
            raise HubError("there are no results to publish; make some with `qbench run`")
        results = folder / FILE
        rows = write(registry, results)
        page = self._site(registry, rows)
        if fetched is not None and not fetched.dropped.rejected and same(results, fetched.rows):
            return _Made(base, fetched.raw, rows, False, page)
        return _Made(base, results, rows, True, page)

    def _site(self, registry: Registry, rows: int) -> dict[str, Path]:
        if not isinstance(self._page, Path):
            folder = registry.path.parent / "page"
            self._page(registry, folder)
            return site(folder)
        if rows != count(self._own):
            raise HubError(
                f"{self._wanted.dataset} holds results that the page in {self._page} lacks; take them over with "
                f"`qbench leaderboard pull --repo {self._wanted.space.name}` and build it again, "
                "or push without --folder"
            )
        return site(self._page)

    def _refuse(self, rejected: int, reason: str | None) -> None:
        if rejected and not self._wanted.drop_rejected:
            raise HubError(
                f"{rejected:,} published rows of {self._wanted.dataset} are not valid for this version "
                f"({reason}); upgrade qbench-suite, or leave them out with --drop-rejected"
            )

    def _put(self, repository: Repository, head: Head, files: Mapping[str, Path], contents: str) -> None:
        changed = {name: path for name, path in files.items() if not head.holds({name: path})}
        done, address = self._write(repository, head, changed, contents)
        before = self.outcomes.get(repository)
        if done != "unchanged" or before is None:
            self.outcomes[repository] = Outcome(repository, done, address, contents)

    def _write(
        self, repository: Repository, head: Head, files: Mapping[str, Path], contents: str
    ) -> tuple[Done, str]:
        sent, title = repository in self._sent, f"Publish {contents}"
        written: Done = "created" if repository in self._created else "updated"
        if not files:  # what was sent and got no answer may have arrived after all
            return written if sent or written == "created" else "unchanged", self._hub.address(repository)
        if self._wanted.create_pr and (address := self._hub.proposed(repository, files)):
            return "proposed" if sent else "proposed before", address
        self._sent.add(repository)
        if self._wanted.create_pr:
            return "proposed", self._hub.propose(repository, head, files, title)
        return written, self._hub.commit(repository, head, files, title)


def push(hub: Hub, wanted: Wanted, own: Path, page: Build | Path, say: Say) -> list[Outcome]:
    """Publish rows and their page; returns what became of the data set and of the Space.

    Raises:
        HubError: one line that says what was not done, why, and what to do. What was done before is said first.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        pushing = Push(hub, wanted, own, page, Path(folder))
        try:
            persistently(pushing.attempt, say)
        except HubError:
            for outcome in pushing.outcomes.values():
                say(str(outcome))
            raise
    return list(pushing.outcomes.values())
