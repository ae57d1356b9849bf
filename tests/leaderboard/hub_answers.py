"""What a Hub answers to what huggingface_hub asks when it creates, lists, uploads, commits, proposes and downloads.

It keeps what a server must: commits on top of a parent that is no longer the head are refused, LFS objects are checked
against their names, permissions go by token.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Any

from hub_contents import Commit, File, Repo, blob_name

if TYPE_CHECKING:
    from loopback_hub import LoopbackHub

_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_NAME = r"(?P<name>[^/]+/[^/]+)"
_KIND = r"(?P<kind>models|datasets|spaces)"
Answer = tuple[int, bytes, dict[str, str]]


class AnswerError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Request:
    """What was asked of a Hub, and its answer; ``route`` is the path without its escapes."""

    world: "LoopbackHub"
    command: str
    route: str
    query: Mapping[str, list[str]]
    headers: Message
    body: bytes

    def answer(self) -> Answer:
        """Status, content and headers.

        Raises:
            AnswerError: the answer is an error.
        """
        for pattern, method in _ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {self.route}"):
                answer = method(self, **found.groupdict())
                return answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode(), {})
        raise AnswerError(404, f"no route {self.command} {self.route}")

    def role(self) -> str | None:
        given = self.headers.get("Authorization", "")
        if not given:
            return None
        token = given.removeprefix("Bearer ")
        if token not in self.world.tokens:
            raise AnswerError(401, "Invalid credentials in Authorization header")
        return self.world.tokens[token]

    def repo(self, kind: str, name: str, *, write: bool = False) -> Repo:
        role, repo = self.role(), self.world.repos.get((_KINDS[kind], name))
        if repo is None or (repo.private and role is None):
            raise AnswerError(404 if role else 401, "Repository not found", "RepoNotFound")
        if write and role != "write":
            raise AnswerError(403, "you do not have write access")
        return repo

    def revision(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise AnswerError(404, "Invalid rev id", "RevisionNotFound")
        return commit

    def create(self) -> dict[str, Any]:
        asked = json.loads(self.body)
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        url = f"{self.world.address}/{kind}s/{name}"
        if self.role() != "write":
            raise AnswerError(403, f"You don't have the rights to create a {kind} under this namespace")
        if (kind, name) in self.world.repos:
            raise AnswerError(409, f"You already created this {kind} repo")
        self.world.make(kind, name, private=asked.get("visibility") == "private", sdk=asked.get("sdk"))
        return {"url": url}

    def info(self, kind: str, name: str, rev: str = "main") -> dict[str, Any]:
        repo = self.repo(kind, name)
        commit = self.revision(repo, rev)
        siblings = [{"rfilename": path} for path in commit.files]
        return {
            "id": name,
            "sha": commit.name,
            "private": repo.private,
            "siblings": siblings,
            "sdk": repo.sdk,
        }

    def tree(self, kind: str, name: str, rev: str) -> list[dict[str, Any]]:
        commit = self.revision(self.repo(kind, name), rev)
        return [file.listed(path) for path, file in commit.files.items()]

    def preupload(self, kind: str, name: str, rev: str) -> dict[str, Any]:
        repo = self.repo(kind, name, write="create_pr" not in self.query)
        head, answers = self.revision(repo, rev).files, []
        for asked in json.loads(self.body)["files"]:
            known = head.get(asked["path"])
            lfs = bool(self.world.lfs.search(asked["path"]))
            oid = (known.sha256 if known.lfs else blob_name(known.content)) if known else None
            mode = "lfs" if lfs else "regular"
            answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    def batch(self, kind: str, name: str) -> dict[str, Any]:
        self.repo(kind, name)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            entry: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.world.objects:
                entry["actions"] = self._actions(asked["oid"], asked["size"])
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def _actions(self, oid: str, size: int) -> dict[str, Any]:
        verify = {"href": f"{self.world.address}/lfs-verify"}
        step = self.world.part_size
        if step is None:
            return {"upload": {"href": f"{self.world.storage}/lfs/{oid}?signature=secret"}, "verify": verify}
        numbers = range(1, -(-size // step) + 1)
        header = {str(number): f"{self.world.address}/lfs/{oid}/{number}" for number in numbers}
        upload = {"href": f"{self.world.address}/lfs-done", "header": {"chunk_size": str(step)} | header}
        return {"upload": upload, "verify": verify}

    def upload(self, oid: str) -> dict[str, Any]:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise AnswerError(400, "the object is not what its name says")
        self.world.objects[oid] = self.body
        return {}

    def upload_part(self, oid: str, number: str) -> Answer:
        self.world.parts[oid, int(number)] = self.body
        return 200, b"", {"ETag": f'"{number}"'}

    def join(self) -> dict[str, Any]:
        asked = json.loads(self.body)
        self.body = b"".join(self.world.parts[asked["oid"], part["partNumber"]] for part in asked["parts"])
        return self.upload(asked["oid"])

    def verify(self) -> dict[str, Any]:
        asked = json.loads(self.body)
        if len(self.world.objects.get(asked["oid"], b"")) != asked["size"]:
            raise AnswerError(404, "no such object")
        return {}

    def commit(self, kind: str, name: str, rev: str) -> dict[str, Any]:
        request = "create_pr" in self.query
        repo = self.repo(kind, name, write=not request)
        if request and self.role() is None:
            raise AnswerError(401, "log in")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header, head = lines[0]["value"], self.revision(repo, rev)
        if not request and header.get("parentCommit", head.name) != head.name:
            raise AnswerError(412, "A commit has happened since. Please refresh and try again.")
        commit = repo.made(head.files | dict(self._added(line) for line in lines[1:]), header["summary"])
        address = f"{self.world.address}/{kind}/{name}"
        answer = {"success": True, "commitOid": commit.name, "commitUrl": f"{address}/commit/{commit.name}"}
        if not request:
            repo.main.append(commit)
            return answer
        number = len(repo.requests) + 1
        repo.requests[number] = commit
        return answer | {"pullRequestUrl": f"{address}/discussions/{number}"}

    def _added(self, line: dict[str, Any]) -> tuple[str, File]:
        value = line["value"]
        if line["key"] == "file":
            return value["path"], File(base64.b64decode(value["content"]))
        if line["key"] != "lfsFile" or value["oid"] not in self.world.objects:
            raise AnswerError(400, f"{line['key']} of something that was not uploaded")
        return value["path"], File(self.world.objects[value["oid"]], lfs=True)

    def discussions(self, kind: str, name: str) -> dict[str, Any]:
        repo = self.repo(kind, name)
        listed = [
            {
                "num": number,
                "title": commit.title,
                "author": {"name": "somebody"},
                "createdAt": "2026-01-02T03:04:05.000Z",
                "status": "open",
                "isPullRequest": True,
                "repo": {"name": name, "type": repo.kind},
            }
            for number, commit in repo.requests.items()
        ]
        return {"count": len(listed), "start": 0, "discussions": listed}

    def validate(self) -> dict[str, Any]:
        text = json.loads(self.body)["content"]
        if not text.startswith("---\n"):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
        return {"errors": [], "warnings": []}

    def resolve(self, name: str, rev: str, path: str, kind: str = "models") -> Answer:
        commit = self.revision(self.repo(kind, name), rev)
        if path not in commit.files:
            raise AnswerError(404, "Entry not found", "EntryNotFound")
        file = commit.files[path]
        etag = file.sha256 if file.lfs else blob_name(file.content)
        headers = {"X-Repo-Commit": commit.name, "ETag": f'"{etag}"', "X-Linked-Size": str(len(file.content))}
        if file.lfs:
            self.world.objects[etag] = file.content
            headers |= {"X-Linked-Etag": f'"{etag}"', "Location": f"{self.world.storage}/stored/{etag}"}
            return 302, b"", headers
        return self._range(file.content, headers)

    def stored(self, oid: str) -> Answer:
        if self.headers.get("Authorization"):
            raise AnswerError(400, "a token was sent to the storage")
        return self._range(self.world.objects[oid], {"ETag": f'"{oid}"'})

    def _range(self, content: bytes, headers: dict[str, str]) -> Answer:
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked:
            return 200, content, headers
        start = int(asked[1])
        spread = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return 206, content[start:], headers | spread


_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (r"POST /api/repos/create", Request.create),
    (rf"GET /api/{_KIND}/{_NAME}", Request.info),
    (rf"GET /api/{_KIND}/{_NAME}/revision/(?P<rev>.+)", Request.info),
    (rf"GET /api/{_KIND}/{_NAME}/tree/(?P<rev>.+)", Request.tree),
    (rf"POST /api/{_KIND}/{_NAME}/preupload/(?P<rev>.+)", Request.preupload),
    (rf"POST /api/{_KIND}/{_NAME}/commit/(?P<rev>.+)", Request.commit),
    (rf"GET /api/{_KIND}/{_NAME}/discussions", Request.discussions),
    (r"POST /api/validate-yaml", Request.validate),
    (rf"POST /{_KIND}/{_NAME}\.git/info/lfs/objects/batch", Request.batch),
    (r"PUT /lfs/(?P<oid>\w+)", Request.upload),
    (r"PUT /lfs/(?P<oid>\w+)/(?P<number>\d+)", Request.upload_part),
    (r"POST /lfs-done", Request.join),
    (r"POST /lfs-verify", Request.verify),
    (rf"(?:GET|HEAD) /{_KIND}/{_NAME}/resolve/(?P<rev>.+)/(?P<path>[^/]+)", Request.resolve),
    (r"(?:GET|HEAD) /stored/(?P<oid>\w+)", Request.stored),
]
