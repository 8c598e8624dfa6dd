from __future__ import annotations

import pytest

from vecbench.services.manager import engine_names

STORES = ("chroma", "elasticsearch", "milvus", "pgvector", "redisearch", "weaviate")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every store with a server that runs here, of those that were asked for."""
    if "name" in metafunc.fixturenames:
        assert set(STORES) == set(engine_names())
        asked = {name.strip() for name in metafunc.config.getoption("--stores").split(",")}
        names = [name for name in STORES if name in asked or "all" in asked]
        metafunc.parametrize("name", names, scope="module")
