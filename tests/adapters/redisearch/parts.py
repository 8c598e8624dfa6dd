"""What the tests of RediSearch share: records, a collection, a server that a test starts and ends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator

from tests.adapters import vectors
from vecbench.collection import Collection
from vecbench.index import HNSW, Index
from vecbench.services.engine import Launch
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_redisearch import RedisearchStore

DIM = 16


def clustered(n: int, dim: int = DIM, seed: int = 0) -> Vectors:
    return vectors.clustered(n, dim, seed)


def rows(n: int) -> Records:
    return Records(vectors.names(n), clustered(n), [{"n": i} for i in range(n)])


def make(store: RedisearchStore, index: Index | None = None, metric: Metric = Metric.EUCLIDEAN) -> Collection:
    return store.create_collection(CollectionSpec("c", DIM, metric, index or HNSW()))


@contextlib.contextmanager
def by_hand(launch: Launch, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of which the test says when it starts and ends; the same command starts it on the same port again."""
    with subprocess.Popen(
        [*launch.command, *more], env={**os.environ, **launch.env}, stdout=subprocess.DEVNULL, cwd=launch.cwd
    ) as process:
        deadline, port = time.monotonic() + 20, int(launch.url.rpartition(":")[2])
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
        try:
            yield process
        finally:
            process.kill()
