"""What the parts of the suite share: how a store is opened, and how a known gap becomes a strict xfail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vecbench.collection import Collection
from vecbench.index import HNSW, Index
from vecbench.spec import CollectionSpec, FieldType
from vecbench.store import VectorStore
from vecbench.testing.limits import Limit
from vecbench.types import Metric, Records

__all__ = ["DIM", "Base"]

DIM = 8


class Base:
    """index: what every collection of the run is made with. limits: known gaps.

    reopen_code: a Python expression over the name `path` that opens the store in another process, with its imports
    ("__import__('my').MyStore.open(path=path)"); needed where capabilities say `persistent`.
    """

    index: ClassVar[Index] = HNSW()
    limits: ClassVar[tuple[Limit, ...]] = ()
    reopen_code: ClassVar[str] = ""

    def open_store(self, path: Path) -> VectorStore:
        """An empty store; `path` is a directory of its own, which a store that keeps nothing ignores."""
        raise NotImplementedError(f"{type(self).__name__} must write open_store(self, path)")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        unknown = [limit.test for limit in cls.limits if not hasattr(cls, limit.test)]
        if unknown:
            raise TypeError(f"{cls.__name__}.limits names no test of the suite: {', '.join(unknown)}")

    @pytest.fixture(autouse=True)
    def _known_gaps(self, request: pytest.FixtureRequest) -> None:
        for limit in self.limits:
            if limit.test == request.node.originalname:
                reason = f"{limit.kind}: {limit.reason}"
                request.node.add_marker(pytest.mark.xfail(reason=reason, raises=limit.raises, strict=True))

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[VectorStore]:
        """An open, empty store."""
        with self.open_store(tmp_path) as opened:
            yield opened

    def make(
        self,
        store: VectorStore,
        metric: Metric = Metric.EUCLIDEAN,
        *,
        name: str = "docs",
        dim: int = DIM,
        load: Records | None = None,
        fields: dict[str, FieldType] | None = None,
    ) -> Collection:
        """A collection, loaded, flushed and optimized where `load` is given."""
        made = store.create_collection(CollectionSpec(name, dim, metric, self.index, fields=fields or {}))
        if load is not None:
            made.upsert(load)
            made.optimize()
            made.flush()
        return made
