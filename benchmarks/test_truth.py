"""Exact neighbours beside the machine's own matrix product and beside FAISS: GFLOP/s of one run, in turns.

pytest benchmarks/test_truth.py --benchmark-only -s
TRUTH_ROWS=1000000 pytest benchmarks/test_truth.py --benchmark-only -s     # minutes

With more rows, what is done once for each neighbour weighs less. Other programs on the machine take from all three, but
not evenly: `cpu` counts processor time instead, times processors.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vecbench.neighbours import nearest
from vecbench.types import Metric, Vectors

QUERIES, ROWS, DIM = 2048, int(os.environ.get("TRUTH_ROWS", "200000")), 384
WORK = 2 * QUERIES * ROWS * DIM / 1e9
SIDE = 2048
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(scope="module")
def vectors() -> tuple[Vectors, Vectors]:
    """Unit vectors about a subspace of 48 dimensions, as embeddings are: queries and base."""
    rng = np.random.default_rng(1)
    basis = rng.standard_normal((48, DIM), dtype=np.float32) / 7
    made = np.empty((QUERIES + ROWS, DIM), np.float32)
    for start in range(0, len(made), 20_000):
        part = made[start : start + 20_000]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 0.25
        part += rng.standard_normal((len(part), len(basis)), dtype=np.float32) @ basis
        part /= np.linalg.norm(part, axis=1)[:, None]
    return made[:QUERIES], made[QUERIES:]


@pytest.mark.parametrize(
    ("k", "metric"), [(10, Metric.EUCLIDEAN), (100, Metric.EUCLIDEAN), (100, Metric.COSINE), (1000, Metric.EUCLIDEAN)]
)
def test_rate(benchmark: Any, vectors: tuple[Vectors, Vectors], k: int, metric: Metric) -> None:
    import faiss

    queries, base = vectors
    square, out = np.ones((SIDE, SIDE), np.float32), np.empty((SIDE, SIDE), np.float32)
    index = faiss.IndexFlatL2(DIM) if metric is Metric.EUCLIDEAN else faiss.IndexFlatIP(DIM)
    index.add(base)
    wall: dict[str, float] = {}
    cpu: dict[str, float] = {}

    def timed(name: str, gflop: float, action: Callable[[], object]) -> None:
        start, used = time.perf_counter(), time.process_time()
        action()
        seconds, used = time.perf_counter() - start, time.process_time() - used
        wall[name] = max(wall.get(name, 0), gflop / seconds)
        cpu[name] = max(cpu.get(name, 0), gflop / used * PROCESSORS)

    def once() -> None:
        timed("ours", WORK, lambda: nearest(queries, base, k, metric))

    def others() -> None:
        for _ in range(8):
            timed("sgemm", 2 * SIDE**3 / 1e9, lambda: np.matmul(square, square, out=out))
        timed("faiss", WORK, lambda: index.search(queries, k))

    benchmark.pedantic(once, setup=others, rounds=2, iterations=1)
    peak = wall["sgemm"]
    benchmark.extra_info |= {"gflops": wall, "cpu_gflops": cpu}
    told = (f"{n} {r:.0f} GFLOP/s ({r / peak:.0%}; cpu {cpu[n] / peak:.0%})" for n, r in wall.items())
    print("", f"{ROWS:,} rows, {metric.value}, k={k}:", *told, sep="  ")
