"""A test that asks for `store_name` runs once for every store that was asked for with --stores."""

from __future__ import annotations

import pytest

RUN_HERE = ("memory", "faiss", "qdrant", "chroma", "pgvector", "milvus", "milvus-lite")
WITH_ENGINES = ("redisearch", "weaviate", "elasticsearch")  # Pinecone has no engine that runs here


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_name" in metafunc.fixturenames:
        asked = {name.strip() for name in metafunc.config.getoption("--stores").split(",")}
        all_of_them = (*RUN_HERE, *WITH_ENGINES)
        names = [n for n in all_of_them if "all" in asked or n.removesuffix("-lite") in asked]
        metafunc.parametrize("store_name", names)
