"""A Hub of one process, in memory, for the real client: repositories, git heads, LFS, pull requests, and faults.

It answers what huggingface_hub asks when it creates, lists, uploads, commits, proposes and downloads, and keeps what
a server must: commits on top of a parent that is no longer the head are refused, LFS objects are checked against
their names, permissions go by token.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITER, READER = "hf_writerwriterwriterwriter0001", "hf_readerreaderreaderreader00002"
_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_NAME = r"(?P<name>[^/]+/[^/]+)"
_KIND = r"(?P<kind>models|datasets|spaces)"


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


@dataclass
class Fault:
    """What happens to the next requests whose method and path match.

    Attributes:
        match: a regular expression, searched in "METHOD /path".
        status: the answer; None cuts the connection instead.
        after: do what was asked first.
        times: how many requests; the rest go through.
        part: of an answer that succeeds, this share of its bytes, then the connection is cut.
        swap: replaces the body of an answer that succeeds by as many other bytes.
        before: called first, once a request matches.
    """

    match: str
    status: int | None = None
    after: bool = False
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    part: float | None = None
    swap: bool = False
    before: Callable[[], object] | None = None


class LoopbackHub:
    """The server; ``address`` is what HF_ENDPOINT has to be."""

    def __init__(self, *, lfs: str = r"\.parquet$", part_size: int | None = None) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.tokens = {WRITER: "write", READER: "read"}
        self.lfs, self.part_size = re.compile(lfs), part_size
        self.lock = threading.RLock()
        hub = self

        class Handler(_Handler):
            world = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.storage = self.address.replace("127.0.0.1", "localhost")  # another host: no token belongs there

    def __enter__(self) -> "LoopbackHub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def space(self, name: str) -> Repo:
        return self.repos["space", name]

    def dataset(self, name: str) -> Repo:
        return self.repos["dataset", name]

    def fail(self, match: str, status: int | None = None, **more: Any) -> None:
        """Inject a fault."""
        self.faults.append(Fault(match, status, **more))

    def asked(self, match: str) -> int:
        """How many requests there were that match."""
        return sum(bool(re.search(match, one)) for one in self.requests)

    def make(self, kind: str, name: str, *, private: bool = False, sdk: str | None = None) -> Repo:
        repo = self.repos[kind, name] = Repo(kind, name, private, sdk)
        card = {"README.md": File(b"---\nsdk: static\n---\n")} if kind == "space" else {}
        repo.main.append(
            repo.made({".gitattributes": File(b"*.parquet filter=lfs\n")} | card, "initial commit")
        )
        return repo

    def put(self, repo: Repo, **files: bytes) -> None:
        """A commit by somebody else; ``__`` in a name stands for a dot."""
        new = {
            name.replace("__", "."): File(content, bool(self.lfs.search(name.replace("__", "."))))
            for name, content in files.items()
        }
        with self.lock:
            repo.main.append(repo.made(repo.main[-1].files | new, "by somebody else"))

    def fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None


class _CutError(Exception):
    """The connection ends here."""


class _AnswerError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    world: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        where = urlsplit(self.path)
        self.route, self.query = unquote(where.path), parse_qs(where.query)
        self.body = self._received()
        request = f"{self.command} {self.route}{'?' + where.query if where.query else ''}"
        self.world.requests.append(request)
        self.fault = self.world.fault(request)
        try:
            self._respond()
        except (_CutError, BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except _AnswerError as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            self._send(error.status, json.dumps({"error": str(error)}).encode(), headers)

    def _received(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _respond(self) -> None:
        fault = self.fault
        if fault and fault.before:
            fault.before()
        whole = fault is None or fault.part is not None or fault.swap or fault.before is not None
        if not whole and fault and not fault.after:
            self._break(fault)
        with self.world.lock:
            status, content, headers = self._handle()
        if not whole and fault:
            self._break(fault)
        self._send(status, content, headers)

    def _break(self, fault: Fault) -> None:
        if fault.status is None:
            raise _CutError
        # A careless server repeats what it was sent: nothing of it may reach anybody.
        said = f"no; {self.headers.get('Authorization', '')} \x1b[31m"
        self._send(fault.status, json.dumps({"error": said}).encode(), fault.headers)
        raise _CutError

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        length = headers.pop("Content-Length", str(len(content)))
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault, fine = self.fault, status < 300
        if fault and fault.swap and fine:
            content = bytes(byte ^ 0x55 for byte in content)
        if fault and fault.part is not None and fine:
            self.wfile.write(content[: int(len(content) * fault.part)])
            raise _CutError
        self.wfile.write(content)

    def _handle(self) -> tuple[int, bytes, dict[str, str]]:
        for pattern, method in _ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {self.route}"):
                return _reply(method(self, **found.groupdict()))
        raise _AnswerError(404, f"no route {self.command} {self.route}")

    def role(self) -> str | None:
        given = self.headers.get("Authorization", "")
        if not given:
            return None
        token = given.removeprefix("Bearer ")
        if token not in self.world.tokens:
            raise _AnswerError(401, "Invalid credentials in Authorization header")
        return self.world.tokens[token]

    def repo(self, kind: str, name: str, *, write: bool = False) -> Repo:
        role, repo = self.role(), self.world.repos.get((_KINDS[kind], name))
        if repo is None or (repo.private and role is None):
            raise _AnswerError(404 if role else 401, "Repository not found", "RepoNotFound")
        if write and role != "write":
            raise _AnswerError(403, "you do not have write access")
        return repo

    def revision(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise _AnswerError(404, "Invalid rev id", "RevisionNotFound")
        return commit

    def create(self) -> dict[str, Any]:
        asked = json.loads(self.body)
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        url = f"{self.world.address}/{kind}s/{name}"
        if self.role() != "write":
            raise _AnswerError(403, f"You don't have the rights to create a {kind} under this namespace")
        if (kind, name) in self.world.repos:
            raise _AnswerError(409, f"You already created this {kind} repo")
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
            raise _AnswerError(400, "the object is not what its name says")
        self.world.objects[oid] = self.body
        return {}

    def upload_part(self, oid: str, number: str) -> tuple[int, bytes, dict[str, str]]:
        self.world.parts[oid, int(number)] = self.body
        return 200, b"", {"ETag": f'"{number}"'}

    def join(self) -> dict[str, Any]:
        asked = json.loads(self.body)
        self.body = b"".join(self.world.parts[asked["oid"], part["partNumber"]] for part in asked["parts"])
        return self.upload(asked["oid"])

    def verify(self) -> dict[str, Any]:
        asked = json.loads(self.body)
        if len(self.world.objects.get(asked["oid"], b"")) != asked["size"]:
            raise _AnswerError(404, "no such object")
        return {}

    def commit(self, kind: str, name: str, rev: str) -> dict[str, Any]:
        request = "create_pr" in self.query
        repo = self.repo(kind, name, write=not request)
        if request and self.role() is None:
            raise _AnswerError(401, "log in")
        lines = [json.loads(line) for line in self.body.splitlines()]
        header, head = lines[0]["value"], self.revision(repo, rev)
        if not request and header.get("parentCommit", head.name) != head.name:
            raise _AnswerError(412, "A commit has happened since. Please refresh and try again.")
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
            raise _AnswerError(400, f"{line['key']} of something that was not uploaded")
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

    def resolve(
        self, name: str, rev: str, path: str, kind: str = "models"
    ) -> tuple[int, bytes, dict[str, str]]:
        commit = self.revision(self.repo(kind, name), rev)
        if path not in commit.files:
            raise _AnswerError(404, "Entry not found", "EntryNotFound")
        file = commit.files[path]
        etag = file.sha256 if file.lfs else blob_name(file.content)
        headers = {"X-Repo-Commit": commit.name, "ETag": f'"{etag}"', "X-Linked-Size": str(len(file.content))}
        if file.lfs:
            self.world.objects[etag] = file.content
            headers |= {"X-Linked-Etag": f'"{etag}"', "Location": f"{self.world.storage}/stored/{etag}"}
            return 302, b"", headers
        return self._range(file.content, headers)

    def stored(self, oid: str) -> tuple[int, bytes, dict[str, str]]:
        if self.headers.get("Authorization"):
            raise _AnswerError(400, "a token was sent to the storage")
        return self._range(self.world.objects[oid], {"ETag": f'"{oid}"'})

    def _range(self, content: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked:
            return 200, content, headers
        start = int(asked[1])
        spread = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return 206, content[start:], headers | spread


def _reply(answer: Any) -> tuple[int, bytes, dict[str, str]]:
    return answer if isinstance(answer, tuple) else (200, json.dumps(answer).encode(), {})


_ROUTES: list[tuple[str, Callable[..., Any]]] = [
    (r"POST /api/repos/create", _Handler.create),
    (rf"GET /api/{_KIND}/{_NAME}", _Handler.info),
    (rf"GET /api/{_KIND}/{_NAME}/revision/(?P<rev>.+)", _Handler.info),
    (rf"GET /api/{_KIND}/{_NAME}/tree/(?P<rev>.+)", _Handler.tree),
    (rf"POST /api/{_KIND}/{_NAME}/preupload/(?P<rev>.+)", _Handler.preupload),
    (rf"POST /api/{_KIND}/{_NAME}/commit/(?P<rev>.+)", _Handler.commit),
    (rf"GET /api/{_KIND}/{_NAME}/discussions", _Handler.discussions),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /{_KIND}/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/(?P<oid>\w+)", _Handler.upload),
    (r"PUT /lfs/(?P<oid>\w+)/(?P<number>\d+)", _Handler.upload_part),
    (r"POST /lfs-done", _Handler.join),
    (r"POST /lfs-verify", _Handler.verify),
    (rf"(?:GET|HEAD) /{_KIND}/{_NAME}/resolve/(?P<rev>.+)/(?P<path>[^/]+)", _Handler.resolve),
    (r"(?:GET|HEAD) /stored/(?P<oid>\w+)", _Handler.stored),
]


@contextlib.contextmanager
def running(**how: Any) -> Iterator[LoopbackHub]:
    """A Hub for the length of the block."""
    with LoopbackHub(**how) as hub:
        yield hub
