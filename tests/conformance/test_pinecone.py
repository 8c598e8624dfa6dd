"""Pinecone: *spec conformance*, the real SDK against a loopback server of ours that is not the engine.

The same suite runs against the cloud where VECBENCH_PINECONE_LIVE is set: with PINECONE_API_KEY, in a project of its
own, because it drops every vecbench collection there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.pinecone_spec import Lag, SpecServer
from vecbench import NativeIndex, VectorStore, connect
from vecbench.testing import ConformanceSuite
from vecbench.testing.base import Base
from vecbench.testing.records import RecordTests
from vecbench.testing.searching import SearchTests


class OnSpecServer(Base):
    index = NativeIndex("serverless")
    reopen_code = "__import__('vecbench').connect('pinecone', **__import__('json').load(open(path + '/where.json')))"
    server: ClassVar[SpecServer]
    lag: ClassVar[Lag] = Lag()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with SpecServer() as cls.server:
            yield
        assert cls.server.off_spec == []

    def open_store(self, path: Path) -> VectorStore:
        key = "spec-" + hashlib.sha256(str(path).encode()).hexdigest()  # a key is a project, so a path is one
        knobs = self.server.project(key).knobs
        knobs.search = knobs.stats = self.lag
        (path / "where.json").write_text(f'{{"url": "{self.server.url}", "api_key": "{key}"}}')
        return connect("pinecone", url=self.server.url, api_key=key)


class TestSpecConformance(OnSpecServer, ConformanceSuite):
    """Every write is visible at once."""


class TestSpecConformanceWithLag(OnSpecServer, RecordTests, SearchTests):
    """Searches and counts are late, as the service's are: what a test sees, it sees because it flushed."""

    lag = Lag(reads=2)


if os.environ.get("VECBENCH_PINECONE_LIVE"):

    class TestLive(ConformanceSuite):
        index = NativeIndex("serverless")
        reopen_code = "__import__('vecbench').connect('pinecone')"

        def open_store(self, path: Path) -> VectorStore:
            store = connect("pinecone", timeout=300)
            if not (path / "emptied").exists():
                (path / "emptied").touch()
                for name in store.list_collections():
                    store.drop_collection(name)
            return store
