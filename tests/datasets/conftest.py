"""Servers on the loopback, for tests that fetch."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qbench.datasets import downloads


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(downloads, "SOCKET_TIMEOUT", 0.3)
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was attempted: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def http_server() -> Callable[[dict[str, bytes]], AbstractContextManager[tuple[str, list[str]]]]:
    return serve_files


@pytest.fixture
def raw_server() -> Callable[[Callable[[socket.socket], None]], AbstractContextManager[str]]:
    return serve_raw


@pytest.fixture
def closed_port() -> Callable[[], int]:
    return find_closed_port


@contextmanager
def serve_files(contents: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of these files, and the names it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            asked.append(name)
            if name not in contents:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents[name])))
            self.end_headers()
            self.wfile.write(contents[name])

        def log_message(self, *args: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            return None  # a client that reads the headers alone leaves

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", asked
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_raw(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that accepts connections, calls ``answer`` and keeps them open till the end."""
    opened: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            opened.append(connection)
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in opened:
                connection.close()


def find_closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
