"""Distances, order, k, recall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vecbench.distance import top_k
from vecbench.errors import ConfigError, Unsupported, UnsupportedMetric, UnsupportedOperation
from vecbench.index import HNSW, Flat, IVFFlat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base, usual_metric
from vecbench.testing.data import assert_distances, raw_vectors, records
from vecbench.types import Metric, Records

__all__ = ["SearchTests"]


class SearchTests(Base):
    @pytest.mark.parametrize("metric", Metric)
    @pytest.mark.parametrize("batch", [1, 40])
    def test_distances_are_true(self, store: VectorStore, metric: Metric, batch: int) -> None:
        """Not squared, not a similarity, right on vectors of any length, for one query and for many."""
        if metric not in store.capabilities.metrics:
            with pytest.raises(UnsupportedMetric):
                self.make(store, metric)
            return
        data = records(200, DIM)
        collection = self.make(store, metric, load=data)
        assert data.vectors is not None
        at = {id_: i for i, id_ in enumerate(data.ids)}
        queries = raw_vectors(batch, DIM, seed=2)
        result = collection.search(queries, k=20)
        assert len(result) == batch
        for query, ids, distances in zip(queries, result.ids, result.distances, strict=True):
            assert len(ids) == len(distances) == len(set(ids)) == 20
            assert (np.diff(distances) >= 0).all()
            vectors = data.vectors[[at[i] for i in ids]]
            assert_distances(
                np.broadcast_to(query, vectors.shape), vectors, distances, metric, store.capabilities.tolerance
            )

    def test_the_nearest_is_found(self, store: VectorStore) -> None:
        """Under every metric the index finds most true neighbours; exact search finds all."""
        for metric in store.capabilities.metrics:
            data = records(1500, DIM, seed=3)
            collection = self.make(store, metric, name=f"r-{metric}", load=data)
            assert data.vectors is not None
            queries = raw_vectors(30, DIM, seed=4)
            rows, _ = top_k(queries, data.vectors, 10, metric)
            exact = store.capabilities.exact_search or isinstance(self.index, Flat)
            for params, least in [(SearchParams(), 0.5), (SearchParams(exact=True), 1.0)][: 1 + exact]:
                found = collection.search(queries, k=10, params=params).ids
                hits = [len({f"id{r}" for r in row} & set(ids)) for row, ids in zip(rows, found, strict=True)]
                assert np.mean(hits) / 10 >= least

    def test_k_beyond_the_rows_gives_all(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(30, DIM))
        result = collection.search(raw_vectors(2, DIM, 5), k=100)
        assert [len(set(ids)) for ids in result.ids] == [30, 30]

    def test_k_rows_return_from_a_graph_in_pieces(self, store: VectorStore) -> None:
        """Far clusters and few links: parts of the graph that no path leads to, and k rows must come all the same."""
        rng = np.random.default_rng(23)
        vectors = (rng.normal(size=(30, 1, DIM)) * 1000 + rng.normal(size=(30, 30, DIM))).reshape(-1, DIM)
        ids = [f"id{i}" for i in range(900)]
        index = replace(self.index, m=4, ef_construction=8) if isinstance(self.index, HNSW) else self.index
        collection = store.create_collection(CollectionSpec("pieces", DIM, usual_metric(store), index))
        collection.upsert(Records(ids, vectors.astype(np.float32)))
        collection.optimize()
        collection.flush()
        result = collection.search(vectors[:3].astype(np.float32), k=900)
        assert [len(set(found)) for found in result.ids] == [900, 900, 900]
        assert all((np.diff(d) >= 0).all() for d in result.distances)

    def test_cosine_runs_from_zero_to_two(self, store: VectorStore) -> None:
        """Whatever the lengths: parallel is 0, orthogonal 1, opposite 2."""
        if Metric.COSINE not in store.capabilities.metrics:
            with pytest.raises(UnsupportedMetric):
                self.make(store, Metric.COSINE)
            return
        axis, other = np.zeros(DIM, np.float32), np.zeros(DIM, np.float32)
        axis[0] = other[1] = 1
        vectors = np.stack([0.5 * axis, 3 * other, -2 * axis])
        collection = self.make(store, Metric.COSINE, load=Records(["parallel", "orthogonal", "opposite"], vectors))
        for length in (0.01, 1, 7):
            result = collection.search(length * axis, k=3)
            assert result.ids == [["parallel", "orthogonal", "opposite"]]
            np.testing.assert_allclose(result.distances[0], [0, 1, 2], atol=2e-6)

    def test_a_wide_search_finds_nearly_all(self, store: VectorStore) -> None:
        """On clustered rows, which are harder for an index than even ones."""
        rng = np.random.default_rng(21)
        centres = rng.normal(size=(25, 16)) * 3
        vectors = (centres[rng.integers(0, 25, 2000)] + rng.normal(size=(2000, 16))).astype(np.float32)
        queries = (centres[rng.integers(0, 25, 20)] + rng.normal(size=(20, 16))).astype(np.float32)
        ids = [f"id{i}" for i in range(2000)]
        metric = usual_metric(store)
        collection = self.make(store, metric, dim=16, load=Records(ids, vectors))
        params, least = SearchParams(), 0.5
        if isinstance(self.index, HNSW) and store.capabilities.ef_search == "query":
            params, least = SearchParams(ef_search=200), 0.9
        elif isinstance(self.index, IVFFlat) and store.capabilities.nprobe == "query":
            params, least = SearchParams(nprobe=self.index.nlist), 0.99
        elif isinstance(self.index, Flat):
            least = 0.99
        rows, _ = top_k(queries, vectors, 10, metric)
        found = collection.search(queries, k=10, params=params).ids
        hits = [len({f"id{r}" for r in row} & set(got)) for row, got in zip(rows, found, strict=True)]
        assert np.mean(hits) / 10 >= least

    def test_reconfigure_takes_effect_at_once(self, store: VectorStore) -> None:
        """Where a parameter belongs to the collection, a change is in force for every handle, and kept."""
        can = store.capabilities
        if not (isinstance(self.index, HNSW) and can.ef_search == "collection"):
            collection = self.make(store, load=records(20, DIM))
            with pytest.raises(UnsupportedOperation):
                collection.reconfigure(ef_search=99)
            return
        rng = np.random.default_rng(22)
        vectors, queries = rng.normal(size=(3000, 32)).astype(np.float32), rng.normal(size=(30, 32)).astype(np.float32)
        metric = usual_metric(store)
        collection = self.make(store, metric, dim=32, load=Records([f"id{i}" for i in range(3000)], vectors))
        other = store.get_collection("docs")
        rows, _ = top_k(queries, vectors, 10, metric)
        recall = {}
        for ef in (10, 400, 11):
            collection.reconfigure(ef_search=ef)
            assert store.get_collection("docs").spec.index == replace(self.index, ef_search=ef)
            for handle in (collection, other):
                found = handle.search(queries, k=10).ids
                hits = [len({f"id{r}" for r in row} & set(got)) for row, got in zip(rows, found, strict=True)]
                recall[ef, handle is other] = np.mean(hits) / 10
        for second in (False, True):
            assert recall[400, second] > 0.95
            assert recall[10, second] < recall[400, second] > recall[11, second]
        assert len(collection.search(queries, params=SearchParams(ef_search=11))) == 30
        with pytest.raises(UnsupportedOperation):
            collection.search(queries, params=SearchParams(ef_search=400))

    def test_queries_come_in_any_shape(self, store: VectorStore) -> None:
        """One vector or many, lists, float64, a strided view: the same answers; and one by one as in a batch."""
        collection = self.make(store, load=records(100, DIM))
        queries = raw_vectors(6, DIM, 5)
        expected = collection.search(queries, k=5)
        wide = np.empty((6, 2 * DIM), np.float64)
        wide[:, ::2] = queries
        for same in (queries.tolist(), queries.astype(np.float64), np.asfortranarray(queries), wide[:, ::2]):
            assert collection.search(same, k=5).ids == expected.ids
        for query, ids in zip(queries, expected.ids, strict=True):
            assert collection.search(query, k=5).ids == [ids]
            assert collection.search(query, k=1).ids == [ids[:1]]
        assert all(type(i) is str for ids in expected.ids for i in ids)

    def test_ties_have_equal_distances(self, store: VectorStore) -> None:
        vectors = np.repeat(raw_vectors(4, DIM), 5, axis=0)
        collection = self.make(store, load=Records([f"id{i}" for i in range(20)], vectors))
        result = collection.search(vectors[:1], k=5)
        assert set(result.ids[0]) == {f"id{i}" for i in range(5)}
        assert np.ptp(result.distances[0]) == 0
        fewer = collection.search(vectors[:1], k=3).ids[0]
        assert len(set(fewer)) == 3
        assert set(fewer) < set(result.ids[0])

    def test_raw_scores_stand_beside_the_answers(self, store: VectorStore) -> None:
        result = self.make(store, load=records(30, DIM)).search(raw_vectors(3, DIM, 5), k=7)
        if result.raw is not None:
            assert [len(r) for r in result.raw] == [7, 7, 7]

    def test_columns_come_with_the_hits(self, store: VectorStore) -> None:
        data = records(30, DIM)
        collection = self.make(store, load=data)
        assert data.metadata is not None
        assert data.documents is not None
        assert data.vectors is not None
        hits = list(collection.search(raw_vectors(1, DIM, 5), k=5, include=["metadata", "documents", "vectors"]).hits())
        assert len(hits) == 5
        for hit in hits:
            row = int(hit.id[2:])
            assert hit.metadata == data.metadata[row]
            assert hit.document == data.documents[row]
            assert hit.vector is not None
            np.testing.assert_allclose(hit.vector, data.vectors[row], rtol=1e-6, atol=1e-7)
        assert collection.search(raw_vectors(1, DIM, 5), k=5).records is None
        only = collection.search(raw_vectors(2, DIM, 5), k=5, include=["documents"])
        assert only.records is not None
        for ids, columns in zip(only.ids, only.records, strict=True):
            assert list(columns.ids) == ids
            assert (columns.vectors, columns.metadata) == (None, None)
            assert columns.documents == [data.documents[int(i[2:])] for i in ids]

    def test_an_empty_collection_answers_nothing(self, store: VectorStore) -> None:
        collection = self.make(store)
        assert collection.search(raw_vectors(2, DIM), k=5).ids == [[], []]
        collection.optimize()
        assert collection.search(raw_vectors(2, DIM), k=5).ids == [[], []]
        assert len(collection.search(np.empty((0, DIM), np.float32), k=5)) == 0

    def test_parameters_are_never_dropped(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(50, DIM))
        query = raw_vectors(1, DIM)
        for k in (0, -1, 2.0, True):
            with pytest.raises(ConfigError):
                collection.search(query, k=k)  # type: ignore[arg-type]
        with pytest.raises(Unsupported):
            collection.search(query, params=SearchParams(native={"no_such_parameter": 1}))
        kind, can = self.index.kind, store.capabilities
        for name, scope, owner in (("ef_search", can.ef_search, "hnsw"), ("nprobe", can.nprobe, "ivf_flat")):
            if kind == "native":
                continue
            params = SearchParams(ef_search=77) if name == "ef_search" else SearchParams(nprobe=3)
            if kind == owner and scope == "query":
                assert len(collection.search(query, params=params).ids[0]) == 10
            else:
                with pytest.raises(UnsupportedOperation):
                    collection.search(query, params=params)
        if not can.exact_search and kind != "flat":
            with pytest.raises(UnsupportedOperation):
                collection.search(query, params=SearchParams(exact=True))
