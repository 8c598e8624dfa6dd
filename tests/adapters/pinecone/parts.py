"""What the tests of Pinecone share: an index, records."""

from __future__ import annotations

import numpy as np

from vecbench.collection import Collection
from vecbench.index import NativeIndex
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_pinecone import PineconeStore

SERVERLESS = NativeIndex("serverless")
ONE = np.ones((1, 4), np.float32)


def make(store: PineconeStore, dim: int = 4, metric: Metric = Metric.EUCLIDEAN, name: str = "docs") -> Collection:
    return store.create_collection(CollectionSpec(name, dim, metric, SERVERLESS))


def random_vectors(n: int, dim: int = 4, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def some(n: int, dim: int = 4, seed: int = 0, prefix: str = "id") -> Records:
    metadata = [{"n": i, "half": i % 2 == 0} for i in range(n)]
    return Records([f"{prefix}{i}" for i in range(n)], random_vectors(n, dim, seed), metadata)
