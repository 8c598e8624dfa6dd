"""The exact neighbours by blocks: what float64 says of every row, to the bit, whatever the data, threads and mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vecbench import neighbours
from vecbench.distance import paired_distances
from vecbench.errors import ConfigError, DatasetError
from vecbench.neighbours import MEMORY_BYTES, Largest, Search, nearest
from vecbench.products import Products
from vecbench.threads import Threads
from vecbench.types import Metric, Vectors
from vecbench_faiss.neighbours import LargestByFaiss, on_gpu


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


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kind", ["plain", "ties", "lengths"])
def test_the_size_of_blocks_changes_nothing(kind: str, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    base, queries = data(kind, 3000)
    expected = by_hand(queries, base, 30, metric)
    for tile, block, chunk, share in ((7, 33, 2, 128), (64, 512, 1, 2), (1, 1000, 3, 30)):
        for name, value in (("_TILE", tile), ("_BLOCK", block), ("_CHUNK", chunk), ("_SAMPLE_SHARE", share)):
            monkeypatch.setattr(neighbours, name, value)
        rows, distances = nearest(queries, base, 30, metric, threads=2)
        assert np.array_equal(rows, expected[0])
        assert distances.tobytes() == expected[1].tobytes()


def test_where_the_sample_is_nearer_than_the_rest_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than k are as near as was hoped: the rows that were left out on that hope are read after all."""
    base, queries = data("plain", 20_000)
    queries[:] = queries[0] + 1e-3 * queries
    sampled: list[npt.NDArray[np.int64]] = []
    lost: list[int] = []
    hope, find_lost = Search._hope, Search._find_lost

    def watch_hope(self: Search, positions: npt.NDArray[np.int64]) -> None:
        sampled.append(positions)
        hope(self, positions)
        assert np.isfinite(self.hopes()).all()

    def watch_lost(self: Search) -> None:
        lost.append(sum(len(tile.found.lost()) for tile in self._tiles))
        find_lost(self)

    monkeypatch.setattr(Search, "_hope", watch_hope)
    monkeypatch.setattr(Search, "_find_lost", watch_lost)
    nearest(queries, base, 100, Metric.EUCLIDEAN)
    assert lost == [0]
    near = sampled[0][::20]  # 52 rows of the sample, about half of k
    base[near] = queries[0] + 1e-3 * base[near]
    for mask in (None, np.ones(len(base), np.bool_)):
        lost.clear()
        rows, distances = nearest(queries, base, 100, Metric.EUCLIDEAN, mask=mask)
        assert lost == [60, 0]  # and the second reading goes by what is proven
        expected_rows, expected = by_hand(queries, base, 100, Metric.EUCLIDEAN)
        assert np.array_equal(rows, expected_rows)
        assert distances.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["plain", "ties", "cluster"])
