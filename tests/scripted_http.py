"""An HTTP server on this machine that answers as a test tells it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, TypeAlias


class Asked(NamedTuple):
    """A request: its path, the Authorization that came with it, and its JSON; {} of a GET."""

    path: str
    key: str | None
    body: dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    """One connection; an act says what happens to the request that is in `asked`."""

    server: Server
    protocol_version = "HTTP/1.1"
    asked: Asked

    def do_POST(self) -> None:
        self._act_on(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def do_GET(self) -> None:
        self._act_on({})

    def _act_on(self, body: dict[str, Any]) -> None:
        self.asked = Asked(self.path, self.headers["Authorization"], body)
        self.server.requests.append(self.asked)
        act = self.server.acts.pop(0) if self.server.acts else self.server.usual
        act(self)

    def say(self, status: int, text: str | bytes, kind: str = "application/json", **headers: str) -> None:
        """Answer; a header's name is written with _ for -. Status 0 hangs up instead."""
        if status == 0:
            self.close_connection = True
            return
        data = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self, kind: str = "text/event-stream", length: int | None = None) -> None:
        """Send the headers of an answer that ends with the connection, or is said to have a length."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


Act: TypeAlias = Callable[[Handler], None]


def says(status: int, text: str | bytes = "", kind: str = "application/json", **headers: str) -> Act:
    """The act that answers so, see `Handler.say`."""
    return lambda handler: handler.say(status, text, kind, **headers)


class Server(ThreadingHTTPServer):
    """acts: for the next requests, one each; then `usual`. over: set when the test is."""

    daemon_threads = True

    def __init__(self, usual: Act) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.usual = usual
        self.acts: list[Act] = []
        self.requests: list[Asked] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what is wrong with an act; that the client hung up is not."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


_NOTHING_TOLD = says(418, "the test has told no more answers")


@contextmanager
def serving(usual: Act = _NOTHING_TOLD) -> Iterator[Server]:
    """A server that runs until the context ends."""
    with Server(usual) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.over.set()
            running.shutdown()
            thread.join()
