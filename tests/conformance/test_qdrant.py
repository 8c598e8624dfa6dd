"""Qdrant: the embedded engine, and the client's imitation. The server has not been run."""

from pathlib import Path

from vecbench import HNSW, Flat, VectorStore, connect
from vecbench.testing import ConformanceSuite


class OnDisk(ConformanceSuite):
    reopen_code = "__import__('vecbench').connect('qdrant', path=path)"

    def open_store(self, path: Path) -> VectorStore:
        return connect("qdrant", path=path)


class TestEdgeHnsw(OnDisk):
    index = HNSW()


class TestEdgeFlat(OnDisk):
    index = Flat()


class TestMemory(ConformanceSuite):
    def open_store(self, path: Path) -> VectorStore:
        return connect("qdrant:memory")
