"""RediSearch: a real Redis with the query engine, started once, reached by URL; both index kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from vecbench import HNSW, Flat, VectorStore, connect
from vecbench.services.local import Service, start
from vecbench.testing import ConformanceSuite
from vecbench_redisearch.engine import RedisearchEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(RedisearchEngine(durable=False)) as service:
        yield service


class OnServer(ConformanceSuite):
    reopen_code = "__import__('vecbench').connect('redisearch=' + open(path + '/url').read())"
    url: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _empty_server(self, server: Service) -> Iterator[None]:
        scheme, _, place = server.url.partition("://")
        type(self).url = f"{scheme}://:{server.secrets['password']}@{place}"
        yield
        with connect("redisearch=" + self.url) as store:
            for name in store.list_collections():
                store.drop_collection(name)
            assert set(store.native.keys()) <= {b"vecbench:flush"}  # which ends by itself after a millisecond

    def open_store(self, path: Path) -> VectorStore:
        (path / "url").write_text(self.url)  # for the other process
        return connect("redisearch=" + self.url)


class TestHnsw(OnServer):
    index = HNSW()


class TestFlat(OnServer):
    index = Flat()
