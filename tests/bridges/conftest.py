"""A test that asks for `store_name` runs once for every store that was asked for with --stores.

Of its module's STORES, where it has some.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

RUN_HERE = ("memory", "faiss", "qdrant", "chroma", "pgvector", "milvus", "milvus-lite")
WITH_ENGINES = ("redisearch", "weaviate", "elasticsearch", "pinecone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        asked = {name.strip() for name in metafunc.config.getoption("--stores").split(",")}
        some = getattr(metafunc.module, "STORES", (*RUN_HERE, *WITH_ENGINES))
        names = [n for n in some if "all" in asked or n.removesuffix("-lite") in asked]
        metafunc.parametrize("store_name", names, scope="module")  # so that a module can open each store once


@pytest.fixture(scope="module")
def options(store_name: str) -> Iterator[dict[str, Any]]:
    """What `connect` takes beside the store's name.

    Pinecone has no engine that runs here: the server is ours, speaks its published API and is late as the service is.
    """
    if store_name != "pinecone":
        yield {}
        return
    from tests.pinecone_spec import Lag, SpecServer  # reads the vendor's API descriptions

    with SpecServer() as server:
        knobs = server.project("spec-bridges").knobs
        knobs.search = knobs.stats = Lag(reads=2)
        yield {"url": server.url, "api_key": "spec-bridges"}
    assert server.off_spec == []


@pytest.fixture(scope="module")
def index(store_name: str) -> str:
    """Of the indexes that the store has, the usual one."""
    return "native:serverless" if store_name == "pinecone" else "hnsw"
