"""What a Hub keeps: repositories with their files, commits and pull requests."""

import hashlib
from dataclasses import dataclass, field
from typing import Any


def blob_name(content: bytes) -> str:
    """The name git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def listed(self, path: str) -> dict[str, Any]:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        plain = {"type": "file", "path": path, "size": len(self.content)}
        if not self.lfs:
            return plain | {"oid": blob_name(self.content)}
        lfs = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(pointer)}
        return plain | {"oid": blob_name(pointer.encode()), "lfs": lfs}


@dataclass
class Commit:
    """A commit; its name follows from its parent and number."""

    name: str
    files: dict[str, File]
    title: str


@dataclass
class Repo:
    """A repository: the commits of main, oldest first, and pull requests by number."""

    kind: str
    name: str
    private: bool = False
    sdk: str | None = None
    main: list[Commit] = field(default_factory=list)
    requests: dict[int, Commit] = field(default_factory=dict)

    def find(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.main[-1]
        if revision.startswith("refs/pr/"):
            return self.requests.get(int(revision.rpartition("/")[2]))
        every = [*self.main, *self.requests.values()]
        return next((one for one in every if one.name == revision), None)

    def made(self, files: dict[str, File], title: str) -> Commit:
        number = f"{self.kind} {self.name} {len(self.main)} {len(self.requests)}"
        return Commit(hashlib.sha1(number.encode()).hexdigest(), files, title)
