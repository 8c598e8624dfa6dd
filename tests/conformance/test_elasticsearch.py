"""Elasticsearch: one real server for all; each test starts and ends with none of our collections on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vecbench import HNSW, Flat, NativeIndex, VectorStore, connect
from vecbench.services.local import start
from vecbench.testing import ConformanceSuite
from vecbench_elasticsearch.engine import ElasticsearchEngine

WHERE = "VECBENCH_TEST_ELASTICSEARCH"  # how the process of the reopening test learns the address


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with start(ElasticsearchEngine()) as service:
        os.environ[WHERE] = service.url
        yield
        del os.environ[WHERE]


class OnServer(ConformanceSuite):
    reopen_code = f"__import__('vecbench').connect('elasticsearch=' + __import__('os').environ['{WHERE}'])"

    def open_store(self, path: Path) -> VectorStore:
        return connect("elasticsearch=" + os.environ[WHERE])

    @pytest.fixture(autouse=True)
    def _leave_nothing(self) -> Iterator[None]:
        yield
        with connect("elasticsearch=" + os.environ[WHERE]) as store:
            for name in store.list_collections():
                store.drop_collection(name)


class TestHnsw(OnServer):
    index = HNSW()


class TestFlat(OnServer):
    index = Flat()


class TestInt8Hnsw(OnServer):
    index = NativeIndex("int8_hnsw")
