"""The one door to the Hugging Face Hub: what stands there, files out, files in.

The client is imported when a Hub is made, never before, with its telemetry and progress bars off. Xet, its other
way to move large files, is switched off too: it keeps caches and logs in the home folder, and retries by rules of
its own, where the plain way is one that every fault of it can be tried on.
"""

import contextlib
import hashlib
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

from .. import __version__
from .faults import Asked, HubError, clean, explain

QUIET = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
TIMEOUT = 60.0  # seconds without a byte
PROPOSALS = 50  # open pull requests that are looked at
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_MAX_NAME = 96

Kind = Literal["space", "dataset"]


@final
@dataclass(frozen=True)
class Repository:
    """A repository of the Hub: ``name`` is OWNER/NAME."""

    kind: Kind
    name: str

    @classmethod
    def named(cls, kind: Kind, name: str) -> "Repository":
        """
        Raises:
            HubError: no name that a repository can have.
        """
        owner, slash, rest = name.partition("/")
        fine = slash and all(_PART.fullmatch(part) for part in (owner, rest)) and len(rest) <= _MAX_NAME
        if not fine or re.search(r"--|\.\.|\.git$|\.ipynb$", name):
            raise HubError(
                f"{clean(name, None)!r} cannot be the name of a repository; write OWNER/NAME with letters, digits, "
                f"single '-' and '.', and '_', NAME at most {_MAX_NAME} characters"
            )
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{'Space' if self.kind == 'space' else 'data set'} {self.name}"


@final
@dataclass(frozen=True)
class Stored:
    """A file as the Hub has it: large ones are known by sha256, others by the name of their git blob."""

    size: int
    blob: str
    sha256: str | None = None

    def holds(self, path: Path) -> bool:
        """Whether the file at ``path`` has the same content."""
        if path.stat().st_size != self.size:
            return False
        found = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % self.size)
        with path.open("rb") as file:
            while piece := file.read(2**20):
                found.update(piece)
        return found.hexdigest() == (self.sha256 or self.blob)


@final
@dataclass(frozen=True)
class Head:
    """A commit of a repository with the files it holds."""

    commit: str
    private: bool
    files: Mapping[str, Stored] = field(default_factory=dict)

    def holds(self, files: Mapping[str, Path]) -> bool:
        """Whether every one of ``files`` is there with that content."""
        return all(name in self.files and self.files[name].holds(path) for name, path in files.items())


