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

__all__ = ["DIM", "Base", "usual_metric"]

DIM = 8


def usual_metric(store: VectorStore) -> Metric:
    """The metric of the tests that are not about metrics: Euclidean where the store has it."""
    return next(m for m in (Metric.EUCLIDEAN, Metric.COSINE, Metric.DOT) if m in store.capabilities.metrics)


def _facts(store: VectorStore, index: Index) -> dict[str, Any]:
    """What a test ran on, in plain types: it stands in the test's report, for a table of what is supported."""
    info, can = store.info, store.capabilities
    return {
        **{key: getattr(info, key) for key in ("name", "label", "deployment", "engine", "engine_version")},
        **{key: sorted(map(str, getattr(can, key))) for key in ("metrics", "indexes", "filters")},
        **{key: getattr(can, key) for key in ("ef_search", "exact_search", "persistent", "preserves_vectors")},
        "declared_fields": can.declared_fields,
        "index": index.kind,
    }


class Base:
    """index: what every collection of the run is made with. limits: known gaps.

    reopen_code: a Python expression over the name `path` that opens the store in another process, with its imports
    ("__import__('my').MyStore.open(path=path)"); needed where capabilities say `persistent`.
    """

    index: ClassVar[Index] = HNSW()
    limits: ClassVar[tuple[Limit, ...]] = ()
    reopen_code: ClassVar[str] = ""

    def open_store(self, path: Path) -> VectorStore:
        """An empty store; `path` is a directory of its own, which a store that keeps nothing ignores.

        Where capabilities say `persistent`, a second call with the same path finds what the first one wrote.
        """
        raise NotImplementedError(f"{type(self).__name__} must write open_store(self, path)")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = [limit.test.partition("[")[0] for limit in cls.limits]
        unknown = [name for name in names if not name.startswith("test_") or not hasattr(cls, name)]
        if unknown:
            raise TypeError(f"{cls.__name__}.limits: the suite has no test called {', '.join(unknown)}")

    @pytest.fixture(autouse=True)
    def _known_gaps(self, request: pytest.FixtureRequest) -> None:
        # A name with parameters is known only to pytest, so no class can be asked for it.
        wanted = {limit.test for limit in self.limits if "[" in limit.test}
        unknown = wanted - {item.name for item in request.node.parent.collect()} if wanted else wanted
        if unknown:
            pytest.fail(f"{type(self).__name__}.limits: the suite has no test called {', '.join(sorted(unknown))}")
        for limit in self.limits:
            if limit.test in {request.node.originalname, request.node.name}:
                reason = f"{limit.kind}: {limit.reason}"
                request.node.add_marker(pytest.mark.xfail(reason=reason, raises=limit.raises, strict=True))

    @pytest.fixture
    def store(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[VectorStore]:
        """An open, empty store."""
        with self.open_store(tmp_path) as opened:
            request.node.user_properties.append(("vecbench", _facts(opened, self.index)))
            yield opened

    def make(
        self,
        store: VectorStore,
        metric: Metric | None = None,
        *,
        name: str = "docs",
        dim: int = DIM,
        load: Records | None = None,
        fields: dict[str, FieldType] | None = None,
    ) -> Collection:
        """A collection, loaded, flushed and optimized where `load` is given; metric: `usual_metric` without one."""
        metric = usual_metric(store) if metric is None else metric
        made = store.create_collection(CollectionSpec(name, dim, metric, self.index, fields=fields or {}))
        if load is not None:
            made.upsert(load)
            made.optimize()
            made.flush()
        return made
