"""The exact neighbours by blocks: what float64 says of every row, to the bit, whatever the data, threads and mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vecbench.distance import paired_distances
from vecbench.errors import DatasetError
from vecbench.neighbours import MEMORY_BYTES, nearest
from vecbench.types import Metric, Vectors


def by_hand(
    queries: Vectors, base: Vectors, k: int, metric: Metric, mask: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """One query after the other, every row in float64, ties by row number."""
    rows = np.arange(len(base)) if mask is None else np.flatnonzero(mask)
    found, distances = [], []
    for query in queries:
        exact = paired_distances(np.tile(query, (len(rows), 1)), base[rows], metric)
        order = np.lexsort((rows, exact))[:k]
        found.append(rows[order])
        distances.append(exact[order])
    return np.array(found), np.array(distances)


def data(kind: str, n: int = 6000, dim: int = 24) -> tuple[Vectors, Vectors]:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n + 60, dim)).astype(np.float32)
    if kind == "far":
        x += 1e4  # differences far below the rounding of the products
    elif kind == "ties":
        x = np.round(x[rng.integers(0, 40, len(x))])
        x[:, 0] = 1
    elif kind == "lengths":
        x *= 10.0 ** rng.integers(-12, 13, (len(x), 1))
    elif kind == "tiny":
        x *= 1e-22
    elif kind == "cluster":
        x[: n // 2] = x[0] + 1e-3 * x[: n // 2]
    return np.ascontiguousarray(x[:n]), np.ascontiguousarray(x[n:])


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kind", ["plain", "far", "ties", "lengths", "tiny", "cluster"])
def test_it_is_what_float64_says_of_every_row(kind: str, metric: Metric) -> None:
    base, queries = data(kind)
    for k in (1, 100):
        rows, distances = nearest(queries, base, k, metric)
        expected_rows, expected = by_hand(queries, base, k, metric)
        assert np.array_equal(rows, expected_rows)
        assert distances.tobytes() == expected.tobytes()


def test_threads_memory_and_maps_change_nothing(tmp_path: Path) -> None:
    base, queries = data("plain", 90_000, 32)
    np.save(tmp_path / "base.npy", base)
    mapped = np.load(tmp_path / "base.npy", mmap_mode="r")
    many = np.concatenate([queries] * 20)  # more than one tile of queries
    rows, distances = nearest(many, base, 10, Metric.EUCLIDEAN)
    assert np.array_equal(rows[:60], rows[-60:])
    assert np.array_equal(rows[:60], by_hand(queries, base, 10, Metric.EUCLIDEAN)[0])
    for threads, memory_bytes in ((1, MEMORY_BYTES), (3, MEMORY_BYTES), (None, 1)):
        again = nearest(many, mapped, 10, Metric.EUCLIDEAN, threads=threads, memory_bytes=memory_bytes)
        assert np.array_equal(again[0], rows)
        assert again[1].tobytes() == distances.tobytes()


@pytest.mark.parametrize("share", [0.5, 0.01, 0.0005])
def test_a_mask_leaves_the_nearest_of_what_it_lets_through(share: float) -> None:
    base, queries = data("plain")
    mask = np.random.default_rng(3).random(len(base)) < share
    mask[5] = True
    rows, distances = nearest(queries, base, 20, Metric.COSINE, mask=mask)
    expected_rows, expected = by_hand(queries, base, 20, Metric.COSINE, mask)
    assert rows.shape == (60, min(20, int(mask.sum())))
    assert np.array_equal(rows, expected_rows)
    assert distances.tobytes() == expected.tobytes()


def test_a_thousand_neighbours() -> None:
    base, queries = data("plain")
    rows, _ = nearest(queries[:9], base, 1000, Metric.DOT)
    assert np.array_equal(rows, by_hand(queries[:9], base, 1000, Metric.DOT)[0])
    assert nearest(queries[:9], base[:3], 1000, Metric.DOT)[0].shape == (9, 3)
    assert nearest(queries[:0], base, 5, Metric.DOT)[0].shape == (0, 5)


def test_what_has_no_distance_is_refused() -> None:
    base, queries = data("plain", 300)
    for damage, metric in ((np.nan, Metric.EUCLIDEAN), (np.inf, Metric.DOT)):
        broken = base.copy()
        broken[17, 3] = damage
        with pytest.raises(DatasetError):
            nearest(queries, broken, 5, metric)
    broken = base.copy()
    broken[17] = 0
    with pytest.raises(DatasetError):
        nearest(queries, broken, 5, Metric.COSINE)