@final
class Hub:
    """The Hub at ``endpoint``, asked with ``token``; None asks as anybody.

    Every method raises HubError where the Hub refuses, fails or cannot be reached.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        client = _client()
        self._session = client.get_session
        self._added = client.CommitOperationAdd
        self._api = client.HfApi(
            endpoint=endpoint, token=token or False, library_name="qbench", library_version=__version__
        )
        self._token, self._reached = token, False
        self.endpoint = clean(self._api.endpoint, token)

    def head(self, repository: Repository, revision: str | None = None) -> Head | None:
        """The newest commit, or that of ``revision``; None where there is no such repository, or none to see."""
        asked = {"repo_type": repository.kind, "revision": revision}
        try:
            with self._asking("read", repository):
                info = self._api.repo_info(repository.name, timeout=TIMEOUT, **asked)
        except HubError as error:
            if error.missing:
                return None
            raise
        with self._asking("read", repository):
            tree = self._api.list_repo_tree(
                repository.name, recursive=True, **(asked | {"revision": info.sha})
            )
            files = {one.path: _stored(one) for one in tree if hasattr(one, "blob_id")}
        return Head(str(info.sha), bool(info.private), files)

    def create(self, repository: Repository, *, private: bool) -> None:
        """Make a repository that is not there yet."""
        sdk = {"space_sdk": "static"} if repository.kind == "space" else {}
        with self._asking("create", repository):
            self._api.create_repo(repository.name, repo_type=repository.kind, private=private or None, **sdk)

    def download(self, repository: Repository, head: Head, name: str, folder: Path) -> Path:
        """Fetch a file of a commit into ``folder``, whole and as the commit has it."""
        cache = tempfile.mkdtemp(dir=folder)
        with self._asking("read", repository):
            found = self._api.hf_hub_download(
                repository.name, name, repo_type=repository.kind, revision=head.commit, cache_dir=cache
            )
        if not head.files[name].holds(Path(found)):
            raise HubError(f"{name} of {repository} arrived damaged", again=True)
        return Path(found)

    def commit(self, repository: Repository, parent: Head, files: Mapping[str, Path], title: str) -> str:
        """Write files on top of ``parent``, or not at all if that is no longer the newest; returns the address."""
        with self._asking("write to", repository):
            self._send(repository, parent, files, title, create_pr=False)
        return self.address(repository)

    def propose(self, repository: Repository, parent: Head, files: Mapping[str, Path], title: str) -> str:
        """Open a pull request that writes files on top of ``parent``; returns its address."""
        with self._asking("open a pull request on", repository):
            number = self._send(repository, parent, files, title, create_pr=True).pr_num
        return self._request(repository, number)

    def proposed(self, repository: Repository, files: Mapping[str, Path]) -> str | None:
        """The address of an open pull request that has these files already."""
        with self._asking("list the pull requests of", repository):
            found = self._api.get_repo_discussions(
                repository.name,
                repo_type=repository.kind,
                discussion_type="pull_request",
                discussion_status="open",
            )
            numbers = [one.num for one, _ in zip(found, range(PROPOSALS), strict=False)]
        return next(
            (self._request(repository, one) for one in numbers if self._has(repository, one, files)), None
        )

    def address(self, repository: Repository) -> str:
        """Where people look at it."""
        return f"{self.endpoint}/{repository.kind}s/{repository.name}"

    def _has(self, repository: Repository, number: Any, files: Mapping[str, Path]) -> bool:
        try:
            head = self.head(repository, f"refs/pr/{int(number)}")
        except HubError as error:
            if error.passing:
                raise
            return False  # its branch is gone
        return head is not None and head.holds(files)

    def _request(self, repository: Repository, number: Any) -> str:
        return f"{self.address(repository)}/discussions/{int(number)}"

    def _send(
        self, repository: Repository, parent: Head, files: Mapping[str, Path], title: str, *, create_pr: bool
    ) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the card, for those who wrote it by hand
            return self._api.create_commit(
                repository.name,
                [self._added(name, str(path)) for name, path in files.items()],
                commit_message=title,
                commit_description=f"`qbench leaderboard push` of qbench {__version__}",
                repo_type=repository.kind,
                parent_commit=parent.commit,
                create_pr=create_pr,
            )

    @contextlib.contextmanager
    def _asking(self, doing: str, repository: Repository) -> Iterator[None]:
        """Whatever the client raises in the block becomes one line without the token."""
        self._session().timeout = TIMEOUT
        try:
            yield
        except Exception as error:
            asked = Asked(doing, str(repository), self.endpoint, self._token, self._reached)
            fault = explain(error, asked)
        else:
            self._reached = True
            return
        raise fault from None


def connect(*, must_write: bool) -> Hub:
    """The Hub of ``$HF_ENDPOINT``, with the token of ``$HF_TOKEN`` or of ``hf auth login``.

    Raises:
        HubError: there is no token and ``must_write``, or the client is not installed.
    """
    client = _client()
    try:
        token = client.get_token()
    except Exception as error:
        raise HubError(
            f"cannot read the token: {clean(str(error), None)}; log in with `hf auth login`"
        ) from None
    if must_write and not token:
        raise HubError(
            "no token to push with; log in with `hf auth login`, or set HF_TOKEN to one with write access"
        )
    return Hub(os.environ.get("HF_ENDPOINT") or None, token)


def _client() -> Any:
    """The client, told to be quiet before it is imported: it reads its settings then."""
    os.environ.update(QUIET)
    try:
        import huggingface_hub
    except ImportError:
        raise HubError("huggingface-hub is not installed; run `pip install huggingface-hub`") from None
    # It would log addresses that carry signatures.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    return huggingface_hub


def _stored(found: Any) -> Stored:
    return Stored(int(found.size), str(found.blob_id), str(found.lfs.sha256) if found.lfs else None)
