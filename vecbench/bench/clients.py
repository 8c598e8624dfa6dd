"""The clients of a load together: as threads beside an engine in this process, as processes, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from vecbench.bench import client as client_module
from vecbench.bench.client import Connection
from vecbench.bench.load import Driven, Share, drive, without_collection
from vecbench.collection import Collection
from vecbench.errors import BenchmarkError
from vecbench.index import SearchParams
from vecbench.types import Vectors

__all__ = ["Clients", "How", "ProcessClients", "ThreadClients"]

How = Literal["threads", "processes", "ray"]
_AHEAD_NS = 20_000_000  # so long before the common start it is told to all
_CONNECT_SECONDS, _END_SECONDS = 300.0, 10.0


class Clients(ABC):
    """Clients that are connected and hold their queries; a context manager. how: what they are.

    clock_ns: how far their clocks may be from each other. notes: what happened on the way, in sentences.
    """

    how: How
    clock_ns: int = 0

    def __init__(self) -> None:
        self.notes: list[str] = []

    @abstractmethod
    def ask(self, shares: Sequence[Share], params: SearchParams) -> list[Driven]:
        """Have one client for each share ask it, all beginning together; `BenchmarkError` where one fails."""

    @abstractmethod
    def close(self) -> None:
        """End them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class ThreadClients(Clients):
    """Threads of this process, as users of an engine that lives in their own process have them."""

    how = "threads"

    def __init__(self, collection: Callable[[], Collection], queries: Vectors, k: int, n_base: int) -> None:
        super().__init__()
        self._collection, self._k, self._n_base = collection, k, n_base
        self._rows = [np.ascontiguousarray(q)[None, :] for q in queries]

    def ask(self, shares: Sequence[Share], params: SearchParams) -> list[Driven]:
        """See `Clients.ask`. The processor time of each is that of the whole process, engine included."""
        begin = 0

        def tell() -> None:
            nonlocal begin
            begin = time.perf_counter_ns() + _AHEAD_NS

        ready, search = threading.Barrier(len(shares), tell), self._collection().search

        def start() -> int:
            ready.wait(_CONNECT_SECONDS)
            return begin

        def one(share: Share) -> Driven:
            try:
                return drive(search, self._rows, share, k=self._k, params=params, start=start, n_base=self._n_base)
            except BaseException:
                ready.abort()  # the others do not wait for this one
                raise

        # Around all of them: the first to end would have the others' garbage collected.
        with without_collection(), ThreadPoolExecutor(len(shares), thread_name_prefix="client") as pool:
            asked = [pool.submit(one, share) for share in shares]
        failed = [error for future in asked if (error := future.exception()) is not None]
        if failed:
            raise next((e for e in failed if not isinstance(e, threading.BrokenBarrierError)), failed[0])
        return [future.result() for future in asked]

    def close(self) -> None:
        """The collection is not theirs."""


class ProcessClients(Clients):
    """Processes of this machine, each with a connection of its own; they are started as they are needed, and kept."""

    how = "processes"

    def __init__(self, connection: Connection, queries: Vectors) -> None:
        super().__init__()
        self._connection, self._queries = connection, queries
        # A fresh interpreter, never a copy of this one: clients' threads and locks do not survive that.
        self._context = multiprocessing.get_context("spawn")
        self._started: list[tuple[Any, Any]] = []

    def ask(self, shares: Sequence[Share], params: SearchParams) -> list[Driven]:
        """See `Clients.ask`."""
        self._start(len(shares))
        pipes = [pipe for _, pipe in self._started[: len(shares)]]
        for pipe, share in zip(pipes, shares, strict=True):
            self._send(pipe, (share, params))
        for pipe in pipes:
            self._answer(pipe)
        begin = time.perf_counter_ns() + _AHEAD_NS  # one clock for all processes of a machine
        for pipe in pipes:
            self._send(pipe, begin)
        return [self._answer(pipe) for pipe in pipes]

    def _start(self, count: int) -> None:
        new = []
        for _ in range(count - len(self._started)):
            pipe, theirs = self._context.Pipe()
            process = self._context.Process(
                target=client_module.serve, args=(theirs, self._connection, self._queries), daemon=True
            )
            process.start()
            theirs.close()
            self._started.append((process, pipe))
            new.append(pipe)
        for pipe in new:
            if not pipe.poll(_CONNECT_SECONDS):
                raise BenchmarkError(f"a client of the load was not connected after {_CONNECT_SECONDS:g} s")
            self._answer(pipe)

    @staticmethod
    def _send(pipe: Any, what: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # its death is told when its answer is read
            pipe.send(what)

    @staticmethod
    def _answer(pipe: Any) -> Any:
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionResetError) as e:
            raise BenchmarkError("a client of the load died; was there enough memory for all of them?") from e
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """See `Clients.close`."""
        for _, pipe in self._started:
            pipe.close()
        for process, _ in self._started:
            process.join(_END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._started = []
