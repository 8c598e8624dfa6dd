"""What the contract itself costs: the same calls on a store that does nothing. `pytest benchmarks --benchmark-only`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, Metric, Records, SearchParams, connect


@pytest.mark.benchmark(group="null store, one query of 384 dimensions")
def test_search(benchmark: Any) -> None:
    with connect("null") as store:
        search = store.create_collection(CollectionSpec("c", 384, Metric.EUCLIDEAN)).search
        query = np.random.default_rng(1).normal(size=(1, 384)).astype(np.float32)
        params = SearchParams(ef_search=64)
        assert len(benchmark(search, query, 10, params=params)) == 1


@pytest.mark.benchmark(group="null store, upsert of 10,000 x 384")
@pytest.mark.parametrize("metadata", [False, True], ids=["vectors", "vectors and two fields"])
def test_upsert(benchmark: Any, metadata: bool) -> None:
    with connect("null") as store:
        collection = store.create_collection(CollectionSpec("c", 384, Metric.COSINE))
        vectors = np.random.default_rng(1).normal(size=(10_000, 384)).astype(np.float32)
        fields: list[Any] = [{"bucket": i % 100, "lang": "en"} for i in range(10_000)]
        records = Records([f"doc-{i}" for i in range(10_000)], vectors, fields if metadata else None)
        benchmark(collection.upsert, records)
        assert collection.count() >= 10_000
