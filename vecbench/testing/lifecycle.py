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
from vecbench.filters import F
from vecbench.index import HNSW, Flat, Index, IVFFlat, NativeIndex
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base, usual_metric
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

    def test_a_handle_does_not_outlive_its_collection(self, store: VectorStore) -> None:
        """Another that takes the name may have other vectors, of another embedder: nothing is read or written there."""
        old, other = self.make(store, load=records(10, DIM)), store.get_collection("docs")
        store.drop_collection("docs")
        new = self.make(store, load=records(3, DIM))
        for handle in (old, other):
            for use in (
                handle.count,
                lambda handle=handle: handle.get(["id1"]),
                lambda handle=handle: handle.search(raw_vectors(1, DIM), k=1),
                lambda handle=handle: list(handle.scan()),
                lambda handle=handle: handle.upsert(Records(["x"], raw_vectors(1, DIM))),
                lambda handle=handle: handle.delete(ids=["id1"]),
                lambda handle=handle: handle.delete(where=F("n") >= 0),
                handle.flush,
                handle.optimize,
                handle.describe,
            ):
                with pytest.raises(CollectionNotFound, match="docs"):
                    use()
        new.flush()
        assert sorted(id_ for batch in new.scan() for id_ in batch.ids) == ["id0", "id1", "id2"]

    def test_the_spec_is_read_back(self, store: VectorStore) -> None:
        spec = CollectionSpec(
            "s",
            DIM,
            usual_metric(store),
            self.index,
            EmbedderSpec("m", DIM, revision="r1"),
            {"year": "int", "é": "str"},
        )
        store.create_collection(spec)
        assert store.get_collection("s").spec == spec

    def test_exist_ok_demands_the_same(self, store: VectorStore) -> None:
        self.make(store, load=records(3, DIM))
        metric = usual_metric(store)
        same = CollectionSpec("docs", DIM, metric, self.index)
        assert store.create_collection(same, exist_ok=True).count() == 3
        for other in (
            CollectionSpec("docs", DIM + 1, metric, self.index),
            CollectionSpec("docs", DIM, metric, self.index, EmbedderSpec("m", DIM)),
            *(CollectionSpec("docs", DIM, m, self.index) for m in store.capabilities.metrics - {metric}),
        ):
            with pytest.raises(CollectionMismatch):
                store.create_collection(other, exist_ok=True)

    def test_names_are_any_text(self, store: VectorStore) -> None:
        names = sorted({*HOSTILE, "x" * 255, "Case", "case"})
        light = Flat() if "flat" in store.capabilities.indexes else self.index
        for i, name in enumerate(names):
            made = store.create_collection(CollectionSpec(name, 2, usual_metric(store), light if i else self.index))
            made.upsert(Records([f"only-{i}"], raw_vectors(1, 2)))
            made.flush()
        assert store.list_collections() == names
        for i, name in enumerate(names):
            assert list(store.get_collection(name).get([f"only-{i}"]).ids) == [f"only-{i}"]
        for bad in ("", "x" * 256, "a\0"):
            with pytest.raises(ConfigError):
                store.get_collection(bad)

    def test_unclaimed_metrics_and_indexes_are_refused(self, store: VectorStore) -> None:
        for metric in set(Metric) - store.capabilities.metrics:
            with pytest.raises(UnsupportedMetric):
                self.make(store, metric)
        kinds: list[Index] = [Flat(), HNSW(), IVFFlat(), NativeIndex("Flat")]
        for index in kinds:
            if index.kind not in store.capabilities.indexes:
                with pytest.raises(UnsupportedIndex):
                    store.create_collection(CollectionSpec("i", DIM, usual_metric(store), index))
        odd = HNSW(native={"no_such_parameter": 1}) if "hnsw" in store.capabilities.indexes else None
        if odd is not None:
            with pytest.raises(UnsupportedIndex):
                store.create_collection(CollectionSpec("i", DIM, usual_metric(store), odd))
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

    def test_what_was_flushed_survives_closing(self, tmp_path: Path) -> None:
        """Reopened, written to again, and reopened once more."""
        with self.open_store(tmp_path) as store:
            if not store.capabilities.persistent:
                return
            first = self.make(store, load=records(40, DIM))
            first.delete(ids=["id7"])
            first.upsert(Records(["id3"], raw_vectors(1, DIM, 11), [{"round": 1}]))
            first.flush()
            spec = first.spec
        with self.open_store(tmp_path) as store:
            assert store.list_collections() == ["docs"]
            second = store.get_collection("docs")
            assert second.spec == spec
            assert second.count() == 39
            assert second.get(["id3", "id7"]).metadata == [{"round": 1}]
            second.upsert(Records(["id3"], raw_vectors(1, DIM, 12), [{"round": 2}]))
            second.delete(ids=["id8"])
            second.flush()
            self.make(store, name="gone")
            store.drop_collection("gone")
        with self.open_store(tmp_path) as store:
            assert store.list_collections() == ["docs"]
            third = store.get_collection("docs")
            assert third.get(["id3", "id8"]).metadata == [{"round": 2}]
            everything = third.search(raw_vectors(1, DIM), k=100).ids[0]
            assert sorted(everything) == sorted(f"id{i}" for i in range(40) if i not in {7, 8})

    def test_collections_do_not_mix(self, store: VectorStore) -> None:
        """Equal ids in two collections are two records; a second handle sees the same as the first."""
        one, two = self.make(store, name="one", load=records(20, DIM)), self.make(store, name="two")
        two.upsert(Records(["id1"], raw_vectors(1, DIM, 5), [{"two": True}]))
        two.flush()
        assert (one.count(), two.count()) == (20, 1)
        assert two.search(raw_vectors(1, DIM), k=5).ids == [["id1"]]
        two.delete(ids=["id1", "id2"])
        two.flush()
        again = store.get_collection("one")
        assert again.count() == 20
        again.delete(ids=["id2"])
        again.flush()
        assert one.count() == 19
        store.drop_collection("two")
        assert one.count() == 19

    def test_an_unknown_option_is_refused(self, store: VectorStore) -> None:
        with pytest.raises(ConfigError, match="no_such_option"):
            type(store).open(no_such_option=1)

    def test_leaving_the_context_closes(self, tmp_path: Path) -> None:
        with self.open_store(tmp_path) as store:
            collection = self.make(store, load=records(3, DIM))
        with pytest.raises(StoreClosed):
            store.list_collections()
        with pytest.raises(StoreClosed):
            collection.search(raw_vectors(1, DIM))

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
