"""The oracle passes its own suite."""

from pathlib import Path

from vecbench import VectorStore
from vecbench.memory import MemoryStore
from vecbench.testing import ConformanceSuite


class TestMemory(ConformanceSuite):
    def open_store(self, path: Path) -> VectorStore:
        return MemoryStore.open()
