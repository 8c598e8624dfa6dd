"""Exact distances and neighbours, held against plain integer arithmetic."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from vecbench import Metric
from vecbench.distance import distances_to, exact_distances, paired_distances, top_k
from vecbench.types import SearchResult, similarity


def slow(a: list[int], b: list[int], metric: Metric) -> float:
    """The definition, in Python's own integers and one division or root at the end."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    if metric is Metric.EUCLIDEAN:
        return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
    if metric is Metric.DOT:
        return -dot
    return 1 - dot / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def grid(n: int, dim: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).integers(-9, 10, (n, dim)).astype(np.float32)


@pytest.mark.parametrize("metric", Metric)
def test_definitions(metric: Metric) -> None:
    q, x = grid(5, 7, 1), grid(11, 7, 2)
    expected = [[slow(a, b, metric) for b in x.astype(int).tolist()] for a in q.astype(int).tolist()]
    np.testing.assert_allclose(exact_distances(q, x, metric), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(paired_distances(q, x[:5], metric), np.diag(expected), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("copies", [1, 4, 60])
def test_top_k_is_exact_with_ties_by_row(metric: Metric, copies: int) -> None:
    x = np.tile(grid(300 // copies, 6, 3), (copies, 1))
    q = grid(20, 6, 4)
    rows, distances = top_k(q, x, 10, metric)
    full = exact_distances(q, x, metric)
    for i, row in enumerate(full):
        order = sorted(range(len(x)), key=lambda j, row=row: (row[j], j))[:10]  # type: ignore[misc]
        assert rows[i].tolist() == order
        assert distances[i].tolist() == row[order].tolist()


def test_top_k_survives_float32_cancellation() -> None:
    """Far from the origin the expanded square loses every digit in float32; the answer must not."""
    rng = np.random.default_rng(5)
    x = (1000 + rng.normal(size=(3000, 16)) * 1e-2).astype(np.float32)
    q = (1000 + rng.normal(size=(8, 16)) * 1e-2).astype(np.float32)
    rows, _ = top_k(q, x, 5, Metric.EUCLIDEAN)
    assert rows.tolist() == np.argsort(exact_distances(q, x, Metric.EUCLIDEAN), axis=1, kind="stable")[:, :5].tolist()


def test_similarities_are_larger_where_it_is_nearer() -> None:
    near, far = (
        np.array([0.5, 3.0]),
        {Metric.EUCLIDEAN: [2 / 3, 0.25], Metric.COSINE: [0.5, -2], Metric.DOT: [-0.5, -3]},
    )
    for metric, expected in far.items():
        result = SearchResult([["a", "b"]], [near], metric)
        np.testing.assert_allclose(result.similarities()[0], expected)
        assert similarity(0.5, metric) == pytest.approx(expected[0])


def test_k_is_cut_to_the_number_of_rows() -> None:
    rows, distances = top_k(grid(2, 3, 6), grid(4, 3, 7), 10, Metric.EUCLIDEAN)
    assert rows.shape == distances.shape == (2, 4)
    assert top_k(grid(2, 3, 6), np.empty((0, 3), np.float32), 10, Metric.COSINE)[0].shape == (2, 0)


@pytest.mark.parametrize("metric", list(Metric))
def test_one_query_to_many_rows_is_each_pair_to_the_bit(metric: Metric) -> None:
    base = np.random.default_rng(0).normal(size=(2500, 384)).astype(np.float32)  # three steps of `distances_to`
    query, rows = base[0] * 3, np.random.default_rng(1).permutation(2500)
    pairs = paired_distances(np.broadcast_to(query, (2500, 384)), base[rows], metric)
    assert distances_to(query, base, rows, metric).tobytes() == pairs.tobytes()
