"""What Milvus's protocol does not tell about Milvus Lite: it answers that every row is indexed, always."""

from __future__ import annotations

from typing import Any

from vecbench.errors import StoreTimeout
from vecbench_milvus.rows import VECTOR

__all__ = ["LiteInside"]


class LiteInside:
    """The engine behind lite's own server, in this process."""

    def __init__(self, database: Any) -> None:
        self._database = database

    def wait(self, native_name: str, timeout: float) -> None:
        """Until the compaction and index building that a flush set going in the background have ended."""
        try:
            self._database.get_collection(native_name)._wait_for_bg(timeout=timeout)
        except TimeoutError as e:
            raise StoreTimeout(f"milvus-lite: the index was not built within {timeout:g} s") from e

    def indexed_rows(self, native_name: str) -> int:
        """Rows of the segments that have an index, dead ones too."""
        segments = self._database.get_collection(native_name)._segments_snapshot()
        return sum(segment.num_rows for segment in segments if VECTOR in segment.indexes)
