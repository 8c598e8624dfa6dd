"""Weaviate: the real server, one process for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vecbench import HNSW, Flat, VectorStore, connect
from vecbench.services.local import Service, start
from vecbench.testing import ConformanceSuite
from vecbench_weaviate.engine import WeaviateEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(WeaviateEngine()) as running:
        yield running


@pytest.fixture(scope="module")
def janitor(server: Service) -> Iterator[VectorStore]:
    with connect("weaviate", url=server.url, **server.secrets) as store:
        yield store


class OnServer(ConformanceSuite):
    reopen_code = "__import__('vecbench').connect('weaviate', url=__import__('os').environ['VECBENCH_TEST_URL'])"

    @pytest.fixture(autouse=True)
    def _emptied(self, server: Service, janitor: VectorStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("WEAVIATE_API_KEY", server.secrets["api_key"])
        monkeypatch.setenv("VECBENCH_TEST_URL", server.url)
        yield
        for name in janitor.list_collections():
            janitor.drop_collection(name)

    def open_store(self, path: Path) -> VectorStore:
        return connect("weaviate", url=os.environ["VECBENCH_TEST_URL"])


class TestHnsw(OnServer):
    index = HNSW()


class TestFlat(OnServer):
    index = Flat()
