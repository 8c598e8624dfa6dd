"""Distances, order, k, recall."""

from __future__ import annotations

import numpy as np
import pytest

from vecbench.distance import top_k
from vecbench.errors import ConfigError, Unsupported, UnsupportedMetric, UnsupportedOperation
from vecbench.index import Flat, SearchParams
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base
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

    def test_ties_have_equal_distances(self, store: VectorStore) -> None:
        vectors = np.repeat(raw_vectors(4, DIM), 5, axis=0)
        collection = self.make(store, load=Records([f"id{i}" for i in range(20)], vectors))
        result = collection.search(vectors[:1], k=5)
        assert set(result.ids[0]) == {f"id{i}" for i in range(5)}
        assert np.ptp(result.distances[0]) == 0

    def test_raw_scores_stand_beside_the_answers(self, store: VectorStore) -> None:
        result = self.make(store, load=records(30, DIM)).search(raw_vectors(3, DIM, 5), k=7)
        if result.raw is not None:
            assert [len(r) for r in result.raw] == [7, 7, 7]

    def test_columns_come_with_the_hits(self, store: VectorStore) -> None:
        data = records(30, DIM)
        collection = self.make(store, load=data)
        assert data.metadata is not None
        assert data.documents is not None
        hits = list(collection.search(raw_vectors(1, DIM, 5), k=5, include=["metadata", "documents", "vectors"]).hits())
        assert len(hits) == 5
        for hit in hits:
            row = int(hit.id[2:])
            assert hit.metadata == data.metadata[row]
            assert hit.document == data.documents[row]
            assert hit.vector is not None
        assert collection.search(raw_vectors(1, DIM, 5), k=5).records is None

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
