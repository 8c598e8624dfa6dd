"""What the tests of Milvus and Milvus Lite share: records with numbers."""

from __future__ import annotations

from tests.adapters.vectors import clustered, names
from vecbench.types import Records


def numbered(n: int, dim: int, seed: int = 0) -> Records:
    return Records(names(n), clustered(n, dim, seed), [{"n": i % 1000} for i in range(n)])
