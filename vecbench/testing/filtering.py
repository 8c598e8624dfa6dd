"""Every filter against the reference evaluator; before the nearest are chosen, never after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vecbench.distance import top_k
from vecbench.errors import UnsupportedFilter
from vecbench.filters import (
    OPERATORS,
    And,
    Contains,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Not,
    NotIn,
    Or,
    fields,
    matches,
    operators,
)
from vecbench.index import SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.testing.base import DIM, Base, usual_metric
from vecbench.testing.data import HOSTILE, filters, metadata_rows, raw_vectors, records
from vecbench.types import Records

__all__ = ["FilterTests"]

_SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class FilterTests(Base):
    def check(self, collection: Collection, where: Filter, metadata: list[dict[str, Any]]) -> None:
        """count and search agree with the evaluator; what is not claimed is refused."""
        can = collection.store.capabilities
        undeclared = fields(where) - set(collection.spec.fields) if can.declared_fields else frozenset()
        if undeclared or operators(where) - can.filters:
            with pytest.raises(UnsupportedFilter):
                collection.count(where)
            return
        expected = {f"id{i}" for i, m in enumerate(metadata) if matches(where, m)}
        assert collection.count(where) == len(expected), where
        found = collection.search(raw_vectors(1, DIM, 7), k=len(metadata), where=where).ids[0]
        assert len(found) == len(set(found)), where
        assert set(found) == expected, where
        scanned = [i for batch in collection.scan(where=where, batch_size=5, include=[]) for i in batch.ids]
        assert len(scanned) == len(set(scanned)), where
        assert set(scanned) == expected, where

    def check_delete(self, collection: Collection, where: Filter, metadata: list[dict[str, Any]]) -> None:
        """Deleting what matches leaves the rest."""
        can = collection.store.capabilities
        if can.declared_fields or operators(where) - can.filters:
            with pytest.raises(UnsupportedFilter):
                collection.delete(where=where)
            return
        collection.delete(where=where)
        collection.flush()
        left = {i for batch in collection.scan(batch_size=7, include=[]) for i in batch.ids}
        assert left == {f"id{i}" for i, m in enumerate(metadata) if not matches(where, m)}, where
        assert collection.count() == len(left)

    def test_generated_filters(self, store: VectorStore) -> None:
        """Records with mixed types under one key, missing keys, hostile names and values; nested filters."""

        @_SETTINGS
        @given(metadata_rows, st.lists(filters, min_size=12, max_size=12))
        def check(metadata: list[dict[str, Any]], wheres: list[Filter]) -> None:
            store.drop_collection("f", missing_ok=True)
            collection = store.create_collection(CollectionSpec("f", DIM, usual_metric(store), self.index))
            n = len(metadata)
            collection.upsert(Records([f"id{i}" for i in range(n)], raw_vectors(n, DIM), metadata))
            collection.flush()
            for where in wheres:
                self.check(collection, where, metadata)
            if fields(wheres[0]):
                self.check_delete(collection, wheres[0], metadata)

        check()

    @pytest.mark.parametrize("operator", sorted(OPERATORS))
    def test_each_operator(self, store: VectorStore, operator: str) -> None:
        metadata: list[dict[str, Any]] = [
            {},
            {"x": 1},
            {"x": 1.0},
            {"x": True},
            {"x": "1"},
            {"x": ["1"]},
            {"x": 2},
            {"x": -1.5},
            {"x": 2**53 + 1},
            {"x": []},
            {"x": ""},
            {"y": 1},
        ]
        n = len(metadata)
        collection = self.make(store, load=Records([f"id{i}" for i in range(n)], raw_vectors(n, DIM), metadata))
        samples: dict[str, list[Filter]] = {
            "eq": [Eq("x", v) for v in (1, 1.0, True, "1", "", 2**53, 2**53 + 1)],
            "ne": [Ne("x", v) for v in (1, True, "1", "nothing")],
            "gt": [Gt("x", v) for v in (0, 1, 1.0, 0.5, 2**53, -(2**60))],
            "in": [In("x", []), In("x", [1]), In("x", [True, "1"]), In("x", [2, "", -1.5])],
            "nin": [NotIn("x", []), NotIn("x", [1]), NotIn("x", [True, "1"])],
            "contains": [Contains("x", "1"), Contains("x", "2")],
            "exists": [Exists("x"), Exists("y"), Exists("z")],
            "and": [And((Gt("x", 0), Not(Eq("x", 2)))), And(())],
            "or": [Or((Eq("x", "1"), Eq("y", 1))), Or(())],
            "not": [Not(Eq("x", 1)), Not(Gt("x", 0)), Not(Exists("x")), Not(Not(Eq("x", 1))), Not(Contains("x", "1"))],
        }
        samples |= {"gte": [Gte("x", v) for v in (1, 1.5)], "lt": [Lt("x", v) for v in (1, 2.0)]}
        samples["lte"] = [Lte("x", v) for v in (1, -2)]
        for where in samples[operator]:
            self.check(collection, where, metadata)

    def test_counts_stay_exact_after_overwrites_and_deletes(self, store: VectorStore) -> None:
        """Records that are only marked as deleted must not count, least of all in a negation."""
        n = 1200
        new: dict[str, Any] = {"n": 99, "tags": ["new"]}
        metadata: list[dict[str, Any]] = [{"n": i % 10, "word": f"w{i % 3}"} for i in range(n)]
        ids, vectors = [f"id{i}" for i in range(n)], raw_vectors(n, DIM)
        collection = self.make(store, load=Records(ids, vectors, metadata))
        collection.upsert(Records(ids[::2], vectors[::2], [new] * len(ids[::2])))
        collection.delete(ids=ids[::5])
        collection.flush()
        now = {i: new if i % 2 == 0 else metadata[i] for i in range(n) if i % 5}
        declared, can = store.capabilities.declared_fields, store.capabilities.filters
        samples: tuple[Filter, ...] = (
            Ne("n", 99), Not(Eq("word", "w1")), NotIn("n", []), Not(Exists("tags")), Not(Gt("n", 5)), Gte("n", 5),
            Not(Contains("tags", "new")), Or((Ne("n", 3), Not(Exists("n")))),
        )  # fmt: skip
        assert collection.count() == len(now)
        for where in samples:
            if declared or operators(where) - can:
                continue
            assert collection.count(where) == sum(matches(where, m) for m in now.values()), where

    def test_long_field_names(self, store: VectorStore) -> None:
        """Names that no column could have, and names that differ in their last letter only."""
        names = ["f" * 115, "漢" * 100, "x" * 499 + "a", "x" * 499 + "b"]
        metadata: list[dict[str, Any]] = [{name: row} for row, name in enumerate(names)]
        ids = [f"id{i}" for i in range(len(names))]
        collection = self.make(store, load=Records(ids, raw_vectors(len(names), DIM), metadata))
        assert collection.get(ids).metadata == metadata
        for row, name in enumerate(names):
            for where in (Exists(name), Gte(name, row), Lt(name, row), Eq(name, row)):
                self.check(collection, where, metadata)

    def test_hostile_names_and_values(self, store: VectorStore) -> None:
        metadata: list[dict[str, Any]] = [{text: text, "v": text, "l": [text]} for text in HOSTILE]
        n = len(metadata)
        collection = self.make(store, load=Records([f"id{i}" for i in range(n)], raw_vectors(n, DIM), metadata))
        for text in HOSTILE:
            for where in (
                Eq("v", text),
                Eq(text, text),
                Exists(text),
                Contains("l", text),
                Ne(text, text),
                In("v", [text]),
            ):
                self.check(collection, where, metadata)
        self.check_delete(collection, In("v", HOSTILE[::2]), metadata)

    def test_k_matches_exist_so_k_return(self, store: VectorStore) -> None:
        """A filter that few rows pass must not shorten the answer, however narrow the search of the graph."""
        n = 2000
        metadata = [{"rare": i % 100 == 0, "half": i % 2 == 0} for i in range(n)]
        vectors = raw_vectors(n, DIM)
        data = Records([f"id{i}" for i in range(n)], vectors, metadata)
        collection = self.make(store, load=data, fields={"rare": "bool", "half": "bool"})
        queries = raw_vectors(10, DIM, 8)
        for where, step in ((Eq("rare", True), 100), (Eq("half", True), 2)):
            if operators(where) - store.capabilities.filters:
                continue
            params = SearchParams(ef_search=10) if store.capabilities.ef_search == "query" else SearchParams()
            if self.index.kind != "hnsw":
                params = SearchParams()
            result = collection.search(queries, k=10, where=where, params=params)
            assert [len(set(ids)) for ids in result.ids] == [10] * 10
            assert all(int(i[2:]) % step == 0 for ids in result.ids for i in ids)
            assert all((np.diff(d) >= 0).all() for d in result.distances)
            rows, _ = top_k(queries, vectors[::step], 10, collection.spec.metric)
            near = collection.search(queries, k=10, where=where).ids
            hits = [len({f"id{step * r}" for r in row} & set(got)) for row, got in zip(rows, near, strict=True)]
            assert np.mean(hits) / 10 >= (0.9 if step == 100 else 0.5)

    def test_delete_and_scan_by_filter(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(60, DIM), fields={"n": "int", "word": "str"})
        where = Eq("word", "w1")
        if operators(where) - store.capabilities.filters:
            with pytest.raises(UnsupportedFilter):
                collection.delete(where=where)
            return
        assert sorted(i for b in collection.scan(where=where) for i in b.ids) == sorted(
            f"id{i}" for i in range(1, 60, 5)
        )
        collection.delete(where=where)
        collection.flush()
        assert collection.count() == 48
        assert collection.count(where) == 0

    def test_unclaimed_filters_are_refused(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(5, DIM))
        with pytest.raises(UnsupportedFilter):
            collection.count({"n": {"$gt": 1}})  # type: ignore[arg-type]
        for name, where in (("exists", Exists("n")), ("not", Not(Eq("n", 1))), ("contains", Contains("tags", "t0"))):
            if name not in store.capabilities.filters:
                with pytest.raises(UnsupportedFilter):
                    collection.search(raw_vectors(1, DIM), where=where)
