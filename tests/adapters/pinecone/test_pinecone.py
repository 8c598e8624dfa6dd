"""What is Pinecone's own: collections, ids, limits in bytes; *spec conformance*, not run against the service.

The server is `tests.pinecone_spec`: the published API over loopback, no engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pinecone_spec import Knobs, SpecServer
from tests.pinecone_spec.routes import Project
from tests.pinecone_spec.server import MAX_REQUEST_BYTES, MAX_URL_BYTES
from vecbench.errors import (
    CollectionExists,
    CollectionMismatch,
    CollectionNotFound,
    InvalidMetadata,
    StoreRejected,
    StoreTimeout,
    UnsupportedFilter,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Eq, Gt, In, Not
from vecbench.index import HNSW, Flat, Index, NativeIndex, SearchParams
from vecbench.spec import CollectionSpec, FieldType
from vecbench.types import Metric, Records
from vecbench_pinecone import PineconeStore
from vecbench_pinecone.records import MAX_METADATA_BYTES, metadata_bytes, native_id, own_id, stored_metadata

from .parts import ONE, SERVERLESS, make, random_vectors, some

# Collections ----------------------------------------------------------------------------------------------------------


def test_an_index_that_pinecone_lacks_is_refused(store: PineconeStore, project: Project) -> None:
    wrong: list[Index] = [HNSW(), Flat(), NativeIndex("pod"), NativeIndex("serverless", native={"replicas": 2})]
    for index in wrong:
        with pytest.raises(UnsupportedIndex):
            store.create_collection(CollectionSpec("c", 3, index=index))
    assert project.indexes == {}


def test_where_an_index_lives_is_said_and_read_back(server: SpecServer, key: str) -> None:
    with PineconeStore.open(url=server.url, api_key=key, cloud="gcp", region="us-central1") as store:
        one = make(store, metric=Metric.DOT)
        elsewhere = NativeIndex("serverless", native={"region": "europe-west4", "read_capacity": {"mode": "OnDemand"}})
        two = store.create_collection(CollectionSpec("two", 3, index=elsewhere))
        told = one.describe()
        assert told["index"] == {
            "kind": "native", "name": "serverless", "cloud": "gcp", "region": "us-central1", "metric": "dotproduct",
            "dimension": 4, "read_capacity": "OnDemand",
        }  # fmt: skip
        assert told["rows"] == 0
        assert two.describe()["index"]["region"] == "europe-west4"
        assert store.get_collection("two").spec.index == elsewhere


def test_making_and_dropping_wait_for_the_service(server: SpecServer, key: str, knobs: Knobs, project: Project) -> None:
    with PineconeStore.open(url=server.url, api_key=key, timeout=1.5) as store:
        knobs.until_ready = knobs.until_gone = 3
        make(store).upsert(some(2))
        store.drop_collection("docs")
        assert project.indexes == {}
        knobs.until_ready = 10**6
        with pytest.raises(StoreTimeout, match="not ready"):
            make(store)
        knobs.until_ready, knobs.until_gone = 0, 10**6
        with pytest.raises(StoreTimeout, match="about to go"):
            store.drop_collection("docs")
        assert store.list_collections() == []
        with pytest.raises(CollectionNotFound):
            store.get_collection("docs")
        with pytest.raises(CollectionExists, match="about to go"):
            make(store)


def test_the_spec_lives_in_the_tags(store: PineconeStore, project: Project) -> None:
    fields: dict[str, FieldType] = {f'field {i} "é"': "list[str]" for i in range(100)}
    spec = CollectionSpec("漢" * 85, 3, Metric.COSINE, SERVERLESS, fields=fields)
    store.create_collection(spec)
    assert store.list_collections() == [spec.name]
    assert store.get_collection(spec.name).spec == spec
    rng = np.random.default_rng(0)
    many: dict[str, FieldType] = {rng.bytes(20).hex(): "int" for _ in range(200)}
    with pytest.raises(UnsupportedOperation, match="fewer fields"):
        store.create_collection(CollectionSpec("many", 3, index=SERVERLESS, fields=many))
    ((native, index),) = project.indexes.items()
    assert native.startswith("vecbench-")
    index.described["tags"]["vecbench-spec-00"] = "changed"
    with pytest.raises(CollectionMismatch, match="changed"):
        store.get_collection(spec.name)


def test_other_indexes_are_left_alone(store: PineconeStore, project: Project) -> None:
    for name in ("somebodys", "vecbench-but-not-ours"):
        store.native.indexes.create(name=name, dimension=3, metric="cosine", timeout=-1)
    make(store)
    assert store.list_collections() == ["docs"]
    store.drop_collection("docs")
    assert set(project.indexes) == {"somebodys", "vecbench-but-not-ours"}


def test_dropped_behind_our_back(store: PineconeStore, server: SpecServer, key: str) -> None:
    docs = make(store)
    docs.upsert(some(3))
    with PineconeStore.open(url=server.url, api_key=key) as other:
        other.drop_collection("docs")
    verbs: list[Callable[[], object]] = [
        docs.count, docs.flush, docs.describe, lambda: docs.count(Eq("n", 1)), lambda: docs.upsert(some(1)),
        lambda: docs.get(["a"]), lambda: docs.delete(ids=["a"]), lambda: docs.delete(where=Eq("n", 1)),
        lambda: docs.search(ONE), lambda: docs.search(np.ones((3, 4), np.float32)), lambda: list(docs.scan()),
        lambda: store.get_collection("docs"),
    ]  # fmt: skip
    for verb in verbs:
        with pytest.raises(CollectionNotFound):
            verb()
    assert make(store, dim=5).count() == 0


# Records and their limits ---------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=130)))
def test_every_id_has_one_of_pinecones_and_comes_back(ids: list[str]) -> None:
    class Found:
        def __init__(self, id_: str) -> None:
            self.id, self.metadata = native_id(id_), stored_metadata(id_, None, None)

    for id_ in [*ids, "%23", "%#x", "%nobody", "~", "a b", "a%20b", "é" * 256]:
        found = Found(id_)
        assert found.id.isascii()
        assert found.id.isprintable()
        assert " " not in found.id
        assert 1 <= len(found.id) <= 512
        assert own_id(found) == id_
        assert found.id != "%nobody"
    assert len({native_id(i) for i in ids}) == len(set(ids))


def test_plain_ids_stay_as_they_are() -> None:
    for id_ in ("doc-1", "a/b#c?d=e&f", '"quoted"', "[x]{y}", "x" * 512):
        assert native_id(id_) == id_
    assert unquote(native_id("ü 1")) == "ü 1"


def test_long_ids_are_told_whatever_is_asked_for(store: PineconeStore, server: SpecServer) -> None:
    docs = make(store)
    ids = [f"{i:03}" + "é" * 250 for i in range(150)] + ["x" * 509 + f"{i:03}" for i in range(150)]
    docs.upsert(Records(ids, random_vectors(300)))
    docs.flush()
    for include in ((), ("documents",), ("vectors",)):
        found = docs.search(ONE, k=300, include=include)
        assert sorted(found.ids[0]) == sorted(ids)
    assert docs.get(ids, include=[]).ids == ids
    assert sorted(i for batch in docs.scan(include=[]) for i in batch.ids) == sorted(ids)
    assert max(s.url_bytes for s in server.seen) <= MAX_URL_BYTES


def test_requests_keep_to_the_limit_in_bytes(store: PineconeStore, server: SpecServer) -> None:
    """Whatever the numbers look like in JSON, whatever the texts."""
    docs = make(store, dim=1536)
    vectors = np.full((120, 1536), -1.2345678e-05, np.float32)  # 23 characters each
    texts = ["漢\n\x07" * 300] * 120
    metadata: list[dict[str, Any]] = [{f"field {j}": f"{i} ü" * 20 for j in range(5)} for i in range(120)]
    server.seen.clear()
    docs.upsert(Records([str(i) for i in range(120)], vectors, metadata, texts))
    sizes = [s.body_bytes for s in server.seen if s.path.endswith("upsert")]
    assert max(sizes) <= MAX_REQUEST_BYTES
    assert sum(sizes) / len(sizes) > MAX_REQUEST_BYTES / 3  # and are not cut too small
    assert docs.count() == 120


def test_too_much_metadata_is_refused_before_anything_is_written(store: PineconeStore) -> None:
    docs = make(store)
    room = MAX_METADATA_BYTES - metadata_bytes(stored_metadata("a", {"k": 1}, ""))
    docs.upsert(Records(["a"], ONE, [{"k": 1}], ["x" * room]))  # the server counts the same
    for metadata, text in (({"k": 1}, "x" * (room + 1)), ({"k": "é" * 30_000}, None), ({}, "\n" * 30_000)):
        with pytest.raises(InvalidMetadata, match="row 2"):
            docs.upsert(Records(["b", "c", "d"], random_vectors(3), [{}, {}, metadata], [None, "", text]))
    assert docs.count() == 1
    assert docs.get(["a"]).documents == ["x" * room]


def test_raw_scores_are_the_services_own(store: PineconeStore) -> None:
    vectors = random_vectors(50)
    for metric, distance in (
        (Metric.EUCLIDEAN, np.sqrt), (Metric.COSINE, lambda s: 1 - s), (Metric.DOT, lambda s: -s)
    ):  # fmt: skip
        docs = make(store, metric=metric, name=metric)
        docs.upsert(Records([str(i) for i in range(50)], vectors))
        docs.flush()
        found = docs.search(ONE, k=50)
        assert found.raw is not None
        np.testing.assert_allclose(found.distances[0], distance(found.raw[0]))


def test_search_parameters(store: PineconeStore) -> None:
    docs = make(store)
    docs.upsert(some(5))
    assert (
        len(docs.search(ONE, k=5, params=SearchParams(native={"scan_factor": 2.0, "max_candidates": 99})).ids[0]) == 5
    )
    for params in (
        SearchParams(exact=True), SearchParams(ef_search=5), SearchParams(nprobe=5), SearchParams(native={"x": 1})
    ):  # fmt: skip
        with pytest.raises(UnsupportedOperation):
            docs.search(ONE, params=params)
    with pytest.raises(UnsupportedOperation, match="10000"):
        docs.search(ONE, k=10_001)
    with pytest.raises(UnsupportedFilter, match="10000"):
        docs.count(In("n", list(range(10_001))))
    assert docs.count(In("n", list(range(10_000)))) == 5
    with pytest.raises(StoreRejected, match="scanFactor"):
        docs.search(ONE, params=SearchParams(native={"scan_factor": 77}))


def test_no_request_is_under_way_when_a_search_has_failed(
    store: PineconeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the request of another thread the client would be ended, and its connection stay open."""
    docs = make(store)
    begun, never, ended = threading.Event(), threading.Event(), []

    def query(*, vector: list[float], **_: Any) -> Any:
        if vector[0] == 1:
            assert begun.wait(20)
            raise RuntimeError("refused")
        begun.set()
        never.wait(0.3)
        ended.append(vector)
        raise RuntimeError("too late")

    monkeypatch.setattr(docs.native, "query", query)
    with pytest.raises(StoreRejected, match="refused"):
        docs.search(np.array([[1, 0, 0, 0], [2, 0, 0, 0]], np.float32))
    assert ended == [[2, 0, 0, 0]]


