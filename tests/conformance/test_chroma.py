"""Chroma: embedded, the package's own server started by the store, and a server by URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vecbench import VectorStore, connect
from vecbench.services.local import start
from vecbench.testing import ConformanceSuite
from vecbench_chroma.engine import ChromaEngine

SERVER = "VECBENCH_TEST_CHROMA"


class TestEmbedded(ConformanceSuite):
    reopen_code = "__import__('vecbench').connect('chroma', path=path)"

    def open_store(self, path: Path) -> VectorStore:
        return connect("chroma", path=path)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start(ChromaEngine()) as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVER, service.url)
        yield service.url


class TestServer(ConformanceSuite):
    reopen_code = f"__import__('vecbench').connect('chroma=' + __import__('os').environ[{SERVER!r}])"

    @pytest.fixture(autouse=True)
    def _emptied(self, server: str) -> Iterator[None]:
        """One server for all tests: each one clears up behind itself."""
        yield
        with connect(f"chroma={server}") as store:
            for name in store.list_collections():
                store.drop_collection(name)

    def open_store(self, path: Path) -> VectorStore:
        return connect(f"chroma={os.environ[SERVER]}")
