"""A Hub of one process, in memory, for the real client: a server with repositories, LFS objects, and faults."""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub_answers import AnswerError, Request
from hub_contents import File, Repo

WRITER, READER = "hf_writerwriterwriterwriter0001", "hf_readerreaderreaderreader00002"


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
        route, query, body = unquote(where.path), parse_qs(where.query), self._received()
        line = f"{self.command} {route}{'?' + where.query if where.query else ''}"
        self.world.requests.append(line)
        self.fault = self.world.fault(line)
        try:
            self._respond(Request(self.world, self.command, route, query, self.headers, body))
        except (_CutError, BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except AnswerError as error:
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

    def _respond(self, request: Request) -> None:
        fault = self.fault
        if fault and fault.before:
            fault.before()
        whole = fault is None or fault.part is not None or fault.swap or fault.before is not None
        if not whole and fault and not fault.after:
            self._break(fault)
        with self.world.lock:
            status, content, headers = request.answer()
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


@contextlib.contextmanager
def running(**how: Any) -> Iterator[LoopbackHub]:
    """A Hub for the length of the block."""
    with LoopbackHub(**how) as hub:
        yield hub
