"""The page over HTTP on this machine, as a static Space serves it."""

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, final

from ..errors import QBenchError

HOST = "127.0.0.1"


@final
class Pages(SimpleHTTPRequestHandler):
    """Files of one folder, silently; folders are not listed, and nothing but GET and HEAD is answered."""

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND, "no such page")

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of that folder on 127.0.0.1, not running yet; port 0 takes a free one.

    Raises:
        QBenchError: there is no page in the folder, or the port is taken.
    """
    if not (folder / "index.html").is_file():
        raise QBenchError(
            f"no index.html in {folder}: make it with `qbench leaderboard build --out {folder}`"
        )
    try:
        return ThreadingHTTPServer((HOST, port), partial(Pages, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise QBenchError(
            f"cannot listen on {HOST}:{port}: {getattr(error, 'strerror', None) or error}; name another --port, or 0"
        ) from None


def address(listening: ThreadingHTTPServer) -> str:
    return f"http://{HOST}:{listening.server_address[1]}/"
