"""FAISS: every index kind, in memory and on disk."""

from pathlib import Path

from vecbench import HNSW, Flat, IVFFlat, NativeIndex, VectorStore, connect
from vecbench.testing import ConformanceSuite


class OnDisk(ConformanceSuite):
    reopen_code = "__import__('vecbench').connect('faiss', path=path)"

    def open_store(self, path: Path) -> VectorStore:
        return connect("faiss", path=path)


class TestHnsw(OnDisk):
    index = HNSW()


class TestFlat(OnDisk):
    index = Flat()


class TestIvfFlat(OnDisk):
    index = IVFFlat(nlist=4, nprobe=2)


class TestNative(OnDisk):
    index = NativeIndex("HNSW16,SQ8")


class TestHnswInMemory(ConformanceSuite):
    def open_store(self, path: Path) -> VectorStore:
        return connect("faiss")
