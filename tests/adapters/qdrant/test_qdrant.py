"""What is Qdrant's own: the graph, typed filter keys, durability, one holder of a directory, errors without secrets."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters.kill_9 import last_number
from tests.adapters.random_filters import BOUNDS, FIELDS, random_filter, random_metadata
from tests.adapters.said import said
from tests.adapters.vectors import clustered, recalled
from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    StoreError,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Eq, Lt, matches
from vecbench.index import HNSW, Flat, SearchParams
from vecbench.services.engine import free_ports
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_qdrant import QdrantStore


@pytest.fixture(params=["edge", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[QdrantStore]:
    with QdrantStore.open(mode=request.param) as opened:
        yield opened


def test_every_filter_selects_what_the_reference_selects(store: QdrantStore) -> None:
    rng = random.Random(7)  # noqa: S311  repeatable
    metadata = [*random_metadata(rng, 200), {}]
    ids = [f"id {i}" for i in range(len(metadata))]
    declared = CollectionSpec("c", 4, fields={FIELDS[0]: "float", FIELDS[1]: "str", FIELDS[2]: "list[str]"})
    collection = store.create_collection(declared)
    collection.upsert(Records(ids, clustered(len(ids), 4), metadata))
    collection.optimize()
    for where in [*BOUNDS, *(random_filter(rng) for _ in range(300))]:
        expected = {i for i, m in zip(ids, metadata, strict=True) if matches(where, m)}
        assert collection.count(where) == len(expected), where
        found = collection.search(np.ones(4, np.float32), len(ids), where=where)
        assert set(found.ids[0]) == expected, where
    for id_, held, given in zip(ids, collection.get(ids).metadata or [], metadata, strict=True):
        assert repr(held) == repr(given), id_  # repr tells 1 from 1.0 and True


@pytest.mark.parametrize("metric", list(Metric))
def test_optimize_builds_a_graph_that_search_uses_and_exact_goes_around(metric: Metric) -> None:
    vectors, queries = clustered(5000, 64), clustered(100, 64, seed=1)
    rows, truth = top_k(queries, vectors, 10, metric)
    with QdrantStore.open() as store:
        collection = store.create_collection(CollectionSpec("c", 64, metric, HNSW(m=8, ef_construction=32)))
        collection.upsert(Records([str(i) for i in range(5000)], vectors))
        assert recalled(collection, queries, rows, ef_search=10) == 1.0  # not built yet: searched exhaustively
        collection.optimize()
        said = collection.describe()
        assert said["indexed_rows"] == 5000
        assert (said["index"]["m"], said["index"]["ef_construct"]) == (8, 32)
        few, many = (recalled(collection, queries, rows, ef_search=ef) for ef in (10, 400))
        assert few < many
        assert few < 1.0
        assert recalled(collection, queries, rows, exact=True) == 1.0
        np.testing.assert_allclose(
            collection.search(queries, 10, params=SearchParams(exact=True)).distances, truth, rtol=1e-5, atol=2e-6
        )


def test_a_flat_collection_stays_exact_after_optimize() -> None:
    vectors, queries = clustered(3000, 32), clustered(50, 32, seed=1)
    with QdrantStore.open() as store:
        collection = store.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, Flat()))
        collection.upsert(Records([str(i) for i in range(3000)], vectors))
        collection.optimize()
        rows, _ = top_k(queries, vectors, 10, Metric.EUCLIDEAN)
        assert [[int(i) for i in ids] for ids in collection.search(queries, 10).ids] == rows.tolist()


def test_as_many_matches_as_exist_come_back_from_the_graph() -> None:
    vectors = clustered(5000, 32)
    with QdrantStore.open() as store:
        collection = store.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, fields={"n": "int"}))
        collection.upsert(Records([str(i) for i in range(5000)], vectors, [{"n": i % 100} for i in range(5000)]))
        collection.optimize()
        for where, matching in ((Eq("n", 3), 50), (Lt("n", 60), 3000), (None, 5000)):
            for k in (10, 50):
                assert [len(i) for i in collection.search(vectors[:20], k, where=where).ids] == [min(k, matching)] * 20


def test_cosine_vectors_come_back_with_their_length(store: QdrantStore) -> None:
    vectors = clustered(200, 16) * np.float32(37.5)
    vectors[0] /= np.linalg.norm(vectors[0])
    collection = store.create_collection(CollectionSpec("c", 16, Metric.COSINE))
    ids = [str(i) for i in range(200)]
    collection.upsert(Records(ids, vectors))
    held = collection.get(ids, include=["vectors"]).vectors
    assert held is not None
    np.testing.assert_allclose(held, vectors, rtol=1e-6)
    result = collection.search(vectors[:3], 5)
    truth = np.sort(exact_distances(vectors[:3], vectors, Metric.COSINE), axis=1)[:, :5]
    np.testing.assert_allclose(result.distances, truth, atol=2e-6)


def test_a_directory_reopens_in_another_process(tmp_path: Path) -> None:
    with QdrantStore.open(path=tmp_path) as store:
        collection = store.create_collection(CollectionSpec("näme/../x", 3, Metric.DOT, Flat()))
        collection.upsert(Records(["a"], np.ones((1, 3), np.float32), [{"year": 2024}], ["text"]))
    code = (
        "import sys; from vecbench_qdrant import QdrantStore\n"
        "with QdrantStore.open(path=sys.argv[1]) as s:\n"
        " c = s.get_collection(s.list_collections()[0]); r = c.get(['a'])\n"
        " print(c.spec.to_json()); print(r.metadata, r.documents, r.vectors.tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == [collection.spec.to_json(), "[{'year': 2024}] ['text'] [[1.0, 1.0, 1.0]]"]


def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    with QdrantStore.open(path=tmp_path), pytest.raises(ConnectionFailed, match=str(tmp_path)):
        QdrantStore.open(path=tmp_path)
    QdrantStore.open(path=tmp_path).close()


def test_a_torn_creation_is_cleared_away(tmp_path: Path) -> None:
    with QdrantStore.open(path=tmp_path) as store:
        spec = CollectionSpec("c", 3)
        collection = store.create_collection(spec)
        collection.upsert(Records(["a"], np.ones((1, 3), np.float32)))
    (sidecar,) = tmp_path.glob("c-*/spec.json")
    sidecar.unlink()
    with QdrantStore.open(path=tmp_path) as store:
        assert store.list_collections() == []
        assert store.create_collection(spec).count() == 0


def test_a_dropped_collection_is_gone_for_old_handles_too(tmp_path: Path) -> None:
    with QdrantStore.open(path=tmp_path) as store:
        spec = CollectionSpec("c", 3)
        old = store.create_collection(spec)
        assert store.get_collection("c").native is old.native
        store.drop_collection("c")
        with pytest.raises(CollectionNotFound, match="'c' was dropped"):
            old.count()
        store.create_collection(spec)
        with pytest.raises(CollectionNotFound):
            old.search(np.ones(3, np.float32))
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


def test_a_temporary_store_leaves_nothing() -> None:
    store = QdrantStore.open()
    collection = store.create_collection(CollectionSpec("c", 3))
    folder = Path(store._engine.folder.path)  # type: ignore[attr-defined]  # the embedded engine has one
    assert collection.describe()["disk_bytes"] > 0
    store.close()
    assert not folder.exists()


def test_a_parameter_that_qdrant_lacks_is_refused(store: QdrantStore) -> None:
    for index in (HNSW(native={"alpha": 1}), Flat(native={"m": 4}), HNSW(native={"m": "many"})):
        with pytest.raises(UnsupportedIndex):
            store.create_collection(CollectionSpec("c", 3, index=index))
    assert store.list_collections() == []
    collection = store.create_collection(CollectionSpec("c", 3, index=HNSW(native={"max_indexing_threads": 1})))
    with pytest.raises(UnsupportedOperation, match="acorn"):
        collection.search(np.ones(3, np.float32), params=SearchParams(native={"acorn": True}))


def test_options_are_checked() -> None:
    wrong: list[dict[str, Any]] = [
        {"colour": 1}, {"mode": "server"}, {"mode": "memory", "path": "x"}, {"url": "localhost:6333"},
        {"url": "http://127.0.0.1:1", "path": "x"}, {"mode": "edge", "api_key": "k"},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError):
            QdrantStore.open(**options)


@pytest.mark.parametrize("grpc", [None, True])
def test_an_unreachable_server_is_named_and_the_key_is_not(grpc: bool | None) -> None:
    (port,) = free_ports(1)
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        QdrantStore.open(url=f"https://127.0.0.1:{port}", api_key="hush-hush", grpc=grpc, grpc_port=port, timeout=5)
    assert "hush-hush" not in said(caught.value)


def test_a_key_that_is_quoted_back_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no server here whose answer could repeat it."""
    with QdrantStore.open(mode="memory") as store:
        monkeypatch.setattr(store._engine, "secret", "hush-hush")
        with pytest.raises(StoreError) as caught, store._doing(None, "asking"):
            raise ValueError("nobody knows hush-hush")
    assert "hush-hush" not in said(caught.value)


