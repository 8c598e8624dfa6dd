"""The loopback server: reads a request, holds it against the description, answers, and holds the answer against it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.pinecone_spec.descriptions import CONTROL, DATA, Api, OffSpec
from tests.pinecone_spec.engine import Refused
from tests.pinecone_spec.routes import Project

__all__ = ["MAX_REQUEST_BYTES", "MAX_URL_BYTES", "Seen", "SpecServer", "api"]

MAX_REQUEST_BYTES = 2 * 1024 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # of a query
MAX_URL_BYTES = 8_192  # not in the vendor's texts, but in most servers


@cache
def api(name: str) -> Api:
    """A description, read once."""
    return Api(name)


@dataclass(frozen=True)
class Seen:
    """A request that was answered: its path without the query, the bytes of its address and of its body."""

    method: str
    path: str
    url_bytes: int
    body_bytes: int
    status: int


class SpecServer:
    """Serves on a free port of 127.0.0.1 from `start` to `stop`; a context manager.

    Every key that begins with "spec-" is a project of its own, empty at first; other keys are refused. checked=False
    leaves the descriptions aside, for measuring what a client costs. off_spec: answers of this server's own that its
    description does not allow; a test that leaves one there must fail.
    """

    def __init__(self, *, checked: bool = True) -> None:
        self.checked = checked
        self.off_spec: list[str] = []
        self.seen: list[Seen] = []
        self._projects: dict[str, Project] = {}
        self._lock = threading.Lock()
        if checked:
            api(CONTROL), api(DATA)
        server = self

        class Handler(_Handler):
            spec = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def project(self, key: str) -> Project:
        """The project of a key, to turn its knobs and look into it."""
        with self._lock:
            if key not in self._projects:
                self._projects[key] = Project(self.url)
            return self._projects[key]

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for one request."""
        index, _, rest = path.removeprefix("/i/").partition("/") if path.startswith("/i/") else ("", "", "")
        plane, path = (DATA, f"/{rest}") if index else (CONTROL, path)
        try:
            key = headers.get("Api-Key") or ""
            if not key.startswith("spec-"):
                raise Refused(401, "Invalid API key.")
            project = self.project(key)
            for fault in project.knobs.faults:
                if fault.strikes(path.partition("?")[0]):
                    retry = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                    return fault.status, retry, _error(plane, fault.status, fault.message)
            threading.Event().wait(project.knobs.latency)
            return self._checked(plane, method, path, headers, body, project, index)
        except Refused as e:
            return e.status, {}, _error(plane, e.status, str(e))

    def _checked(  # noqa: PLR0917  what makes a request
        self, plane: str, method: str, path: str, headers: Any, body: bytes, project: Project, index: str
    ) -> tuple[int, dict[str, str], bytes]:
        if len(body) > MAX_REQUEST_BYTES:
            raise Refused(413, f"request of {len(body)} bytes exceeds the maximum of {MAX_REQUEST_BYTES}")
        if len(path) > MAX_URL_BYTES:
            raise Refused(414, f"address of {len(path)} bytes exceeds the maximum of {MAX_URL_BYTES}")
        try:
            if self.checked:
                api(plane).check_request(method, path, headers, body)
            told = json.loads(body) if body else {}
        except (OffSpec, ValueError) as e:
            raise Refused(400, f"request off the description: {e}") from e
        with project.lock:
            made = project.data(index, path, told) if index else project.control(method, path, told)
        if made.body is None:
            return made.status, made.headers, b""
        answer = json.dumps(made.body).encode()
        if path == "/query" and len(answer) > MAX_ANSWER_BYTES:
            raise Refused(400, f"answer of {len(answer)} bytes exceeds the maximum of {MAX_ANSWER_BYTES}")
        if self.checked:
            try:
                api(plane).check_answer(method, path, headers, body, made.status, answer)
            except OffSpec as e:
                self.off_spec.append(str(e))
                raise Refused(500, str(e)) from e
        return made.status, made.headers, answer


def _error(plane: str, status: int, message: str) -> bytes:
    if plane == DATA:
        return json.dumps({"code": status, "message": message, "details": []}).encode()
    code = {401: "UNAUTHENTICATED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}.get(status, "INVALID_ARGUMENT")
    return json.dumps({"status": status, "error": {"code": code, "message": message}}).encode()


class _Handler(BaseHTTPRequestHandler):
    spec: SpecServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave together

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, headers, data = self.spec.answer(self.command, self.path, self.headers, body)
        self.spec.seen.append(Seen(self.command, self.path.partition("?")[0], len(self.path), len(body), status))
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_arguments: Any) -> None:
        """Nothing: `seen` keeps what was asked."""
