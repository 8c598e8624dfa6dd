"""Exact neighbours beside the machine's own matrix product and beside FAISS: GFLOP/s of one run, in turns.

pytest benchmarks/test_truth.py --benchmark-only -s
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from vecbench.neighbours import nearest
from vecbench.types import Metric

QUERIES, ROWS, DIM = 2048, 100_000, 384
WORK = 2 * QUERIES * ROWS * DIM / 1e9


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
@pytest.mark.parametrize("k", [10, 100, 1000])
def test_rate(benchmark: Any, k: int, metric: Metric) -> None:
    import faiss

    rng = np.random.default_rng(1)
    base = rng.normal(size=(ROWS, DIM)).astype(np.float32)
    queries = rng.normal(size=(QUERIES, DIM)).astype(np.float32)
    square = np.ones((2048, 2048), np.float32)
    index = faiss.IndexFlatL2(DIM) if metric is Metric.EUCLIDEAN else faiss.IndexFlatIP(DIM)
    index.add(base)
    out = np.empty_like(square)

    def sgemm() -> None:
        for _ in range(9):
            np.matmul(square, square, out=out)

    def timed(action: Any) -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    others = {"sgemm": 9 * 2 * 2048**3 / 1e9, "faiss": WORK}
    best = {
        "sgemm": min(timed(sgemm) for _ in range(3)),
        "faiss": min(timed(lambda: index.search(queries, k)) for _ in range(2)),
    }
    benchmark.pedantic(lambda: nearest(queries, base, k, metric), rounds=3, iterations=1)
    best["sgemm"] = min(best["sgemm"], *(timed(sgemm) for _ in range(2)))
    rates = {name: others[name] / seconds for name, seconds in best.items()}
    rates["ours"] = WORK / benchmark.stats.stats.min
    benchmark.extra_info |= rates
    print("", metric.value, f"k={k}", {n: f"{r:.0f} GFLOP/s, {r / rates['sgemm']:.0%}" for n, r in rates.items()})
