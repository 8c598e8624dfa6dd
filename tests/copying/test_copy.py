"""A copy is what its source is, on real engines; what cannot be copied is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec, Flat, IVFFlat, Metric, NativeIndex, Records, connect
from vecbench.errors import (
    CollectionExists,
    ConfigError,
    DimensionMismatch,
    StoreError,
    UnsupportedIndex,
    UnsupportedMetric,
)
from vecbench.filters import OPERATORS
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.transfer import copy, plan_copy

from .stores import DIM, FIELDS, Waiting, everything, filled, limited, planted, rows


@pytest.mark.parametrize("metric", Metric)
def test_from_engine_to_engine_and_back(tmp_path: Path, metric: Metric) -> None:
    """faiss → qdrant → memory → faiss: what comes home is what left."""
    with connect("faiss", path=tmp_path / "one") as one:
        source = filled(one, 500, metric)
        before, spec = everything(source), source.spec
        with connect("qdrant", path=tmp_path / "two") as two:
            report = copy(source, two, batch_size=99)
            assert (report.rows, report.written) == (500, 500)
            assert report.verified is not None
            assert (report.verified.rows, report.verified.searches, report.verified.exact) == (500, 20, True)
            assert report.collection.spec == spec
            assert report.collection.describe()["indexed_rows"] == 500
            middle = MemoryStore()
            copy(report.collection, middle)
        with connect("faiss", path=tmp_path / "three") as three:
            copy(middle.get_collection("docs"), three)
        assert everything(source) == before
    with connect("faiss", path=tmp_path / "three") as three:
        home = three.get_collection("docs")
        assert home.spec == spec
        assert home.describe()["indexed_rows"] == 500
        after = everything(home)
        assert [(i, *after[i][1:]) for i in sorted(after)] == [(i, *before[i][1:]) for i in sorted(before)]
        for id_, (bits, _, _) in after.items():
            if metric is Metric.COSINE:  # Qdrant keeps unit vectors there
                was, now = np.frombuffer(before[id_][0], np.float32), np.frombuffer(bits, np.float32)
                np.testing.assert_allclose(now, was, rtol=1e-6)
            else:
                assert bits == before[id_][0]


def test_within_one_store_under_another_name_and_index(tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path) as store:
        source = filled(store, 200)
        report = copy(source, store, "again", index=IVFFlat(nlist=4))
        assert store.list_collections() == ["again", "docs"]
        assert report.collection.spec == replace(source.spec, name="again", index=IVFFlat(nlist=4))
        assert report.collection.describe()["index"]["kind"] == "ivf_flat"
        assert everything(report.collection) == everything(source)
        assert report.verified is not None
        assert report.verified.bits


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 20])
def test_every_size_against_the_batch(n: int) -> None:
    source, there = filled(MemoryStore(), n), MemoryStore()
    report = copy(source, there, batch_size=10)
    assert report.rows == report.written == n
    assert everything(report.collection) == everything(source)


def test_records_without_metadata_and_documents() -> None:
    source = MemoryStore().create_collection(CollectionSpec("bare", DIM))
    vectors = rows(30).vectors
    assert vectors is not None
    source.upsert(Records([str(i) for i in range(30)], vectors))
    with connect("qdrant") as there:
        back = copy(source, there).collection.get(["7"])
    assert (back.metadata, back.documents) == ([{}], [None])


def test_batches_are_cut_by_batch_size_and_by_the_stores_limit() -> None:
    sizes: list[int] = []

    class Counting(MemoryCollection):
        def _upsert(self, records: Records) -> None:
            sizes.append(len(records))
            super()._upsert(records)

    copy(filled(MemoryStore(), 25), planted(Counting), batch_size=10)
    assert sizes == [10, 10, 5]
    sizes.clear()
    copy(filled(MemoryStore(), 25), planted(Counting, max_batch=4), batch_size=10)
    assert sizes == [4, 4, 2, 4, 4, 2, 4, 1]


def test_what_was_written_last_is_flushed_first() -> None:
    source = planted(Waiting).create_collection(CollectionSpec("docs", DIM, Metric.EUCLIDEAN))
    source.upsert(rows(20))
    assert source.count() == 0
    assert copy(source, planted(Waiting)).rows == 20


def test_flushed_on_the_way_as_often_as_asked() -> None:
    class Counting(MemoryCollection):
        flushes = 0

        def _flush(self, timeout: float) -> None:
            self.flushes += 1

    for seconds, least, most in ((0.0, 10, 12), (1000.0, 1, 2)):
        made = copy(filled(MemoryStore(), 100), planted(Counting), batch_size=10, flush_seconds=seconds).collection
        assert isinstance(made, Counting)
        assert least <= made.flushes <= most


def test_progress_names_the_phases_and_ends_with_all() -> None:
    seen: list[tuple[str, int, int]] = []
    copy(filled(MemoryStore(), 25), MemoryStore(), batch_size=10, progress=lambda *step: seen.append(step))
    assert list(dict.fromkeys(phase for phase, _, _ in seen)) == ["copying", "indexing", "verifying"]
    assert [step[1:] for step in seen if step[0] == "copying"] == [(0, 25), (10, 25), (20, 25), (25, 25)]
    assert seen[-1] == ("verifying", 25, 25)


def test_not_verified_when_not_wanted() -> None:
    assert copy(filled(MemoryStore(), 5), MemoryStore(), verify=False).verified is None


# What is refused ------------------------------------------------------------------------------------------------------


def test_onto_itself_is_refused() -> None:
    store = MemoryStore()
    source = filled(store)
    for name in (None, "docs"):
        with pytest.raises(ConfigError, match="onto itself"):
            copy(source, store, name, resume=True)
    assert source.count() == 60


def test_an_existing_collection_is_left_alone() -> None:
    there = MemoryStore()
    filled(there, 3, Metric.COSINE).upsert(Records(["mine"], rows(1).vectors))
    with pytest.raises(CollectionExists, match=r"exists.*--resume"):
        copy(filled(MemoryStore()), there)
    assert there.get_collection("docs").count() == 4


@pytest.mark.parametrize(
    ("can", "index", "error", "said"),
    [
        ({}, None, UnsupportedIndex, r"no hnsw index; it has flat: choose one of them \(index=, --index\)"),
        ({"metrics": frozenset({Metric.DOT})}, Flat(), UnsupportedMetric, "no euclidean distance; it has dot"),
        ({"max_dim": 7}, Flat(), DimensionMismatch, "up to 7 dimensions, these have 8"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    can: dict[str, Any], index: Any, error: type[StoreError], said: str
) -> None:
    source, there = filled(MemoryStore()), limited(**can)
    plan = plan_copy(source, there, index=index)
    assert [type(obstacle) for obstacle in plan.obstacles] == [error]
    with pytest.raises(error, match=said):
        copy(source, there, index=index)
    assert there.list_collections() == []


def test_a_plan_names_every_obstacle_and_loss() -> None:
    there = limited(
        metrics=frozenset({Metric.DOT}),
        indexes=frozenset({"hnsw"}),
        filters=OPERATORS - {"contains", "not"},
        ef_search="collection",
        declared_fields=True,
        max_dim=2,
        max_k=100,
    )
    plan = plan_copy(filled(MemoryStore()), there, "other")
    assert (plan.rows, plan.spec.name, plan.spec.fields) == (60, "other", FIELDS)
    assert [type(obstacle) for obstacle in plan.obstacles] == [UnsupportedMetric, DimensionMismatch]
    assert plan.losses == (
        "vectors come back to float32 rounding, not bit for bit",
        "no filter by contains, not",
        "filters by n, word only: the destination filters by declared fields",
        "no exact search",
        "ef_search cannot be set per query, only for the collection",
        "a search returns at most 100 records",
    )
    assert plan_copy(filled(MemoryStore()), MemoryStore()).losses == ()
    assert there.list_collections() == []


@pytest.mark.parametrize("index", [NativeIndex("PQ4x4"), IVFFlat(nlist=4, native={"niter": 5})])
def test_an_index_in_the_vendors_own_words_goes_to_no_other_vendor(index: Any) -> None:
    with connect("faiss") as here, connect("faiss") as same:
        source = filled(here, 300, index=index)
        there = planted(MemoryCollection, indexes=frozenset({"flat", "ivf_flat", "native"}))
        with pytest.raises(UnsupportedIndex, match=r"faiss's own words .*(PQ4x4|niter)"):
            copy(source, there)
        assert there.list_collections() == []
        assert copy(source, there, index=Flat()).rows == 300
        assert copy(source, same).collection.spec == source.spec


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None])
def test_a_bad_batch_size_is_refused(batch_size: Any) -> None:
    there = MemoryStore()
    with pytest.raises(ConfigError, match="batch_size"):
        copy(filled(MemoryStore()), there, batch_size=batch_size)
    assert there.list_collections() == []


@pytest.mark.parametrize("name", ["", "a\0", "x" * 256])
def test_a_bad_name_is_refused(name: str) -> None:
    there = MemoryStore()
    with pytest.raises(ConfigError, match="name"):
        copy(filled(MemoryStore()), there, name)
    assert there.list_collections() == []