def test_large_answers_come_in_parts(store: PineconeStore) -> None:
    """The documents of 250 records of 20 KB are more than one answer of a query may hold."""
    docs = make(store)
    texts = [f"{i} " + "x" * 20_000 for i in range(250)]
    docs.upsert(Records([f"id{i}" for i in range(250)], random_vectors(250), documents=texts))
    docs.flush()
    found = docs.search(ONE, k=250, include=["documents", "vectors"])
    assert found.records is not None
    rows = [int(i[2:]) for i in found.ids[0]]
    assert sorted(rows) == list(range(250))
    assert found.records[0].documents == [texts[i] for i in rows]
    np.testing.assert_array_equal(found.records[0].vectors, random_vectors(250)[rows])


def test_a_record_deleted_while_it_is_found_is_left_out(store: PineconeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = make(store)
    docs.upsert(some(200))
    fetch = docs._fetch  # type: ignore[attr-defined]  # of this adapter

    def too_late(ids: list[str]) -> Any:
        docs.delete(ids=["id7"])
        return fetch(ids)

    monkeypatch.setattr(docs, "_fetch", too_late)
    found = docs.search(ONE, k=200, include=["metadata"])
    assert found.records is not None
    assert len(found.ids[0]) == len(found.distances[0]) == len(found.records[0]) == 199
    assert "id7" not in found.ids[0]


def test_scanning_goes_from_page_to_page_and_never_in_circles(store: PineconeStore, knobs: Knobs) -> None:
    docs = make(store)
    docs.upsert(some(250))
    assert [len(b) for b in docs.scan()] == [100, 100, 50]
    assert [len(b) for b in docs.scan(where=Not(Eq("half", True)), batch_size=70)] == [70, 55]
    knobs.stuck = True
    with pytest.raises(StoreRejected, match="next"):
        list(docs.scan())


def test_counting_by_a_filter_writes_nothing(store: PineconeStore, project: Project) -> None:
    docs = make(store)
    docs.upsert(some(20))
    (space,) = next(iter(project.indexes.values())).namespaces.values()
    held, writes = dict(space.now), len(space.log)
    assert (docs.count(Gt("n", 4)), docs.count(Eq("n", -1))) == (15, 0)
    assert (space.now, len(space.log)) == (held, writes)


def test_an_index_without_a_record_has_no_namespace(store: PineconeStore) -> None:
    docs = make(store)
    docs.delete(ids=["a"])
    docs.delete(where=Eq("n", 1))
    docs.flush()
    docs.optimize()
    assert (docs.count(), docs.count(Eq("n", 1)), list(docs.scan()), docs.get(["a"]).ids) == (0, 0, [], [])


def test_the_queries_of_a_batch_are_under_way_together(store: PineconeStore, knobs: Knobs) -> None:
    docs = make(store)
    docs.upsert(some(20))
    knobs.latency = 0.2
    started = time.monotonic()
    assert len(docs.search(random_vectors(16), k=3)) == 16
    assert time.monotonic() - started < 1.6  # 3.2 s one after the other
