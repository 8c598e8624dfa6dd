"""What the tests of FAISS share: vectors of any length, and a check of answers against the truth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vecbench import Records, connect
from vecbench.distance import paired_distances, top_k

DIM = 32


def vectors(n: int, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, DIM)) * rng.uniform(0.5, 20, size=(n, 1))).astype(np.float32)


def records(n: int, seed: int = 1) -> Records:
    return Records([f"r{i}" for i in range(n)], vectors(n, seed), [{"parity": i % 2, "n": i} for i in range(n)])


def recall(found: list[list[str]], true: list[list[str]]) -> float:
    return sum(len(set(f) & set(t)) for f, t in zip(found, true, strict=True)) / sum(map(len, true))


def check(collection: Any, truth: dict[str, Any], *, k: int = 10, exact: bool = True) -> None:
    """Answers are live records at their true distances, ascending; and where `exact`, they are the nearest."""
    base = np.stack(list(truth.values()))
    ids = list(truth)
    queries = vectors(24, seed=9)
    result = collection.search(queries, k)
    for i, query in enumerate(queries):
        assert len(set(result.ids[i])) == k
        found = np.stack([truth[id_] for id_ in result.ids[i]])
        true = paired_distances(query, found, collection.spec.metric)
        np.testing.assert_allclose(result.distances[i], true, rtol=1e-5, atol=2e-6)
        assert (np.diff(result.distances[i]) >= 0).all()
    if exact:
        nearest, _ = top_k(queries, base, k, collection.spec.metric)
        assert recall(result.ids, [[ids[r] for r in row] for row in nearest]) >= 0.98


@contextmanager
def reopened(path: Path) -> Iterator[Any]:
    with connect("faiss", path=path) as store:
        yield store.get_collection("c")
