"""All that an outsider writes to test a store."""

from pathlib import Path

from vecbench import Flat, VectorStore, connect
from vecbench.testing import ConformanceSuite


class TestJsonStore(ConformanceSuite):
    index = Flat()
    reopen_code = "__import__('vecbench').connect('jsonstore', path=path)"

    def open_store(self, path: Path) -> VectorStore:
        return connect("jsonstore", path=path)
