"""Things that stand where a server should be: one that is slow, one that says nothing, one that says something else."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A loopback port; each connection is given to `answer` in a thread of its own, and closed at the end."""
    held: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                thread = threading.Thread(target=_quietly, args=(answer, connection), daemon=True)
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)
            for connection in held:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            for thread in threads:
                thread.join(5)


def _quietly(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side, or the end of the test, closed it
        answer(connection)


def silent(connection: socket.socket) -> None:
    """Takes everything, says nothing."""
    while connection.recv(65536):
        pass


def web_page(connection: socket.socket) -> None:
    """A web server that has nothing to do with us."""
    while connection.recv(65536):
        page = b"<html>hello</html>"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
        connection.sendall(head + page)


def babble(connection: socket.socket) -> None:
    """Bytes that are no protocol at all."""
    connection.sendall(bytes(range(256)) * 8)
    silent(connection)


class Slow:
    """Passes everything on to a port, each piece of an answer late by `delay` seconds."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.delay = 0.0
        self.ended = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as server:

            def back() -> None:
                with contextlib.suppress(OSError):
                    while piece := server.recv(65536):
                        self.ended.wait(self.delay)
                        connection.sendall(piece)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            try:
                while piece := connection.recv(65536):
                    server.sendall(piece)
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join(10)
