"""One client of a load in a process of its own, on this machine or another: it has its own connection to the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vecbench.bench.load import Driven, Share, drive
from vecbench.errors import BenchmarkError, VecbenchError, redact
from vecbench.index import SearchParams
from vecbench.registry import StoreRef
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Vectors

__all__ = ["Client", "Connection", "serve"]

_AWAKE_NS = 200_000


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client needs to reach the collection. secrets: options of `connect`; never on a command line or in a log.

    k: neighbours asked for. rows: how many the collection holds.
    """

    store: StoreRef
    collection: str
    metric: Metric
    k: int
    rows: int
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Client:
    """Connected from the start. queries: float32 (q, dim), held here, so that nothing is sent while the clock runs."""

    def __init__(self, connection: Connection, queries: Vectors) -> None:
        self._to = connection
        self._rows = [np.ascontiguousarray(q)[None, :] for q in queries]
        self._store = connection.store.connect(**connection.secrets)
        if connection.store.name == "null":  # which each process has for itself
            self._store.create_collection(CollectionSpec(connection.collection, queries.shape[1], connection.metric))

    def now(self) -> int:
        """This machine's `perf_counter_ns`, for those elsewhere who want to know how far it is from theirs."""
        return time.perf_counter_ns()

    def ask(self, share: Share, params: SearchParams, start: Callable[[], int]) -> Driven:
        """Ask this share; see `drive`. What was set for the collection since the last time is heeded."""
        collection = self._store.get_collection(self._to.collection)
        return drive(
            collection.search, self._rows, share,
            k=self._to.k, params=params, start=start, n_base=self._to.rows, awake_ns=_AWAKE_NS,
        )  # fmt: skip

    def ask_at(self, share: Share, params: SearchParams, instant: int) -> Driven:
        """Ask this share, beginning at an instant of this machine's clock that is far enough ahead."""
        return self.ask(share, params, lambda: instant)

    def close(self) -> None:
        """End the connection."""
        self._store.close()


def serve(pipe: Any, connection: Connection, queries: Vectors) -> None:
    """A process that is a client: obeys what comes through `pipe` until it is closed, and tells of every failure."""
    try:
        client = Client(connection, queries)
    except Exception as e:
        pipe.send(_failed(e))
        return
    try:
        pipe.send(None)
        while True:
            share, params = pipe.recv()

            def start() -> int:
                pipe.send(None)
                return int(pipe.recv())

            try:
                done = client.ask(share, params, start)
            except Exception as e:
                pipe.send(_failed(e))
            else:
                pipe.send(done)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # whom it works for is gone
        pass
    finally:
        client.close()


def _failed(error: Exception) -> VecbenchError:
    """The error as one that another process can read: a vendor's may need what that process has not imported."""
    if isinstance(error, VecbenchError):
        return error
    return BenchmarkError(f"unexpected {type(error).__name__}: {redact(str(error))}")
