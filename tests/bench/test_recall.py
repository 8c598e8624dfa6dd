from __future__ import annotations

import numpy as np
import pytest

from vecbench.bench.recall import NO_ANSWER, UNKNOWN, distance_error, recall_at_k
from vecbench.distance import top_k
from vecbench.types import Metric, Vectors

METRICS = list(Metric)


def _vectors(seed: int, n: int, dim: int = 16) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_exact_search_scores_one_where_every_vector_occurs_four_times(metric: Metric) -> None:
    base, queries = np.tile(_vectors(1, 100), (4, 1)), _vectors(2, 20)
    rows, distances = top_k(queries, base, 10, metric)
    # As exact, but of equal vectors it takes first the one that was stored last.
    answers = rows % 100 + 300 - 100 * (rows // 100)
    found = recall_at_k(answers, queries, base, rows, distances, metric=metric)
    assert found.by_distance.tolist() == [1.0] * 20
    assert found.by_id.tolist() == [0.8] * 20  # 4 + 4 copies of the two nearest, and the other 2 of the third
    assert (found.duplicates, found.missing, found.unknown) == (0, 0, 0)


def test_random_answers_do_not_score_on_a_tight_cluster() -> None:
    base = (1.0 + 1e-4 * _vectors(3, 2000)).astype(np.float32)
    queries = (1.0 + 1e-4 * _vectors(4, 50)).astype(np.float32)
    rows, distances = top_k(queries, base, 10, Metric.EUCLIDEAN)
    answers = np.random.default_rng(5).permuted(np.tile(np.arange(2000), (50, 1)), axis=1)[:, :10]
    found = recall_at_k(answers, queries, base, rows, distances, metric=Metric.EUCLIDEAN)
    assert found.by_distance.mean() < 0.03
    exact = recall_at_k(rows, queries, base, rows, distances, metric=Metric.EUCLIDEAN)
    assert exact.by_distance.tolist() == [1.0] * 50


@pytest.mark.parametrize("metric", METRICS)
def test_a_neighbour_just_beyond_the_kth_is_a_miss(metric: Metric) -> None:
    base, queries = _vectors(6, 300), _vectors(7, 10)
    rows, distances = top_k(queries, base, 11, metric)
    answers = rows[:, 1:]  # the 11th in place of the first
    found = recall_at_k(answers, queries, base, rows, distances, metric=metric)
    assert found.by_distance.tolist() == pytest.approx([0.9] * 10)


def test_scaled_doubles_of_a_query_are_all_at_cosine_distance_zero() -> None:
    query = _vectors(8, 1, 96)
    scales = np.linspace(0.01, 900, 40, dtype=np.float32)[:, None]
    base = np.concatenate([query * scales, _vectors(9, 40, 96)]).astype(np.float32)
    rows, distances = top_k(query, base, 10, Metric.COSINE)
    # The multiples differ from the query in the last bit of float32, which is 1e-15 in cosine and no difference.
    answers = np.arange(30, 40)[None, :]
    found = recall_at_k(answers, query, base, rows, distances, metric=Metric.COSINE)
    assert found.by_distance.tolist() == [1.0]
    assert found.by_id[0] < 1.0
    strangers = recall_at_k(answers + 20, query, base, rows, distances, metric=Metric.COSINE)
    assert strangers.by_distance.tolist() == [0.0]


def test_at_distance_zero_only_equal_vectors_count_under_euclid() -> None:
    query = np.zeros((1, 4), np.float32)
    base = np.zeros((20, 4), np.float32)
    base[10:, 0] = 1e-12
    rows, distances = top_k(query, base, 5, Metric.EUCLIDEAN)
    assert distances[0, -1] == 0
    far = recall_at_k(np.arange(10, 15)[None, :], query, base, rows, distances, metric=Metric.EUCLIDEAN)
    same = recall_at_k(np.arange(5, 10)[None, :], query, base, rows, distances, metric=Metric.EUCLIDEAN)
    assert (far.by_distance[0], same.by_distance[0]) == (0.0, 1.0)


def test_duplicates_unknown_and_missing_answers_are_misses_and_counted() -> None:
    base, queries = _vectors(10, 50), _vectors(11, 1)
    rows, distances = top_k(queries, base, 5, Metric.EUCLIDEAN)
    first, second = rows[0, :2].tolist()
    answers = np.array([[first, first, second, UNKNOWN, NO_ANSWER]])
    found = recall_at_k(answers, queries, base, rows, distances, metric=Metric.EUCLIDEAN)
    assert found.by_distance.tolist() == [0.4]
    assert (found.duplicates, found.unknown, found.missing) == (1, 1, 1)


def test_fewer_rows_than_k_can_still_be_all_of_them() -> None:
    base, queries = _vectors(12, 3), _vectors(13, 2)
    rows, distances = top_k(queries, base, 10, Metric.EUCLIDEAN)
    answers = np.full((2, 10), NO_ANSWER)
    answers[:, :3] = rows
    found = recall_at_k(answers, queries, base, rows, distances, metric=Metric.EUCLIDEAN)
    assert found.by_distance.tolist() == [1.0, 1.0]
    assert found.missing == 0


@pytest.mark.parametrize("metric", METRICS)
def test_a_distance_one_percent_off_is_seen(metric: Metric) -> None:
    base, query = _vectors(14, 5), _vectors(15, 1)[0]
    _, (true,) = top_k(query[None, :], base, 5, metric)
    rows, _ = top_k(query[None, :], base, 5, metric)
    assert distance_error(true, query, base[rows[0]], metric) == 0.0
    worst = int(np.abs(true).argmax())
    off = true.copy()
    off[worst] *= 1.01
    assert distance_error(off, query, base[rows[0]], metric) == pytest.approx(0.01)


def test_the_error_at_distance_zero_is_relative_to_the_scale() -> None:
    query = np.array([300.0, 400.0], np.float32)
    assert distance_error([0.5], query, query[None, :], Metric.EUCLIDEAN) == pytest.approx(0.1)  # of 500 / 100
