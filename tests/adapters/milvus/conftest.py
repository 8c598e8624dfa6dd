"""The two stores that speak Milvus' protocol, and a server for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vecbench.services.local import Service, start
from vecbench.store import VectorStore
from vecbench_milvus import MilvusLiteStore, MilvusStore
from vecbench_milvus.engine import MilvusEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(MilvusEngine()) as service:
        yield service


@pytest.fixture
def milvus(server: Service) -> Iterator[MilvusStore]:
    with MilvusStore.open(url=server.url) as store:
        yield store
        for name in store.list_collections():
            store.drop_collection(name)


@pytest.fixture
def lite() -> Iterator[MilvusLiteStore]:
    with MilvusLiteStore.open() as store:
        yield store


@pytest.fixture(params=["milvus", "lite"])
def store(request: pytest.FixtureRequest) -> VectorStore:
    made: VectorStore = request.getfixturevalue(request.param)
    return made
