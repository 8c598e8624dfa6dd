"""A server on the loopback address that does to downloads what networks do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What is served, and how. `cut`: close the connection after so many bytes, once per entry."""

    content: bytes
    etag: str = '"v1"'
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # answered first, one per request
    location: str = ""
    length: bool = True
    heads: dict[str, str] = field(default_factory=dict)
    honest_if_range: bool = True
    asked: list[str] = field(default_factory=list)  # the Range of every request
    agents: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve until the context ends; `site.url` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            site.asked.append(asked)
            site.agents.append(self.headers.get("User-Agent", ""))
            if site.statuses:
                self.send_response(site.statuses.pop(0))
                self.send_header("Location", site.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = 0
            current = self.headers.get("If-Range") == site.etag or not site.honest_if_range
            if asked and site.ranges and current:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(site.content) and start:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = site.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            if site.length:
                self.send_header("Content-Length", str(len(body)))
            if site.etag:
                self.send_header("ETag", site.etag)
            for name, value in site.heads.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            if site.cut:
                body = body[: site.cut.pop(0)]
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}/file"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
