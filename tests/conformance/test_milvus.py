"""Milvus: the server of the `milvus` package, one for all tests of this file; and Milvus Lite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from vecbench import HNSW, Flat, VectorStore, connect
from vecbench.services.engine import Launch
from vecbench.services.local import Service, start
from vecbench.testing import ConformanceSuite
from vecbench_milvus.engine import MilvusEngine


class QuickEngine(MilvusEngine):
    """Milvus's flush waits for two seconds, its insert's allotted time; here an insert takes milliseconds."""

    def launch(self, folder: Path) -> Launch:
        made = super().launch(folder)
        return replace(made, env={**made.env, "DATACOORD_SEGMENT_ASSIGNMENTEXPIRATION": "500"})


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(QuickEngine()) as service:
        yield service


class TestServerHnsw(ConformanceSuite):
    """A test's folder stands for an empty server: what an earlier test left is dropped when it is first seen."""

    index = HNSW()
    url: ClassVar[str]
    known: ClassVar[set[Path]] = set()

    @pytest.fixture(autouse=True)
    def _server(self, server: Service) -> None:
        type(self).url = server.url
        type(self).reopen_code = f"__import__('vecbench').connect('milvus={server.url}')"

    def open_store(self, path: Path) -> VectorStore:
        store = connect(f"milvus={self.url}")
        if path not in self.known:
            self.known.add(path)
            for name in store.list_collections():
                store.drop_collection(name)
        return store


class Lite(ConformanceSuite):
    reopen_code = "__import__('vecbench').connect('milvus-lite', path=path)"

    def open_store(self, path: Path) -> VectorStore:
        return connect("milvus-lite", path=path)


class TestLiteHnsw(Lite):
    index = HNSW()


class TestLiteFlat(Lite):
    index = Flat()
