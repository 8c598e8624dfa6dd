"""Collections come, go, and come back in another process; a closed store says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import (
    CollectionExists,
    CollectionMismatch,
    CollectionNotFound,
    ConfigError,
    StoreClosed,
    UnsupportedIndex,
    UnsupportedMetric,
)
from vecbench.index import HNSW, Flat, Index, IVFFlat, NativeIndex
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base
from vecbench.testing.data import HOSTILE, raw_vectors, records
from vecbench.types import Metric, Records

__all__ = ["LifecycleTests"]

_REOPEN = """
import json, sys
import numpy as np
path, queries = sys.argv[1], np.array(json.loads(sys.argv[2]), np.float32)
with {open_} as store:
    docs = store.get_collection("docs")
    back = docs.get(["id3", "id59"])
    print(json.dumps([docs.spec.to_json(), docs.count(), docs.search(queries, k=5).ids, list(back.metadata)]))
"""


class LifecycleTests(Base):
    def test_create_get_list_drop(self, store: VectorStore) -> None:
        assert store.list_collections() == []
        self.make(store, name="b")
        self.make(store, name="a", dim=3)
        assert store.list_collections() == ["a", "b"]
        with pytest.raises(CollectionExists):
            self.make(store, name="a")
        store.drop_collection("a")
        assert store.list_collections() == ["b"]
        with pytest.raises(CollectionNotFound):
            store.drop_collection("a")
        store.drop_collection("a", missing_ok=True)
        with pytest.raises(CollectionNotFound):
            store.get_collection("a")

    def test_dropped_and_created_again_is_empty(self, store: VectorStore) -> None:
        old = self.make(store, load=records(10, DIM))
        store.drop_collection("docs")
        with pytest.raises(CollectionNotFound):
            old.count()
        new = self.make(store, dim=3)
        assert new.count() == 0
        new.upsert(Records(["a"], raw_vectors(1, 3)))
        new.flush()
        assert new.count() == 1

    def test_the_spec_is_read_back(self, store: VectorStore) -> None:
        spec = CollectionSpec(
            "s", DIM, Metric.EUCLIDEAN, self.index, EmbedderSpec("m", DIM, revision="r1"), {"year": "int", "é": "str"}
        )
        store.create_collection(spec)
        assert store.get_collection("s").spec == spec

    def test_exist_ok_demands_the_same(self, store: VectorStore) -> None:
        self.make(store, load=records(3, DIM))
        same = CollectionSpec("docs", DIM, Metric.EUCLIDEAN, self.index)
        assert store.create_collection(same, exist_ok=True).count() == 3
        for other in (
            CollectionSpec("docs", DIM + 1, Metric.EUCLIDEAN, self.index),
            CollectionSpec("docs", DIM, Metric.COSINE, self.index),
            CollectionSpec("docs", DIM, Metric.EUCLIDEAN, self.index, EmbedderSpec("m", DIM)),
        ):
            if other.metric in store.capabilities.metrics:
                with pytest.raises(CollectionMismatch):
                    store.create_collection(other, exist_ok=True)

    def test_names_are_any_text(self, store: VectorStore) -> None:
        names = sorted({*HOSTILE, "x" * 255, "Case", "case"})
        for i, name in enumerate(names):
            made = store.create_collection(CollectionSpec(name, 2, Metric.EUCLIDEAN, Flat() if i else self.index))
            made.upsert(Records([f"only-{i}"], raw_vectors(1, 2)))
            made.flush()
        assert store.list_collections() == names
        for i, name in enumerate(names):
            assert list(store.get_collection(name).get([f"only-{i}"]).ids) == [f"only-{i}"]
        for bad in ("", "x" * 256, "a\0"):
            with pytest.raises(ConfigError):
                store.get_collection(bad)

    def test_what_is_not_claimed_is_refused(self, store: VectorStore) -> None:
        for metric in set(Metric) - store.capabilities.metrics:
            with pytest.raises(UnsupportedMetric):
                self.make(store, metric)
        kinds: list[Index] = [Flat(), HNSW(), IVFFlat(), NativeIndex("Flat")]
        for index in kinds:
            if index.kind not in store.capabilities.indexes:
                with pytest.raises(UnsupportedIndex):
                    store.create_collection(CollectionSpec("i", DIM, Metric.EUCLIDEAN, index))
        odd = HNSW(native={"no_such_parameter": 1}) if "hnsw" in store.capabilities.indexes else None
        if odd is not None:
            with pytest.raises(UnsupportedIndex):
                store.create_collection(CollectionSpec("i", DIM, Metric.EUCLIDEAN, odd))
        assert store.list_collections() == []

    def test_another_process_finds_everything(self, tmp_path: Path) -> None:
        with self.open_store(tmp_path) as store:
            if not store.capabilities.persistent:
                assert not self.reopen_code, "reopen_code is given, but capabilities do not say persistent"
                return
            collection = self.make(store, load=records(60, DIM))
            collection.delete(ids=["id4"])
            collection.upsert(Records(["id3"], raw_vectors(1, DIM, 11), [{"new": True}]))
            collection.flush()
            queries = raw_vectors(3, DIM, 12)
            expected: list[Any] = [collection.spec.to_json(), 59, collection.search(queries, k=5).ids]
        assert self.reopen_code, "a persistent store's test needs reopen_code"
        code = _REOPEN.replace("{open_}", self.reopen_code)
        done = subprocess.run(  # noqa: S603  the test's own code
            [sys.executable, "-c", code, str(tmp_path), json.dumps(queries.tolist())],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found[:3] == expected
        assert found[3][0] == {"new": True}
        assert found[3][1]["n"] == 59

    def test_a_closed_store_says_so(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(3, DIM))
        store.close()
        store.close()
        verbs = (
            lambda: collection.upsert(records(1, DIM)),
            lambda: collection.get(["id0"]),
            lambda: collection.delete(ids=["id0"]),
            collection.count,
            lambda: collection.search(raw_vectors(1, DIM)),
            lambda: list(collection.scan()),
            collection.flush,
            collection.optimize,
            collection.describe,
            store.list_collections,
            lambda: store.get_collection("docs"),
            lambda: store.drop_collection("docs"),
            lambda: self.make(store, name="late"),
        )
        for verb in verbs:
            with pytest.raises(StoreClosed):
                verb()

    def test_describe_is_plain_json(self, store: VectorStore) -> None:
        told = self.make(store, load=records(300, DIM)).describe()
        assert json.loads(json.dumps(told)) == told
        assert store.info.label
        assert store.info.engine_version
