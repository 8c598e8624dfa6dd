"""What must be refused before anything is written, with the row named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import (
    ConfigError,
    DimensionMismatch,
    EmbedderMismatch,
    InvalidId,
    InvalidMetadata,
    InvalidVector,
    StoreError,
)
from vecbench.filters import Eq
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base, usual_metric
from vecbench.testing.data import raw_vectors, records
from vecbench.types import Metric, Records

__all__ = ["InputTests"]


class InputTests(Base):
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
    def test_numbers_that_cannot_be_compared(self, store: VectorStore, bad: float) -> None:
        collection = self.make(store)
        vectors = raw_vectors(4, DIM)
        vectors[2, 3] = bad
        with pytest.raises(InvalidVector, match="row 2"):
            collection.upsert(Records(["a", "b", "c", "d"], vectors))
        with pytest.raises(InvalidVector, match="row 2"):
            collection.search(vectors)
        collection.flush()
        assert collection.count() == 0

    def test_a_zero_vector_has_no_cosine(self, store: VectorStore) -> None:
        zero = np.zeros((1, DIM), np.float32)
        if Metric.COSINE in store.capabilities.metrics:
            collection = self.make(store, Metric.COSINE, load=records(5, DIM))
            with pytest.raises(InvalidVector, match="row 0"):
                collection.upsert(Records(["zero"], zero))
            with pytest.raises(InvalidVector, match="row 0"):
                collection.search(zero)
        if Metric.EUCLIDEAN not in store.capabilities.metrics:
            return
        collection = self.make(store, Metric.EUCLIDEAN, name="plain", load=records(5, DIM))
        collection.upsert(Records(["zero"], zero))
        collection.flush()
        result = collection.search(zero, k=1)
        assert result.ids == [["zero"]]
        assert result.distances[0][0] == 0

    def test_a_length_that_float32_cannot_square(self, store: VectorStore) -> None:
        huge, tiny = np.full((1, DIM), 1e19, np.float32), np.full((1, DIM), 1e-25, np.float32)
        for metric in store.capabilities.metrics:
            collection = self.make(store, metric, name=metric)
            for vectors in (huge, tiny) if metric is Metric.COSINE else (huge,):
                with pytest.raises(InvalidVector, match="row 0"):
                    collection.upsert(Records(["a"], vectors))
                with pytest.raises(InvalidVector, match="row 0"):
                    collection.search(vectors)
            assert collection.count() == 0

    def test_one_bad_row_keeps_the_whole_batch_out(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(5, DIM))
        n = max(2500, (store.capabilities.max_batch or 0) + 1)
        vectors = raw_vectors(n, DIM)
        vectors[n - 1, 0] = np.nan
        ids = [f"new{i}" for i in range(n)]
        with pytest.raises(InvalidVector, match=f"row {n - 1}"):
            collection.upsert(Records(ids, vectors))
        with pytest.raises(InvalidId, match=f"{n - 1}"):
            collection.upsert(Records([*ids[:-1], ids[0]], raw_vectors(n, DIM)))
        metadata: list[dict[str, Any]] = [*({} for _ in range(n - 1)), {"k": None}]
        with pytest.raises(InvalidMetadata, match=f"row {n - 1}"):
            collection.upsert(Records(ids, raw_vectors(n, DIM), metadata))
        collection.flush()
        assert collection.count() == 5

    def test_a_wrong_dimension(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(5, DIM))
        for vectors in (raw_vectors(2, DIM + 1), raw_vectors(2, DIM - 1), [[1.0, 2.0], [1.0]]):
            with pytest.raises(DimensionMismatch):
                collection.upsert(Records(["a", "b"], vectors))  # type: ignore[arg-type]
            with pytest.raises(DimensionMismatch):
                collection.search(vectors)
        assert collection.count() == 5

    @pytest.mark.parametrize("ids", [["a", "a"], ["a", ""], ["a", "x" * 513], ["a", "b\0"], ["a", 3], ["a", "\ud800"]])
    def test_bad_ids(self, store: VectorStore, ids: list[Any]) -> None:
        collection = self.make(store)
        with pytest.raises(InvalidId):
            collection.upsert(Records(ids, raw_vectors(2, DIM)))
        collection.flush()
        assert collection.count() == 0

    @pytest.mark.parametrize("value", [None, {"a": 1}, [1], float("nan"), 2**63, np.int64(1), b"x", "a\0"])
    def test_bad_metadata(self, store: VectorStore, value: Any) -> None:
        collection = self.make(store)
        with pytest.raises(InvalidMetadata, match="row 1"):
            collection.upsert(Records(["a", "b"], raw_vectors(2, DIM), [{"k": 1}, {"k": value}]))
        collection.flush()
        assert collection.count() == 0

    @pytest.mark.parametrize("key", ["", 1, "a\0", "\ud800"])
    def test_bad_keys(self, store: VectorStore, key: Any) -> None:
        collection = self.make(store)
        with pytest.raises(InvalidMetadata, match="row 1"):
            collection.upsert(Records(["a", "b"], raw_vectors(2, DIM), [{"k": 1}, {key: 1}]))
        with pytest.raises(InvalidMetadata, match="row 1"):
            collection.upsert(Records(["a", "b"], raw_vectors(2, DIM), documents=["text", "a\0"]))
        collection.flush()
        assert collection.count() == 0

    def test_bad_arguments(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(3, DIM))
        with pytest.raises(ConfigError):
            collection.get(["id0"], include=["vector"])  # type: ignore[list-item]
        with pytest.raises(ConfigError):
            collection.search(raw_vectors(1, DIM), include=["distances"])  # type: ignore[list-item]
        with pytest.raises(ConfigError):
            list(collection.scan(include=["ids"]))  # type: ignore[list-item]
        with pytest.raises(ConfigError):
            list(collection.scan(batch_size=0))
        with pytest.raises(InvalidId):
            collection.get(["id0", ""])
        with pytest.raises(InvalidId):
            collection.delete(ids=["x" * 513])
        assert collection.count() == 3

    def test_columns_of_unequal_length(self, store: VectorStore) -> None:
        collection = self.make(store)
        with pytest.raises(StoreError):
            collection.upsert(Records(["a"], raw_vectors(2, DIM)))
        with pytest.raises(StoreError):
            collection.upsert(Records(["a", "b"], raw_vectors(2, DIM), [{}]))
        assert collection.count() == 0

    def test_an_empty_batch_is_fine(self, store: VectorStore) -> None:
        collection = self.make(store)
        collection.upsert(Records([], np.empty((0, DIM), np.float32)))
        collection.flush()
        assert collection.count() == 0

    def test_delete_takes_exactly_one(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(3, DIM))
        with pytest.raises(ConfigError):
            collection.delete()
        with pytest.raises(ConfigError):
            collection.delete(ids=["id0"], where=Eq("n", 1))
        assert collection.count() == 3

    def test_another_embedder_is_refused(self, store: VectorStore) -> None:
        mine, other = EmbedderSpec("mine", DIM), EmbedderSpec("other", DIM)
        collection = store.create_collection(CollectionSpec("e", DIM, usual_metric(store), self.index, embedder=mine))
        vectors = raw_vectors(1, DIM)
        collection.upsert(Records(["a"], vectors, embedder=mine.fingerprint))
        with pytest.raises(EmbedderMismatch, match="mine"):
            collection.upsert(Records(["b"], vectors, embedder=other.fingerprint))
        with pytest.raises(EmbedderMismatch, match="other"):
            collection.search(vectors, embedder=other)
        collection.flush()
        assert collection.search(vectors, k=5, embedder=mine).ids == [["a"]]
        assert store.get_collection("e").spec.embedder == mine
