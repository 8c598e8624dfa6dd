"""Connections: what was set on them, how long they may keep us waiting, and a small pool of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Self

from vecbench.errors import StoreTimeout

__all__ = ["Pool", "Session", "milliseconds"]

_GRACE_SECONDS = 0.5  # the server's own timeout comes first, and leaves the connection usable


class Session:
    """A connection in autocommit mode that belongs to a pool, and goes back there at the end of a `with`.

    Search parameters are session settings of PostgreSQL. They are remembered here and sent when they change, so that
    a query is one round trip; hence no pooler that shares sessions may stand between us and the server.
    """

    def __init__(self, pool: Pool, connection: Any, timeout: float) -> None:
        self._pool = pool
        self.connection = connection
        self.cursor: Any = None
        self._timeout = timeout
        self._limit = timeout + _GRACE_SECONDS
        self._settings: dict[str, str] = {}
        self._wait = connection.wait
        connection.wait = self._bounded_wait

    def begin(self) -> None:
        """Be ready for use, once the types of the extension are registered: a cursor knows those that it found."""
        self.cursor = self.connection.cursor(binary=True)  # one for all: making one costs 5 % of a search
        self.set({"statement_timeout": milliseconds(self._timeout)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.give_back(self)

    def set(self, wanted: Mapping[str, str]) -> None:
        """Have these settings in force."""
        changed = {k: v for k, v in wanted.items() if self._settings.get(k) != v}
        if changed:
            calls = ", ".join(["set_config(%s, %s, false)"] * len(changed))
            self.cursor.execute(f"select {calls}", [x for pair in changed.items() for x in pair])
            self._settings.update(changed)

    @contextlib.contextmanager
    def patient(self, timeout: float) -> Iterator[None]:
        """Within, a statement may take up to `timeout` seconds."""
        self._limit = timeout + _GRACE_SECONDS
        self.set({"statement_timeout": milliseconds(timeout)})
        try:
            yield
        finally:
            self._limit = self._timeout + _GRACE_SECONDS
            if self.idle:
                self.set({"statement_timeout": milliseconds(self._timeout)})

    @property
    def idle(self) -> bool:
        """Whether it can be used for the next statement."""
        return bool(self.connection.pgconn.transaction_status == 0)  # PQTRANS_IDLE

    def close(self) -> None:
        """End the connection, whatever it is doing."""
        self.connection.close()

    def _bounded_wait(self, waiting: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """psycopg waits for ever for a server that is alive and silent; here it does not."""
        try:
            return self._wait(_until(waiting, self._limit), *args, **kwargs)
        except StoreTimeout:
            self.close()
            raise


def _until(waiting: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    deadline = time.monotonic() + seconds
    try:
        state = next(waiting)
        while True:
            ready = yield state
            if not ready and time.monotonic() > deadline:  # nothing came within psycopg's interval of 0.1 s
                raise StoreTimeout(f"pgvector: the server did not answer within {seconds:g} s")
            state = waiting.send(ready)
    except StopIteration as e:
        return e.value


def milliseconds(seconds: float) -> str:
    """A time as PostgreSQL's settings take it; never 0, which is without end there."""
    return str(max(1, min(int(seconds * 1000), 2_147_483_647)))


class Pool:
    """Up to `size` connections, made when they are needed; one thread at a time has one."""

    def __init__(self, connect: Callable[[Pool], Session], size: int, timeout: float) -> None:
        self._connect, self._size, self._timeout = connect, size, timeout
        self._idle: list[Session] = []
        self._open = self._waiting = 0
        self._changed = threading.Condition()
        self._closed = False

    def session(self) -> Session:
        """A connection for a `with` block; such blocks are not to be nested."""
        try:
            return self._idle.pop()  # atomic: the usual case takes no lock
        except IndexError:
            return self._another()

    def _another(self) -> Session:
        deadline = time.monotonic() + self._timeout
        with self._changed:
            self._waiting += 1
            try:
                while not self._idle and self._open >= self._size:
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise StoreTimeout(f"pgvector: all {self._size} connections were busy for {self._timeout:g} s")
                if self._idle:
                    return self._idle.pop()
                self._open += 1
            finally:
                self._waiting -= 1
        try:
            return self._connect(self)
        except BaseException:
            self._gone()
            raise

    def give_back(self, session: Session) -> None:
        """The end of a `with` block; what is not fit for another statement is closed."""
        if session.idle:
            self._idle.append(session)
            if self._waiting:
                with self._changed:
                    self._changed.notify()
            if self._closed:
                self._close_idle()
            return
        if session.connection.broken:  # the server went away: the idle ones have lost it too
            self._close_idle()
        session.close()
        self._gone()

    def _gone(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def _close_idle(self) -> None:
        while True:
            try:
                session = self._idle.pop()
            except IndexError:
                return
            session.close()
            self._gone()

    def close(self) -> None:
        """Close the idle ones now, and those in use when they come back."""
        self._closed = True
        self._close_idle()
