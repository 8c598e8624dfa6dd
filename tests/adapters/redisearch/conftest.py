"""A Redis Stack for the tests of one file; a test that leaves keys behind fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vecbench.services.local import Service, start
from vecbench_redisearch import RedisearchStore
from vecbench_redisearch.engine import RedisearchEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(RedisearchEngine(durable=False)) as service:
        yield service


@pytest.fixture
def store(server: Service) -> Iterator[RedisearchStore]:
    with RedisearchStore.open(url=server.url, password=server.secrets["password"], timeout=20) as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop_collection(name)
        assert set(opened.native.keys()) <= {b"vecbench:flush"}