def test_a_second_reading_is_rare_also_where_rows_are_level(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, queries = data(kind, 20_000)
    lost: list[int] = []
    find_lost = Search._find_lost

    def watch(self: Search) -> None:
        lost.append(int(np.isfinite(self.hopes()).sum()))
        lost.append(sum(len(tile.found.lost()) for tile in self._tiles))
        find_lost(self)

    monkeypatch.setattr(Search, "_find_lost", watch)
    nearest(queries, base, 100, Metric.EUCLIDEAN)
    assert lost == [60, 0]


@pytest.mark.parametrize("hope", [-np.inf, 0.0, 1e30])
def test_a_search_goes_on_from_another_whatever_that_hoped(hope: float) -> None:
    base, queries = data("plain")
    with Threads(2, limit=False) as workers:
        first = Search(queries, base[:4000], 30, Metric.EUCLIDEAN, workers, hopeful=False)
        list(first.scan())
        rows = first.result()[0]
        if hope > 0:
            rows[:] = -1  # nothing was as near as that
        second = Search(queries, base, 30, Metric.EUCLIDEAN, workers)
        second.known(rows, np.full(60, hope))
        assert list(second.scan(4000)) == [6000]
        rows, distances = second.result()
    expected_rows, expected = by_hand(queries, base, 30, Metric.EUCLIDEAN)
    assert np.array_equal(rows, expected_rows)
    assert distances.tobytes() == expected.tobytes()


def test_rows_of_a_part_are_called_by_their_numbers_in_the_whole() -> None:
    base, queries = data("plain", 300)
    called = np.arange(300) * 3 + 1000
    base[17] = 0
    with pytest.raises(DatasetError, match="row 1051 of base is zero"):
        nearest(queries, base, 5, Metric.COSINE, called=called)
    base[17, 2] = np.nan
    with pytest.raises(DatasetError, match="row 1051 of base holds NaN"):
        nearest(queries, base, 5, Metric.DOT, called=called)


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize(("base_is", "query_is"), [(1e37, 1), (1, 1e37), (1e-42, 1), (1, 1e-42), (1e-42, 1e37)])
def test_the_ends_of_float32_are_as_exact_as_its_middle(metric: Metric, base_is: float, query_is: float) -> None:
    """Squares overflow or vanish in float32 there, and a tenth of the rows is of ordinary size."""
    rng = np.random.default_rng(5)
    base, queries = rng.normal(size=(2000, 8)), rng.normal(size=(20, 8))
    base[::10] *= base_is
    small, few = base.astype(np.float32), (queries * query_is).astype(np.float32)
    rows, distances = nearest(few, small, 40, metric)
    expected_rows, expected = by_hand(few, small, 40, metric)
    assert np.array_equal(rows, expected_rows)
    assert distances.tobytes() == expected.tobytes()


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kind", ["plain", "far", "lengths", "tiny"])
def test_no_product_is_further_from_the_score_than_its_slack(kind: str, metric: Metric) -> None:
    """What the whole proof stands on, held against float64 products of the same vectors."""
    base, queries = data(kind, 500)
    products = Products(metric, base)
    side_of = products.about_centre(queries)
    block = products.block(base, np.arange(len(base)), np.empty((len(base), products.width), np.float32))
    side = products.left(side_of, block.scale)
    x, q = base.astype(np.float64) - products.centre, queries.astype(np.float64) - products.centre
    true = q @ x.T
    if metric is Metric.EUCLIDEAN:
        true -= (x * x).sum(1) / 2
    elif metric is Metric.COSINE:
        true /= np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    off = np.abs((side.rows @ block.rows.T).astype(np.float64) - true * side.factor[:, None])
    slack = products.slack(side, block.reach)
    assert (off <= slack[:, None]).all()
    assert (slack <= 1e-4 * (np.abs(true * side.factor[:, None]).max(axis=1) + side.norms * block.reach)).all()


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("kind", ["plain", "ties", "cluster", "lengths"])
def test_another_device_finds_candidates_and_changes_nothing(kind: str, metric: Metric) -> None:
    """By FAISS on the CPU: the same calls as on a GPU, but for the device. Of many ties it leaves some out."""
    import faiss

    device = LargestByFaiss(faiss)
    device.block_rows = 2048
    base, queries = data(kind)
    rows, distances = nearest(queries, base, 100, metric, largest=device)
    expected_rows, expected = by_hand(queries, base, 100, metric)
    assert np.array_equal(rows, expected_rows)
    assert distances.tobytes() == expected.tobytes()


class LastFirst:
    """A device that gives level rows last first, and multiplies in a precision of its own."""

    block_rows, most = 4096, 2048

    def __init__(self, precision: npt.DTypeLike) -> None:
        self._precision = precision

    def __call__(self, queries: Vectors, rows: Vectors, count: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
        scores = (queries.astype(self._precision) @ rows.astype(self._precision).T).astype(np.float32)
        found = len(rows) - 1 - np.argsort(-scores[:, ::-1], axis=1, kind="stable")[:, :count]
        return np.take_along_axis(scores, found, axis=1), found


def test_level_rows_come_in_the_order_of_their_numbers_however_they_were_found() -> None:
    base, queries = data("plain", 3000)
    twice = np.concatenate([base, base])
    device: Largest = LastFirst(np.float64)
    rows, _ = nearest(queries, twice, 11, Metric.EUCLIDEAN, largest=device)
    assert np.array_equal(rows, by_hand(queries, twice, 11, Metric.EUCLIDEAN)[0])


def test_a_device_of_less_precision_is_refused() -> None:
    base, queries = data("plain", 3000)
    device: Largest = LastFirst(np.float16)
    with pytest.raises(ConfigError, match="less precision than float32"):
        nearest(queries, base, 10, Metric.EUCLIDEAN, largest=device)


def test_no_gpu_is_no_device() -> None:
    import faiss

    assert (on_gpu() is None) == (faiss.get_num_gpus() == 0)