def test_the_imitation_may_not_be_benchmarked() -> None:
    with QdrantStore.open(mode="memory") as store:
        assert not store.info.benchmarkable
        assert "imitation" in store.info.label


WRITER = """
import sys, numpy as np
from vecbench_qdrant import QdrantStore
from vecbench.spec import CollectionSpec
from vecbench.types import Records
store = QdrantStore.open(path=sys.argv[1])
c = store.create_collection(CollectionSpec("c", 8), exist_ok=True)
first = int(sys.argv[2])
rng = np.random.default_rng(first)
for i in range(first, first + 100000, 10):
    c.upsert(Records([str(j) for j in range(i, i + 10)], rng.normal(size=(10, 8)).astype("f4")))
    c.flush()
    print(i + 10, flush=True)
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    rng, start = random.Random(1), 0  # noqa: S311  repeatable
    kept: list[tuple[int, int]] = []
    for _ in range(50):
        acknowledged = last_number(WRITER, tmp_path, start, seconds=rng.uniform(0, 0.3))
        kept.append((start, acknowledged))
        start = acknowledged + 1000
    with QdrantStore.open(path=tmp_path) as store:
        collection = store.get_collection("c")
        wanted = [str(i) for a, b in kept for i in range(a, b)]
        assert collection.get(wanted, include=()).ids == wanted
        assert len(collection.search(np.ones(8, np.float32), 10).ids[0]) == 10
    assert all(b[0] > a[1] for a, b in pairwise(kept))
