"""What the tests of pgvector share: a store on a server, a collection with rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from vecbench.collection import Collection
from vecbench.index import Index
from vecbench.services.local import Service
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_pgvector import PgvectorStore


def opened(server: Service, **options: Any) -> PgvectorStore:
    return PgvectorStore.open(url=server.url, **{**server.secrets, **options})


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    """In clusters, and of many lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dim))
    lengths = rng.uniform(0.5, 2.0, size=(n, 1))
    return ((centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))) * lengths).astype(np.float32)


def filled(store: PgvectorStore, index: Index, n: int = 2000, dim: int = 16, **spec: Any) -> Collection:
    made = store.create_collection(CollectionSpec("c", dim, spec.pop("metric", Metric.EUCLIDEAN), index, **spec))
    made.upsert(Records([str(i) for i in range(n)], clustered(n, dim), [{"n": i} for i in range(n)]))
    return made
